"""Certainly as an engine: items in, verdicts out, each as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import evolve
from scillm.errors import UsageError
from scillm.events import Event, ItemFinished
from scillm.fanout import each
from scillm.records import Finding, JobResult
from scillm.runs.canonical import digest

from scillm_certainly.certificate import certificate_of
from scillm_certainly.errors import QueueFullError
from scillm_certainly.items import BadItem, job_seconds, parse_items
from scillm_certainly.portfolio.prover import Prover
from scillm_certainly.records import (
    ENGINE,
    INCONCLUSIVE,
    PROVED,
    REFUTED,
    UNAVAILABLE,
    CheckRequest,
    Policy,
    ProofVerdict,
    Requirement,
)
from scillm_certainly.results import result_of

if TYPE_CHECKING:
    from scillm.records import Job, Json

    from scillm_certainly.pool.pool import Checker
    from scillm_certainly.portfolio.model import Model

WIDTH = 8
"""Items under way at once; the pool decides how many of them Lean works on."""
MARGIN = 0.05
MAX_MARGIN_S = 1.0
"""Kept back from a job's time, so that what was found is told before the caller gives up."""
Asked: TypeAlias = "CheckRequest | Requirement | BadItem"


def silent(_event: Event) -> None:
    """Tell nobody."""


class CertainlyEngine:
    """Checks the items of a job with a `Checker`. An item that is none fails alone.

    `model` may be asked where tactics do not prove a requirement. `time_s` bounds a job that sets
    no `max_seconds` of its own: items that are not done by then are inconclusive.
    """

    def __init__(
        self,
        checker: Checker,
        *,
        emit: Callable[[Event], None] = silent,
        width: int = WIDTH,
        model: Model | None = None,
        time_s: float | None = None,
    ) -> None:
        self._checker = checker
        self._prover = Prover(checker, model=model)
        self._emit = emit
        self._width = width
        self._time_s = time_s

    async def run(self, job: Job, /) -> JobResult:
        """Every item's verdict; `options` are the policy's names for items without their own."""
        requests = parse_items(job.items, job.options)
        try:
            time_s = job_seconds(job.options) or self._time_s
        except UsageError:
            # Each item says so already, and none is checked.
            time_s = None
        verdicts = await self.check_all(requests, time_s=time_s)
        return JobResult(
            summary=summary_of(verdicts),
            results=[result_of(verdict) for verdict in verdicts],
            findings=[finding_of(verdict) for verdict in verdicts],
            environment=environment_of(verdicts),
        )

    async def check_all(
        self,
        requests: Sequence[Asked],
        on_verdict: Callable[[ProofVerdict], None] = lambda _verdict: None,
        *,
        time_s: float | None = None,
    ) -> list[ProofVerdict]:
        """Verdicts in the order of `requests`; `on_verdict` hears each when it is there.

        `time_s` bounds them together.
        """
        done = 0
        until = None
        if time_s is not None:
            until = time.monotonic() + time_s - min(MAX_MARGIN_S, MARGIN * time_s)

        async def one(request: Asked) -> ProofVerdict:
            nonlocal done
            verdict = await self._in_time(request, until)
            done += 1
            on_verdict(verdict)
            self._emit(
                ItemFinished(
                    engine=ENGINE,
                    item_id=verdict.id,
                    done=done,
                    total=len(requests),
                    result=result_of(verdict),
                )
            )
            return verdict

        return await each(one, requests, limit=self._width)

    async def _in_time(self, request: Asked, until: float | None) -> ProofVerdict:
        if until is None or isinstance(request, BadItem):
            return await self._one(request)
        left_s = until - time.monotonic()
        late = ProofVerdict(
            id=request.id,
            status=INCONCLUSIVE,
            reason="the job's max_seconds were over before this item was done",
            limit="timeout",
        )
        if left_s <= 0:
            return late
        policy: Policy = evolve(request.policy, time_s=min(left_s, request.policy.time_s))
        with anyio.move_on_after(left_s):
            return await self._one(evolve(request, policy=policy))
        return late

    async def _one(self, request: Asked) -> ProofVerdict:
        if isinstance(request, BadItem):
            return ProofVerdict(
                id=request.id, status=INCONCLUSIVE, reason=request.reason, limit=request.limit
            )
        try:
            if isinstance(request, Requirement):
                verdict = await self._prover.prove(request)
                return certified(request_behind(request, verdict), verdict)
            return certified(request, await self._checker.check(request))
        except QueueFullError as error:
            return ProofVerdict(
                id=request.id, status=UNAVAILABLE, reason=error.message, limit="busy"
            )


def certified(request: CheckRequest, verdict: ProofVerdict) -> ProofVerdict:
    """The verdict, with its certificate if it is proved."""
    if not verdict.proved:
        return verdict
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return evolve(verdict, certificate=certificate_of(request, verdict, now=now))


def request_behind(requirement: Requirement, verdict: ProofVerdict) -> CheckRequest:
    """What was checked in the name of a requirement."""
    return CheckRequest(
        id=requirement.id,
        code=verdict.formal["code"],
        reference=verdict.formal["reference"],
        policy=requirement.policy,
    )


def summary_of(verdicts: Sequence[ProofVerdict]) -> dict[str, Json]:
    """How many there are of each sort."""
    proved = sum(verdict.status == PROVED for verdict in verdicts)
    failed = sum(verdict.status in REFUTED for verdict in verdicts)
    return {
        "items": len(verdicts),
        "proved": proved,
        "failed": failed,
        "unproved": len(verdicts) - proved - failed,
    }


def finding_of(verdict: ProofVerdict) -> Finding:
    """What a second run must reproduce: the verdict, and what it is about."""
    value: Mapping[str, Json] = {
        "status": verdict.status,
        "limit": verdict.limit,
        "culprits": list(verdict.culprits),
        "theorems": [[row.name, row.statement] for row in verdict.theorems],
        "axioms": list(verdict.axioms),
    }
    return Finding(id=verdict.id, value=value, digest=digest(value))


def environment_of(verdicts: Sequence[ProofVerdict]) -> dict[str, Json]:
    """The Lean that answered, if one did."""
    lean = next((row.lean for row in verdicts if row.lean is not None and row.lean.commit), None)
    if lean is None:
        return {"lean": None}
    return {
        "lean": lean.version,
        "lean_commit": lean.commit,
        "backend": lean.backend,
        "package": lean.package,
    }
