"""The closer look after the search: repeats for the clock, report cases, odd inputs, the scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import define, evolve, field
from scillm.fanout import each
from scillm.runs.canonical import digest

from scillm_codeworld.engine.asking import fault_of, scores_of
from scillm_codeworld.engine.trying import Tried, beside, timed
from scillm_codeworld.judge.measures import repeats_of
from scillm_codeworld.records import NOT_RUN, OK, Execution, Item, Trace, Variant

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codeworld.engine.bench import Bench
    from scillm_codeworld.options import Options

UNTRIED = Execution(status=NOT_RUN, reason="the search did not try it")
LEFT_OUT = Execution(status=NOT_RUN, reason="the search did not ask for this case")


@define(kw_only=True)
class _Look:
    """One distinct program under the closer look. Collects its executions."""

    variants: Sequence[Variant]
    cases: list[list[Tried]]
    """For each case its first run, then its timed repeats, those of the search first."""
    report: list[Execution] = field(factory=list)
    report_faults: list[str | None] = field(factory=list)
    robustness: list[Execution] = field(factory=list)
    custom: Mapping[str, float] = field(factory=dict)
    score_problem: str = ""

    @property
    def ran(self) -> bool:
        """Whether every execution of every case ended ok."""
        return all(row.run.status == OK for runs in self.cases for row in runs)

    @property
    def counted(self) -> bool:
        """Whether its cost is known exactly, so that no clock is needed."""
        return all(runs[0].run.fuel is not None for runs in self.cases)

    @property
    def right(self) -> bool:
        """Whether every execution so far is right."""
        return not any(row.fault for runs in self.cases for row in runs)


async def traces_of(
    item: Item,
    variants: Mapping[str, Sequence[Variant]],
    found: Mapping[str, Sequence[Tried]],
    repeats: Mapping[str, Sequence[Sequence[Tried]]],
    options: Options,
    *,
    bench: Bench,
    commit: Callable[[Mapping[str, Json]], None],
) -> dict[str, Trace]:
    """Every variant's trace by id; programs with the same code share their executions.

    By arm, `found` has the first runs, and `repeats` what a search has timed already: for each
    repeat one run of every case.
    """
    looks = {
        arm: _Look(variants=rows, cases=_runs(item, found[arm], repeats.get(arm, ())))
        for arm, rows in variants.items()
    }

    kept_back = evolve(
        item,
        inputs=item.report_inputs,
        expected=None if item.expected is None else item.report_expected,
    )

    async def aside(look: _Look) -> None:
        one = look.variants[0]
        look.report = await beside(bench, item, one, item.report_inputs, options)
        look.report_faults = [
            await fault_of(bench, kept_back, run, value, number, options.limits)
            for number, (run, value) in enumerate(zip(look.report, item.report_inputs, strict=True))
        ]
        look.robustness = await beside(bench, item, one, item.robustness_inputs, options)

    ran = {arm: look for arm, look in looks.items() if look.ran}
    await each(aside, ran.values(), limit=options.workers)
    for arm, look in ran.items():
        for kind, runs in (("report", look.report), ("robustness", look.robustness)):
            if runs:
                commit({"kind": kind, "arm": arm, "cases": _rows(runs)})
    await _time(bench, item, ran, options)
    for look in ran.values():
        if look.ran and item.scoring is not None:
            look.custom, look.score_problem = await _scored(bench, item, look, options)
    traces = {arm: _trace(look) for arm, look in looks.items()}
    return {
        variant.id: evolve(traces[arm], variant=variant)
        for arm, rows in variants.items()
        for variant in rows
    }


async def _time(bench: Bench, item: Item, looks: Mapping[str, _Look], options: Options) -> None:
    """Up to `repeats` each; round about, lest a slow spell of the machine fall on one program."""
    if not item.gated and item.scoring is None:
        return
    for repeat in range(options.repeats):
        for look in looks.values():
            if look.ran and look.right and not look.counted and len(look.cases[0]) <= repeat + 1:
                more = await timed(bench, item, look.variants[0], options, repeat=repeat)
                for runs, row in zip(look.cases, more, strict=True):
                    runs.append(row)


async def _scored(
    bench: Bench, item: Item, look: _Look, options: Options
) -> tuple[Mapping[str, float], str]:
    """The scorer's word on the first answers and the best times."""
    repeats = repeats_of(_trace(look))
    first = [runs[0].run for runs in look.cases]
    walls = [min(times) for times in repeats if times] if all(repeats) else []
    return await scores_of(
        bench,
        item,
        first,
        options.limits,
        wall_s=walls or [run.wall_s or 0.0 for run in first],
    )


def _runs(
    item: Item, found: Sequence[Tried], repeats: Sequence[Sequence[Tried]]
) -> list[list[Tried]]:
    """One list per case; a case the search did not ask for is there, as not run."""
    known = {row.case: row for row in found}
    missing = LEFT_OUT if known else UNTRIED
    fault = f"{NOT_RUN}: {missing.reason}"
    return [
        [
            known.get(case) or Tried(case=case, run=missing, fault=fault),
            *(repeat[case] for repeat in repeats),
        ]
        for case in range(len(item.inputs))
    ]


def _trace(look: _Look) -> Trace:
    return Trace(
        variant=look.variants[0],
        cases=[[row.run for row in runs] for runs in look.cases],
        faults=[[row.fault for row in runs] for runs in look.cases],
        report=look.report,
        report_faults=look.report_faults,
        robustness=look.robustness,
        custom=look.custom,
        score_problem=look.score_problem,
    )


def _rows(runs: Sequence[Execution]) -> list[Json]:
    return [
        [number, run.status, digest(run.output) if run.status == OK else None]
        for number, run in enumerate(runs)
    ]
