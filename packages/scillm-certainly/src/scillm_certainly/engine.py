"""Certainly as an engine: items in, verdicts out, each as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.events import Event, ItemFinished
from scillm.fanout import each
from scillm.records import Finding, JobResult
from scillm.runs.canonical import digest

from scillm_certainly.errors import QueueFullError
from scillm_certainly.items import BadItem, parse_items
from scillm_certainly.records import (
    ENGINE,
    INCONCLUSIVE,
    PROVED,
    REFUTED,
    UNAVAILABLE,
    CheckRequest,
    ProofVerdict,
)
from scillm_certainly.results import result_of

if TYPE_CHECKING:
    from scillm.records import Job, Json

    from scillm_certainly.pool.pool import Checker

WIDTH = 8
"""Items under way at once; the pool decides how many of them Lean works on."""


def silent(_event: Event) -> None:
    """Tell nobody."""


class CertainlyEngine:
    """Checks the items of a job with a `Checker`. An item that is none fails alone."""

    def __init__(
        self, checker: Checker, *, emit: Callable[[Event], None] = silent, width: int = WIDTH
    ) -> None:
        self._checker = checker
        self._emit = emit
        self._width = width

    async def run(self, job: Job, /) -> JobResult:
        """Every item's verdict; `options` are the policy's names for items without their own."""
        verdicts = await self.check_all(parse_items(job.items, job.options))
        return JobResult(
            summary=summary_of(verdicts),
            results=[result_of(verdict) for verdict in verdicts],
            findings=[finding_of(verdict) for verdict in verdicts],
            environment=environment_of(verdicts),
        )

    async def check_all(
        self,
        requests: Sequence[CheckRequest | BadItem],
        on_verdict: Callable[[ProofVerdict], None] = lambda _verdict: None,
    ) -> list[ProofVerdict]:
        """Verdicts in the order of `requests`; `on_verdict` hears each when it is there."""
        done = 0

        async def one(request: CheckRequest | BadItem) -> ProofVerdict:
            nonlocal done
            verdict = await self._one(request)
            done += 1
            on_verdict(verdict)
            self._emit(
                ItemFinished(engine=ENGINE, item_id=verdict.id, done=done, total=len(requests))
            )
            return verdict

        return await each(one, requests, limit=self._width)

    async def _one(self, request: CheckRequest | BadItem) -> ProofVerdict:
        if isinstance(request, BadItem):
            return ProofVerdict(
                id=request.id, status=INCONCLUSIVE, reason=request.reason, limit=request.limit
            )
        try:
            return await self._checker.check(request)
        except QueueFullError as error:
            return ProofVerdict(
                id=request.id, status=UNAVAILABLE, reason=error.message, limit="busy"
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
