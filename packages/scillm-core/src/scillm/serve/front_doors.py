"""The routes every server has: `/healthz`, `/ready`, `/metrics`, `/openapi.json`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, TypeAlias

import anyio

from scillm.errors import ScillmError
from scillm.serve.problems import problem_of
from scillm.serve.web import Request, Response, Route, json_response, metrics_response

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.serve.guard import Guard
    from scillm.serve.metrics import Metrics

Ready: TypeAlias = "Callable[[], Awaitable[bool | Mapping[str, Json]]]"
"""Asks whether what is behind the server can work: True, False, or an object with `ready`."""

READY_S = 30.0


def front_doors(
    *,
    guard: Guard,
    metrics: Metrics,
    about: Mapping[str, Json],
    openapi: Mapping[str, Json],
    ready: Ready | None,
) -> list[Route]:
    """The routes. `about` is what `/healthz` says beside `ok` and the version."""

    async def healthz(_request: Request) -> Response:
        return json_response({"ok": True, "version": version(), **about})

    async def is_ready(request: Request) -> Response:
        found = {"ready": True} if ready is None else await _asked(ready)
        yes = found.get("ready") is True
        shown = found if guard.knows(request.headers) else {"ready": yes}
        return json_response(shown, status=200 if yes else 503)

    async def numbers(_request: Request) -> Response:
        return metrics_response(metrics)

    async def described(_request: Request) -> Response:
        return json_response(openapi)

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/ready", is_ready, methods=["GET"]),
        Route("/metrics", numbers, methods=["GET"]),
        Route("/openapi.json", described, methods=["GET"]),
    ]


def version() -> str:
    """Of the core."""
    return metadata.version("scillm-core")


async def _asked(ready: Ready) -> dict[str, Json]:
    try:
        with anyio.fail_after(READY_S):
            found = await ready()
    except TimeoutError:
        return {"ready": False, "reason": f"no answer within {READY_S:g} s"}
    except ScillmError as error:
        return {"ready": False, "reason": problem_of(error).message}
    if isinstance(found, Mapping):
        return {"ready": False, **found}
    return {"ready": found}
