"""What the variants of an item are worth: correctness first, then speed and brevity, then ranks.

- A case is right when every execution of it ended `ok` and gave the expected answer.
- A variant with a case that did not end `ok` scores 0; its status and reason are those of the first
  such case. Without expected answers, or when the sandbox refused to run it, it is not scored:
  correctness, aggregate and rank are None.
- correctness = right cases / cases.
- speed and brevity are measured for fully correct variants only, where they mean something: the
  time of the fastest of them divided by its own, the lines of the shortest divided by its own.
  Times closer than NOISE (or NOISE_S per case) to the fastest of a group count as equal to it.
- aggregate = correctness * (0.7 + 0.2 * speed + 0.1 * brevity).
- Ranks go by ended ok, correctness, aggregate; equal ones share a rank. So no variant outranks one
  that is right more often, and none that failed outranks one that ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from scillm_codeworld.plain import difference
from scillm_codeworld.records import NOT_RUN, OK, SANDBOX_REFUSED, Execution, Item, Judged, Trace

if TYPE_CHECKING:
    from scillm.records import Json

WEIGHTS: Mapping[str, float] = {"correctness": 0.7, "speed": 0.2, "brevity": 0.1}
NOISE = 0.05
NOISE_S = 0.000_5
"""A round trip to a child varies by about this much, whatever it computes."""
DIGITS = 4


def judged(item: Item, traces: Sequence[Trace]) -> list[Judged]:
    """The variants of `item` with scores and ranks: best rank first, then by id."""
    rows = [_checked(item, trace) for trace in traces]
    if item.expected is not None:
        rows = _ranked([_aggregated(row) for row in _compared(rows)])
    return sorted(rows, key=lambda row: (row.rank or len(rows) + 1, row.variant.id))


def is_right(execution: Execution, item: Item, case: int) -> str | None:
    """None when the execution gave the expected answer of `case`, else what was wrong."""
    if execution.status != OK:
        return f"{execution.status}: {execution.reason}"
    if item.expected is None:
        return None
    return difference(execution.output, item.expected[case], item.tolerance)


def _checked(item: Item, trace: Trace) -> Judged:
    """Status, reason and correctness."""
    faults: list[str | None] = []
    for case, runs in enumerate(trace.cases):
        found = [is_right(run, item, case) for run in runs]
        faults.append(next((fault for fault in found if fault), None))
    failed = first_failure(trace)
    if failed is not None:
        case, execution = failed
        where = f"case {case + 1} of {len(trace.cases)}: " if len(trace.cases) > 1 else ""
        status, reason = execution.status, where + execution.reason
    else:
        status, reason = OK, _wrong(faults) if item.expected is not None else ""
    row = Judged(
        variant=trace.variant,
        status=status,
        reason=reason,
        right=[_right(item, runs, fault) for runs, fault in zip(trace.cases, faults, strict=True)],
        correctness=None,
    )
    if item.expected is None:
        return evolve(row, reason=reason or "not scored: the item expects no answers")
    if status == SANDBOX_REFUSED:
        return row
    correctness = sum(fault is None for fault in faults) / len(faults) if status == OK else 0.0
    return evolve(row, correctness=correctness, wall_s=_wall_s(trace))


def _right(item: Item, runs: Sequence[Execution], fault: str | None) -> bool | None:
    if item.expected is None or runs[0].status in (NOT_RUN, SANDBOX_REFUSED):
        return None
    return fault is None


def first_failure(trace: Trace) -> tuple[int, Execution] | None:
    """The first case with an execution that did not end ok, and that execution."""
    for case, runs in enumerate(trace.cases):
        for run in runs:
            if run.status not in (OK, NOT_RUN):
                return case, run
    return None


def _wrong(faults: Sequence[str | None]) -> str:
    wrong = [(case, fault) for case, fault in enumerate(faults) if fault]
    if not wrong:
        return ""
    case, fault = wrong[0]
    if len(faults) == 1:
        return f"wrong: {fault}"
    return f"wrong in {len(wrong)} of {len(faults)} cases; case {case + 1}: {fault}"


def _wall_s(trace: Trace) -> float | None:
    """The sum over the cases of the fastest repeat; the first runs had company and do not count."""
    total = 0.0
    for runs in trace.cases:
        timed = [run.wall_s for run in runs[1:] if run.wall_s is not None]
        if not timed:
            return None
        total += min(timed)
    return total


def _compared(rows: Sequence[Judged]) -> list[Judged]:
    """Speed and brevity of the fully correct ones, relative to the best of them."""
    good = [row for row in rows if row.correctness == 1.0]
    lines = {row.variant.id: code_lines(row.variant.code) for row in good}
    times = {row.variant.id: row.wall_s for row in good if row.wall_s is not None}
    cases = max((len(row.right) for row in good), default=0)
    speeds = relative_speeds(times, floor_s=NOISE_S * cases)
    return [
        evolve(
            row,
            speed=speeds.get(row.variant.id),
            brevity=round(min(lines.values()) / lines[row.variant.id], DIGITS),
        )
        if row.variant.id in lines
        else row
        for row in rows
    ]


def relative_speeds(times: Mapping[str, float], *, floor_s: float) -> dict[str, float]:
    """Fastest time / own time, by id; times within the noise of a group's fastest are its."""
    speeds: dict[str, float] = {}
    fastest = leader = min(times.values(), default=0.0)
    for name, time_s in sorted(times.items(), key=lambda pair: pair[1]):
        if time_s - leader > max(NOISE * leader, floor_s):
            leader = time_s
        speeds[name] = round(fastest / leader, DIGITS) if leader > 0 else 1.0
    return speeds


def code_lines(code: str) -> int:
    """Lines that are not blank; at least 1."""
    return max(1, sum(bool(line.strip()) for line in code.splitlines()))


def _aggregated(row: Judged) -> Judged:
    if row.correctness is None:
        return row
    parts: Mapping[str, float] = {
        "correctness": 1.0,
        "speed": row.speed or 0.0,
        "brevity": row.brevity or 0.0,
    }
    value = row.correctness * sum(weight * parts[name] for name, weight in WEIGHTS.items())
    return evolve(row, aggregate=round(value, DIGITS))


def _merit(row: Judged) -> tuple[Json, ...]:
    return (row.status == OK, row.correctness, row.aggregate)


def _ranked(rows: Sequence[Judged]) -> list[Judged]:
    """Rank 1 is best; as many as share a rank, so many ranks are left out after it."""
    merits = [_merit(row) for row in rows if row.aggregate is not None]
    return [
        row
        if row.aggregate is None
        else evolve(row, rank=1 + sum(other > _merit(row) for other in merits))
        for row in rows
    ]
