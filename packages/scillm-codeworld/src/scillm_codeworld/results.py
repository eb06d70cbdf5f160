"""From judged variants to the JSON of a result, and to what a replay must find again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.runs.canonical import canonical_json, digest
from scillm.runs.manifest import finding

from scillm_codeworld.records import OK, SANDBOX_REFUSED, BadItem, Execution, Item, Judged, Trace
from scillm_codeworld.score import code_lines, is_right

if TYPE_CHECKING:
    from scillm.records import Finding, Json

KEPT_BYTES = 65_536
HEAD_CHARS = 1_000

LEVEL = "L1 limited"
WHY = (
    "resource limits, empty environment, own process group, no new processes, killed at its "
    "deadline or with its parent. Not used: namespaces, seccomp, Landlock. The code has its user's "
    "rights on files, this job's file among them, on other processes of that user, and on the "
    "network; it cannot write into files. Started as root, it is the user nobody with the right to "
    "read every file."
)
NOTHING_RUN = "none: no code was run"

SOLVED = "solved"
UNSOLVED = "unsolved"
NOT_SCORED = "not_scored"
INVALID = "invalid"


def bad_result(bad: BadItem) -> dict[str, Json]:
    """The result of an item that could not be run."""
    return {
        "item_id": bad.id,
        "index": bad.index,
        "status": INVALID,
        "reason": bad.reason,
        "variants": [],
        "best": None,
        "best_tied": [],
        "best_reason": "the item is invalid",
    }


def item_result(item: Item, rows: Sequence[Judged], traces: Mapping[str, Trace]) -> dict[str, Json]:
    """The result of an item that was run; its variants best first."""
    status, reason = _verdict(item, rows)
    return {
        "item_id": item.id,
        "index": item.index,
        "status": status,
        "reason": reason,
        "task": item.task,
        "metadata": item.metadata,
        "cases": len(item.inputs),
        "variants": [_variant(item, row, traces[row.variant.id]) for row in rows],
        **_best(item, rows),
    }


def _verdict(item: Item, rows: Sequence[Judged]) -> tuple[str, str]:
    if item.expected is None:
        return NOT_SCORED, "the item expects no answers, so nothing is called correct"
    if any(row.correctness == 1.0 for row in rows):
        return SOLVED, ""
    if all(row.status == SANDBOX_REFUSED for row in rows):
        return SANDBOX_REFUSED, f"no variant could be run: {rows[0].reason}"
    return UNSOLVED, f"none of {len(rows)} variants is right in every case"


def _best(item: Item, rows: Sequence[Judged]) -> dict[str, Json]:
    first = [row for row in rows if row.rank == 1 and row.correctness]
    if not first:
        why = "no variant is right in any case" if item.expected is not None else "not scored"
        return {"best": None, "best_tied": [], "best_reason": why}
    ids = [row.variant.id for row in first]
    notes = []
    if first[0].correctness != 1.0:
        right = sum(bool(case) for case in first[0].right)
        notes.append(f"right in {right} of {len(item.inputs)} cases only")
    if len(ids) > 1:
        notes.append("equally good within the noise; the first by id is named")
    return {"best": ids[0], "best_tied": ids, "best_reason": "; ".join(notes)}


def _variant(item: Item, row: Judged, trace: Trace) -> dict[str, Json]:
    ran = any(run.isolation for runs in trace.cases for run in runs)
    return {
        "id": row.variant.id,
        "status": row.status,
        "reason": row.reason,
        "scores": {"correctness": row.correctness, "speed": row.speed, "brevity": row.brevity},
        "aggregate": row.aggregate,
        "rank": row.rank,
        "right": sum(bool(case) for case in row.right) if item.expected is not None else None,
        "cases": len(item.inputs),
        "wall_s": row.wall_s,
        "lines": code_lines(row.variant.code),
        "code_digest": digest(row.variant.code),
        "isolation": LEVEL if ran else NOTHING_RUN,
        "executions": [_case(item, number, runs) for number, runs in enumerate(trace.cases)],
    }


def _case(item: Item, number: int, runs: Sequence[Execution]) -> dict[str, Json]:
    first = runs[0]
    faults = [is_right(run, item, number) for run in runs]
    scored = item.expected is not None
    shown: dict[str, Json] = {
        "case": number + 1,
        "status": first.status,
        "reason": next((fault for fault in faults if fault), first.reason),
        "right": not any(faults) if scored else None,
        "runs": len(runs),
        "wall_s": [run.wall_s for run in runs],
        "load_s": first.load_s,
        "stdout": first.stdout,
        "stderr": first.stderr,
    }
    if first.status == OK:
        shown |= _output(first.output)
        shown["repeatable"] = all(
            run.status == OK and digest(run.output) == digest(first.output) for run in runs
        )
    return shown


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


def findings(item: Item, rows: Sequence[Judged], traces: Mapping[str, Trace]) -> list[Finding]:
    """One per variant, without anything that was measured: what must come out again."""
    return [_finding(item, row, traces[row.variant.id]) for row in rows]


def _finding(item: Item, row: Judged, trace: Trace) -> Finding:
    value = {
        "status": row.status,
        "correctness": row.correctness,
        "right": list(row.right),
        "case_statuses": [_worst(runs) for runs in trace.cases],
        "outputs_digest": digest([runs[0].output for runs in trace.cases]),
    }
    return finding(f"{item.id}/{row.variant.id}", value)


def _worst(runs: Sequence[Execution]) -> str:
    return next((run.status for run in runs if run.status != OK), OK)


def bad_finding(bad: BadItem) -> Finding:
    """An invalid item must be invalid again, for the same reason."""
    return finding(bad.id, {"status": INVALID, "reason": bad.reason})


def summary(results: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Counts; `items` = `succeeded` + `failed` + `not_scored`, and `failed` includes `invalid`."""
    kinds = [result["status"] for result in results]
    statuses = [variant["status"] for result in results for variant in result["variants"]]
    return {
        "items": len(results),
        "succeeded": kinds.count(SOLVED),
        "failed": len(kinds) - kinds.count(SOLVED) - kinds.count(NOT_SCORED),
        "not_scored": kinds.count(NOT_SCORED),
        "invalid": kinds.count(INVALID),
        "variants": len(statuses),
        "variant_statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
    }
