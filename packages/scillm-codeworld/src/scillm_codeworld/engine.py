"""The engine: runs every variant of every item, then times the right ones, then judges."""

from __future__ import annotations

import platform
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import evolve
from scillm.errors import UsageError
from scillm.events import Event, ItemFinished
from scillm.records import JobResult, Outcome
from scillm.search import Sweep, search

from scillm_codeworld.items import parse_items
from scillm_codeworld.options import Options, parse_options
from scillm_codeworld.records import (
    ENGINE,
    NOT_RUN,
    OK,
    BadItem,
    Execution,
    Item,
    Program,
    Trace,
    Variant,
)
from scillm_codeworld.results import (
    LEVEL,
    NOTHING_RUN,
    WHY,
    bad_finding,
    bad_result,
    findings,
    item_result,
    summary,
)
from scillm_codeworld.sandbox.execution import execute
from scillm_codeworld.score import first_failure, is_right, judged

if TYPE_CHECKING:
    from scillm.records import Finding, Job, Json, Trial


def _silent(_event: Event) -> None:
    return


class CodeWorldEngine:
    """Runs jobs of the engine `codeworld`. Remembers only whom to tell.

    `job.seed` decides the order in which variants are first run, and nothing else.
    """

    def __init__(self, *, emit: Callable[[Event], None] = _silent) -> None:
        self._emit = emit

    async def run(self, job: Job, /) -> JobResult:
        """Work on every item; a malformed one is reported as invalid, the others are run.

        Raises `UsageError` for another engine's job, unknown options, or no items at all.
        """
        if job.engine != ENGINE:
            raise UsageError(f"This engine runs jobs of {ENGINE!r}, but this is of {job.engine!r}.")
        options = parse_options(job.options)
        if not job.items:
            raise UsageError("The job has no items; give at least one.")
        results: list[Mapping[str, Json]] = []
        found: list[Finding] = []
        isolation: dict[str, Json] = {"level": NOTHING_RUN}
        for item in parse_items(job.items):
            if isinstance(item, BadItem):
                results.append(bad_result(item))
                found.append(bad_finding(item))
            else:
                traces = await self._traces(item, options, seed=job.seed)
                rows = judged(item, list(traces.values()))
                results.append(item_result(item, rows, traces))
                found += findings(item, rows, traces)
                isolation = _observed(traces, isolation)
            self._emit(
                ItemFinished(
                    engine=ENGINE, item_id=item.id, done=len(results), total=len(job.items)
                )
            )
        return JobResult(
            summary=summary(results),
            results=results,
            findings=found,
            environment={
                "isolation": isolation,
                "python": platform.python_version(),
                "options": options.to_dict(),
            },
        )

    async def _traces(self, item: Item, options: Options, *, seed: int) -> dict[str, Trace]:
        """Every variant once, several at a time; then the fully correct ones again, alone."""
        variants = {variant.id: variant for variant in item.variants}
        order = list(variants)
        random.Random(f"{seed}/{item.id}").shuffle(order)  # noqa: S311  (an order, not a secret)
        traces: dict[str, Trace] = {}

        async def evaluate(trial: Trial) -> Outcome:
            trace = await first_runs(item, variants[trial.arm], options)
            traces[trial.arm] = trace
            return outcome(item, trace)

        await search(Sweep(order, seed=seed), evaluate, width=options.width, emit=self._emit)
        for _ in range(options.repeats):
            # Round about, so that a slow spell of the machine does not fall on one variant.
            for name in order:
                if fully_correct(item, traces[name]):
                    traces[name] = await repeated(item, traces[name], options)
        return {name: traces[name] for name in variants}


async def first_runs(item: Item, variant: Variant, options: Options) -> Trace:
    """One run of each case, up to the first that does not end ok: it decides the score already."""
    cases: list[list[Execution]] = []
    program = Program(code=variant.code, entry=item.entry)
    for value in item.inputs:
        if cases and cases[-1][0].status != OK:
            skipped = Execution(status=NOT_RUN, reason="an earlier case did not end ok")
            cases += [[skipped] for _ in range(len(item.inputs) - len(cases))]
            break
        cases.append([await execute(program, value, options.limits)])
    return Trace(variant=variant, cases=cases)


async def repeated(item: Item, trace: Trace, options: Options) -> Trace:
    """One more run of each case, one at a time."""
    program = Program(code=trace.variant.code, entry=item.entry)
    cases = [
        [*runs, await execute(program, value, options.limits)]
        for value, runs in zip(item.inputs, trace.cases, strict=True)
    ]
    return evolve(trace, cases=cases)


def fully_correct(item: Item, trace: Trace) -> bool:
    """Whether every execution so far gave the expected answer."""
    return item.expected is not None and not any(
        is_right(run, item, case) for case, runs in enumerate(trace.cases) for run in runs
    )


def outcome(item: Item, trace: Trace) -> Outcome:
    """What the search is told: the share of right cases, 0 for a failure, None if not scored."""
    failed = first_failure(trace)
    if item.expected is None:
        return Outcome(score=None, reason="the item expects no answers")
    if failed is not None:
        return Outcome(score=0.0, status=failed[1].status, reason=failed[1].reason)
    right = sum(is_right(runs[0], item, case) is None for case, runs in enumerate(trace.cases))
    return Outcome(score=right / len(trace.cases))


def _observed(traces: Mapping[str, Trace], known: dict[str, Json]) -> dict[str, Json]:
    """What the children said they had put on; the same for all of one job."""
    for trace in traces.values():
        for runs in trace.cases:
            if runs[0].isolation:
                return {"level": LEVEL, "why": WHY, "observed": dict(runs[0].isolation)}
    return known
