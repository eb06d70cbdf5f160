"""The bridge's server: any Engine over HTTP, at once, in the background, or as an event stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from scillm.serve.bridge_handlers import (
    BridgeHandlers,
    BridgeLimits,
    EngineSource,
    waiting_wanted,
)
from scillm.serve.bridge_openapi import bridge_document
from scillm.serve.front_doors import Ready, front_doors, version
from scillm.serve.guard import Guard
from scillm.serve.metrics import Metrics
from scillm.serve.web import Route, Starlette, application

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from scillm.records import JobResult
    from scillm.serve.envelope import EnvelopeSpec
    from scillm.serve.openapi import Operation


def bridge_app(
    engine: EngineSource,
    *,
    spec: EnvelopeSpec,
    token: str | None = None,
    ready: Ready | None = None,
    limits: BridgeLimits | None = None,
    status: Callable[[JobResult], int] | None = None,
    hosts: Sequence[str] = (),
    routes: Sequence[Route] = (),
    operations: Sequence[Operation] = (),
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
    metrics: Metrics | None = None,
) -> Starlette:
    """An ASGI app that serves `engine` at `POST /bridge/complete`.

    `status` chooses the HTTP status of a result (default 200). `routes`, described by
    `operations`, stand beside the bridge's own, behind the same token. `lifespan` runs around the
    server, for what the engine holds open. Without `token` only callers of this machine, and of
    the names `hosts`, are answered.
    """
    bridge = BridgeHandlers(
        engine,
        spec=spec,
        limits=limits or BridgeLimits(),
        status=status or _ok,
        metrics=metrics or Metrics(),
        secrets=(token,) if token else (),
    )
    guard = Guard(token=token, hosts=hosts)
    described = bridge_document(spec, version=version(), secured=bool(token), more=operations)

    @asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        async with bridge.jobs:
            if lifespan is None:
                yield
                return
            async with lifespan(app):
                yield

    return application(
        [
            *front_doors(
                guard=guard,
                metrics=bridge.metrics,
                about={"engine": spec.engine},
                openapi=described,
                ready=ready,
            ),
            Route("/bridge/complete", bridge.complete, methods=["POST"]),
            Route("/bridge/result/{id}", bridge.result, methods=["GET"]),
            Route("/bridge/result/{id}", bridge.cancel, methods=["DELETE"]),
            *routes,
        ],
        guard=guard,
        metrics=bridge.metrics,
        lifespan=living,
    )


def _ok(_result: JobResult) -> int:
    return 200


__all__ = ["BridgeLimits", "EngineSource", "bridge_app", "waiting_wanted"]
