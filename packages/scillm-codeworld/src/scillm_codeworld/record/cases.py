"""One case of one variant as a result shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scillm.runs.canonical import canonical_json, digest

from scillm_codeworld.records import NOT_RUN, OK, Execution, Item, Trace

if TYPE_CHECKING:
    from scillm.records import Json

KEPT_BYTES = 65_536
HEAD_CHARS = 1_000

NOTHING_RUN = "none: no code was run"


def level_of(trace: Trace) -> str:
    """The isolation level that was observed while the program ran."""
    for runs in trace.cases:
        for run in runs:
            if run.isolation:
                return str(run.isolation.get("level", NOTHING_RUN))
    return NOTHING_RUN


def case_row(
    item: Item,
    number: int,
    runs: Sequence[Execution],
    faults: Sequence[str | None],
    *,
    inputs: Sequence[Json] | None = None,
) -> dict[str, Json]:
    """One case of one variant: its first run, its timing repeats, what was wrong."""
    first = runs[0]
    scored = item.gated
    shown: dict[str, Json] = {
        "case": number + 1,
        "status": first.status,
        "reason": next((fault for fault in faults if fault), first.reason),
        "right": not any(faults) if scored else None,
        "runs": len(runs),
        "wall_s": [run.wall_s for run in runs],
        "load_s": first.load_s,
        "fuel": first.fuel,
        "frames": [dict(frame) for frame in first.frames],
        "stdout": first.stdout,
        "stderr": first.stderr,
        "cpu_s": [run.cpu_s for run in runs],
        "max_rss_kb": [run.max_rss_kb for run in runs],
    }
    if first.status not in (OK, NOT_RUN) or any(faults):
        shown["input"] = _shown_input((item.inputs if inputs is None else inputs)[number])
    if first.status == OK:
        shown |= _output(first.output)
        shown["repeatable"] = all(
            run.status == OK and digest(run.output) == digest(first.output) for run in runs
        )
    return shown


def _shown_input(value: Json) -> Json:
    """The public input of a case that failed, or its head when it is long."""
    text = canonical_json(value)
    return value if len(text) <= HEAD_CHARS else {"head": text[:HEAD_CHARS], "chars": len(text)}


def _output(value: Json) -> dict[str, Json]:
    text = canonical_json(value)
    size = len(text.encode())
    kept: dict[str, Json] = {"output_bytes": size, "output_digest": digest(value)}
    if size <= KEPT_BYTES:
        return {"output": value, **kept}
    return {
        "output_cut": f"longer than {KEPT_BYTES} bytes",
        "output_head": text[:HEAD_CHARS],
    } | kept
