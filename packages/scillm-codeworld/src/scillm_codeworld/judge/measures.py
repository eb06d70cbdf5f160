"""What was measured of an item's variants, and how good it is beside the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve

from scillm_codeworld.judge.noise import NOISE_S, floor_of, relative, slower
from scillm_codeworld.judge.ranking import DIGITS
from scillm_codeworld.records import OK, Item, Judged, Trace


def repeats_of(trace: Trace) -> list[list[float]]:
    """For each case the times of its repeats; the first runs had company and do not count."""
    return [[run.wall_s for run in runs[1:] if run.wall_s is not None] for runs in trace.cases]


def wall_of(trace: Trace) -> float | None:
    """The sum over the cases of the fastest repeat."""
    repeats = repeats_of(trace)
    return sum(map(min, repeats)) if repeats and all(repeats) else None


def fuel_of(trace: Trace) -> int | None:
    """What its cases cost at level wasm; None unless all were run there."""
    found = [runs[0].fuel for runs in trace.cases if runs[0].fuel is not None]
    return sum(found) if found and len(found) == len(trace.cases) else None


def noise_of(trace: Trace) -> float | None:
    """The noise of that sum; None unless timed."""
    return floor_of(repeats_of(trace))


def compared(item: Item, rows: Sequence[Judged], traces: Sequence[Trace]) -> list[Judged]:
    """Speed, memory and brevity of the fully correct ones, relative to the best of them."""
    good = [row for row in rows if full(item, row)]
    by_id = {trace.variant.id: trace for trace in traces}
    lines = {row.variant.id: code_lines(row.variant.code) for row in good}
    times = {row.variant.id: row.wall_s for row in good if row.wall_s is not None}
    fuels = {row.variant.id: float(row.fuel) for row in good if row.fuel is not None}
    floors = {row.variant.id: row.noise_s or 0.0 for row in good}
    sizes = {row.variant.id: _rss_kb(by_id[row.variant.id]) for row in good}
    known = {name: float(size) for name, size in sizes.items() if size is not None}
    # Fuel has no noise: what costs less costs less.
    exact = len(fuels) == len(good)
    if exact:
        speeds = relative(fuels, floors={}, share=0.0)
    else:
        speeds = relative(times, floors=floors, apart=lambda *pair: _apart(by_id, times, *pair))
    memories = relative(known, floors={})
    return [
        evolve(
            row,
            robustness=_robustness(by_id[row.variant.id]),
            speed=speeds.get(row.variant.id),
            memory=memories.get(row.variant.id),
            max_rss_kb=sizes.get(row.variant.id),
            brevity=round(min(lines.values()) / lines[row.variant.id], DIGITS)
            if row.variant.id in lines
            else None,
        )
        for row in rows
    ]


def _apart(traces: Mapping[str, Trace], times: Mapping[str, float], name: str, leader: str) -> bool:
    """Whether the order of the repeats shows a difference that the clock could show."""
    repeats = repeats_of(traces[name])
    seen = times[name] - times[leader] > NOISE_S * len(repeats)
    return seen and slower(repeats, repeats_of(traces[leader]))


def full(item: Item, row: Judged) -> bool:
    """Whether it is right in every case, or ran where nothing can be right."""
    return row.correctness == 1.0 or (not item.gated and row.status == OK)


def _rss_kb(trace: Trace) -> int | None:
    """The most memory any of its executions had."""
    found = [run.max_rss_kb for runs in trace.cases for run in runs if run.max_rss_kb is not None]
    return max(found, default=None)


def _robustness(trace: Trace) -> float | None:
    if not trace.robustness:
        return None
    ended = sum(run.status == OK for run in trace.robustness)
    return round(ended / len(trace.robustness), DIGITS)


def code_lines(code: str) -> int:
    """Lines that are not blank; at least 1."""
    return max(1, sum(bool(line.strip()) for line in code.splitlines()))
