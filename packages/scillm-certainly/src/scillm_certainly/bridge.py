"""The bridge: Certainly over HTTP, in SciLLM's envelope and in Kimina Lean Server's API.

`uvicorn scillm_certainly.bridge:app` serves it with the settings of the environment.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from attrs import evolve
from scillm.errors import ScillmError
from scillm.plugins.settings import load
from scillm.serve.bridge_app import BridgeLimits, bridge_app
from scillm.serve.metrics import Metrics
from scillm.serve.seed_envelopes import CERTAINLY
from scillm.serve.web import BodyLimits

from scillm_certainly.engine import CertainlyEngine
from scillm_certainly.errors import QueueFullError
from scillm_certainly.kimina import OPERATIONS, kimina_routes
from scillm_certainly.pool.resident import Resident, size_of
from scillm_certainly.portfolio.configured import model_of
from scillm_certainly.records import UNAVAILABLE, CheckRequest
from scillm_certainly.settings import SETTINGS, defaults_of

if TYPE_CHECKING:
    from scillm.events import Event
    from scillm.protocols import Engine
    from scillm.records import Job, JobResult, Json
    from scillm.serve.web import Starlette

    from scillm_certainly.pool.pool import Checker
    from scillm_certainly.portfolio.model import Model

LIMITS = BridgeLimits(max_items=5_000, max_concurrency=8, queue=64)
PROBE = "theorem ready (a b : Nat) : a + b = b + a := by omega\n-- {nonce}"
GAUGES = {
    "alive": "Lean processes.",
    "busy": "Lean processes at work.",
    "waiting": "Checks waiting for a Lean.",
    "checks": "Checks done by Lean.",
    "started": "Lean processes started.",
    "recycled": "Lean processes replaced.",
    "cache_hits": "Checks answered from memory.",
    "rss_mb": "Memory of the Lean processes, in megabytes.",
}


def certainly_app(
    settings: Mapping[str, Json] | None = None,
    *,
    checker: Checker | None = None,
    model: Model | None = None,
    limits: BridgeLimits = LIMITS,
    hosts: Sequence[str] = (),
) -> Starlette:
    """The ASGI app. `checker` defaults to this process's pool, which then ends with the server;
    `model` to the settings' one. Raises `UsageError` for settings that cannot be kept.
    """
    values = load(more=SETTINGS) if settings is None else settings
    size_of(values)  # a wrong number is told when the server starts, not by each request
    leans = Resident(values) if checker is None else checker
    asked = model_of(values) if model is None else model
    metrics = Metrics()
    if isinstance(leans, Resident):
        for name, doc in GAUGES.items():
            metrics.gauge(f"scillm_certainly_{name}", doc, partial(_number, leans, name))

    def made(emit: Callable[[Event], None]) -> Engine:
        return _Defaulted(
            CertainlyEngine(leans, emit=emit, model=asked, time_s=limits.max_seconds), values
        )

    routes = kimina_routes(
        leans,
        name=secrets.token_hex(16),
        body=BodyLimits(max_bytes=limits.max_body_bytes, time_s=limits.body_seconds),
        max_items=limits.max_items,
        max_time_s=limits.max_seconds,
    )
    return bridge_app(
        made,
        spec=evolve(CERTAINLY, aliases={**CERTAINLY.aliases, "check_seconds": "check_seconds"}),
        token=values.get("certainly_token"),
        ready=partial(is_ready, leans),
        limits=limits,
        status=status_of,
        hosts=hosts,
        routes=routes,
        operations=OPERATIONS,
        metrics=metrics,
        lifespan=partial(_closing, leans) if checker is None else None,
    )


@asynccontextmanager
async def _closing(leans: Checker, _app: Starlette) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if isinstance(leans, Resident):
            await leans.close()


async def is_ready(leans: Checker) -> Mapping[str, Json]:
    """Whether Lean has just proved something, and refused its opposite."""
    code = PROBE.format(nonce=secrets.token_hex(8))
    try:
        good = await leans.check(CheckRequest(id="ready", code=code, fresh=True))
        wrong = code.replace("a + b = b + a", "a + b = b + a + 1")
        bad = await leans.check(CheckRequest(id="refused", code=wrong, fresh=True))
    except QueueFullError:
        return {"ready": True, "reason": "at work: the queue is full"}
    except ScillmError as error:
        return {"ready": False, "reason": error.message}
    lean = good.lean
    return {
        "ready": good.proved and bad.status == "rejected",
        "true_statement": good.status,
        "false_statement": bad.status,
        "reason": good.reason,
        "lean": None if lean is None else {"version": lean.version, "backend": lean.backend},
    }


def status_of(result: JobResult) -> int:
    """503 when no item could be checked for want of a Lean; a mixed answer is 200."""
    statuses = [row["status"] for row in result.results]
    return 503 if statuses and all(row == UNAVAILABLE for row in statuses) else 200


def _number(leans: Resident, name: str) -> float:
    return float(leans.numbers().get(name, 0))


class _Defaulted:
    """An engine with the settings' policy where a job says nothing."""

    def __init__(self, inner: Engine, settings: Mapping[str, Json]) -> None:
        self._inner = inner
        self._options = defaults_of(settings)

    async def run(self, job: Job, /) -> JobResult:
        return await self._inner.run(evolve(job, options={**self._options, **job.options}))


def __getattr__(name: str) -> Starlette:
    if name == "app":
        return certainly_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
