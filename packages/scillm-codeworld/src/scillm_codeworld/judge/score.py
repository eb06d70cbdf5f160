"""What the variants of an item are worth: correctness first, then what was measured, then ranks.

- A case is right when every execution of it ended `ok` and gave the expected answer.
- A variant with a case that did not end `ok` scores 0; its status and reason are those of the first
  such case. It is not scored (correctness, aggregate and rank are None) when nothing was expected
  and no scorer given, when the sandbox refused to run it, or when the search never tried it.
- correctness = right cases / cases.
- Where every one of them has its cost in fuel (level wasm), speed goes by fuel, which is exact.
- speed, memory and brevity are measured for fully correct variants only, where they mean something:
  the least time, memory or lines among them divided by their own. Values closer than the measured
  noise are equal. robustness = odd inputs it ended `ok` on / odd inputs.
- Ranks go by ended ok, correctness, then the rule of the judge; equal ones share a rank. So no
  variant outranks one that is right more often, and none that failed outranks one that ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from scillm_codeworld.judge.measures import compared, fuel_of, noise_of, wall_of
from scillm_codeworld.judge.ranking import DIGITS, Merit, aggregate, ranks
from scillm_codeworld.judge.rule import Rule
from scillm_codeworld.plain import difference
from scillm_codeworld.records import (
    NOT_RUN,
    OK,
    SANDBOX_REFUSED,
    SCORE_INVALID,
    Execution,
    Item,
    Judged,
    Trace,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

AGGREGATE = "aggregate"
"""What a scorer may return beside its metrics, to stand for all of them."""


def judged(item: Item, traces: Sequence[Trace], rule: Rule | None = None) -> list[Judged]:
    """The variants of `item` with scores and ranks: best rank first, then by id."""
    rule = Rule() if rule is None else rule
    rows = [_checked(item, trace) for trace in traces]
    if item.gated or item.scoring is not None:
        rows = _ranked(_aggregated(compared(item, rows, traces), rule), rule)
    return sorted(rows, key=lambda row: (row.rank or len(rows) + 1, row.variant.id))


def is_right(execution: Execution, item: Item, case: int) -> str | None:
    """None when the execution gave the expected answer of `case`, else what was wrong."""
    if execution.status != OK:
        return f"{execution.status}: {execution.reason}"
    if item.expected is None:
        return None
    return difference(
        execution.output, item.expected[case], item.tolerance, comparison=item.comparison
    )


def faults_of(item: Item, trace: Trace) -> Sequence[Sequence[str | None]]:
    """Beside each execution why it is not right, or None."""
    if trace.faults is not None:
        return trace.faults
    return [[is_right(run, item, case) for run in runs] for case, runs in enumerate(trace.cases)]


def _checked(item: Item, trace: Trace) -> Judged:
    """Status, reason and correctness."""
    found = faults_of(item, trace)
    faults = [next((fault for fault in runs if fault), None) for runs in found]
    status, reason = _ending(item, trace, faults)
    row = Judged(
        variant=trace.variant,
        status=status,
        reason=reason,
        right=[_right(item, runs, fault) for runs, fault in zip(trace.cases, faults, strict=True)],
        correctness=None,
        custom=trace.custom,
        report_right=_report_right(item, trace),
    )
    if not item.gated:
        return evolve(row, reason=reason or _not_gated(item))
    if status in (SANDBOX_REFUSED, NOT_RUN):
        return row
    correctness = sum(fault is None for fault in faults) / len(faults) if status == OK else 0.0
    return evolve(
        row,
        correctness=correctness,
        wall_s=wall_of(trace),
        noise_s=noise_of(trace),
        fuel=fuel_of(trace),
    )


def _ending(item: Item, trace: Trace, faults: Sequence[str | None]) -> tuple[str, str]:
    if all(runs[0].status == NOT_RUN for runs in trace.cases):
        return NOT_RUN, trace.cases[0][0].reason
    failed = first_failure(trace)
    if failed is not None:
        case, execution = failed
        where = f"case {case + 1} of {len(trace.cases)}: " if len(trace.cases) > 1 else ""
        return execution.status, where + execution.reason
    if trace.score_problem:
        return SCORE_INVALID, trace.score_problem
    return OK, _wrong(trace, faults) if item.gated else ""


def _not_gated(item: Item) -> str:
    return "" if item.scoring is not None else "not scored: the item expects no answers"


def _right(item: Item, runs: Sequence[Execution], fault: str | None) -> bool | None:
    if not item.gated or runs[0].status in (NOT_RUN, SANDBOX_REFUSED):
        return None
    return fault is None


def _report_right(item: Item, trace: Trace) -> int | None:
    if not trace.report or not item.gated:
        return None
    return sum(fault is None for fault in trace.report_faults)


def first_failure(trace: Trace) -> tuple[int, Execution] | None:
    """The first case with an execution that did not end ok, and that execution."""
    for case, runs in enumerate(trace.cases):
        for run in runs:
            if run.status not in (OK, NOT_RUN):
                return case, run
    return None


def _wrong(trace: Trace, faults: Sequence[str | None]) -> str:
    """What is wrong with the answers it gave; a case that was not run is not called wrong."""
    ran = [case for case, runs in enumerate(trace.cases) if runs[0].status != NOT_RUN]
    wrong = [case for case in ran if faults[case]]
    if not wrong:
        left = len(faults) - len(ran)
        return f"right as far as it was run: {left} cases were not" if left else ""
    if len(faults) == 1:
        return f"wrong: {faults[0]}"
    whole = "cases" if len(ran) == len(faults) else f"cases that were run, of {len(faults)}"
    told = f"case {wrong[0] + 1}: {faults[wrong[0]]}"
    return f"wrong in {len(wrong)} of {len(ran)} {whole}; {told}"


def metrics_of(row: Judged) -> dict[str, float]:
    """What the judge compares: every metric that was found."""
    found: Mapping[str, float | None] = {
        "robustness": row.robustness,
        "speed": row.speed,
        "memory": row.memory,
        "brevity": row.brevity,
        **row.custom,
    }
    return {name: value for name, value in found.items() if value is not None}


def _merit(row: Judged) -> Merit:
    right = 1.0 if row.correctness is None and row.status == OK else row.correctness or 0.0
    return Merit(gate=(float(row.status == OK), right), metrics=metrics_of(row))


def _aggregated(rows: Iterable[Judged], rule: Rule) -> list[Judged]:
    return [row if _unscored(row) else evolve(row, aggregate=_aggregate(row, rule)) for row in rows]


def _aggregate(row: Judged, rule: Rule) -> float:
    merit = _merit(row)
    if row.status == OK and AGGREGATE in row.custom:
        return round(merit.gate[1] * row.custom[AGGREGATE], DIGITS)
    return aggregate(merit, rule)


def _unscored(row: Judged) -> bool:
    return row.status in (SANDBOX_REFUSED, NOT_RUN)


def _ranked(rows: Sequence[Judged], rule: Rule) -> list[Judged]:
    """Rank 1 is best. Where the scorer gives an aggregate, that is what the weighted rule ranks."""
    merits = {row.variant.id: _merit(row) for row in rows if not _unscored(row)}
    own = {
        row.variant.id: row.aggregate
        for row in rows
        if row.aggregate is not None and AGGREGATE in row.custom
    }
    if own and rule.mode == "weighted":
        rule = Rule(mode="lexicographic", order=(AGGREGATE,))
        merits = {
            name: evolve(merit, metrics={AGGREGATE: own.get(name, 0.0)})
            for name, merit in merits.items()
        }
    found = ranks(merits, rule)
    return [evolve(row, rank=found.get(row.variant.id)) for row in rows]
