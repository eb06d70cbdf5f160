"""From judged variants to the JSON of a result, and to what a replay must find again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.runs.canonical import digest
from scillm.runs.manifest import finding

from scillm_codeworld.judge.measures import code_lines
from scillm_codeworld.judge.score import faults_of
from scillm_codeworld.record.cases import case_row, level_of
from scillm_codeworld.record.familiar import mcts_stats
from scillm_codeworld.records import (
    OK,
    SANDBOX_REFUSED,
    BadItem,
    Execution,
    Item,
    Judged,
    Trace,
)

if TYPE_CHECKING:
    from scillm.records import Finding, Json

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


def nothing_written(
    item: Item, account: Mapping[str, Json] | None
) -> tuple[dict[str, Json], Finding]:
    """The result of an item for which no program came that could be run, and its finding."""
    why = (account or {}).get("error") or "none of the programs written can be run"
    reason = f"there is no program to run: {why}"
    result = {
        **item_result(item, [], {}, generator=account),
        "status": UNSOLVED,
        "reason": reason,
        "best_reason": reason,
    }
    return result, finding(item.id, {"status": UNSOLVED, "reason": reason})


def item_result(
    item: Item,
    rows: Sequence[Judged],
    traces: Mapping[str, Trace],
    *,
    search: Mapping[str, Json] | None = None,
    opinion: Mapping[str, Json] | None = None,
    generator: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """The result of an item that was run; its variants best first.

    `generator` is the account of what a model wrote for it, if it was asked to.
    """
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
        "report_cases": len(item.report_inputs),
        "noise_floor_s": max(
            (row.noise_s for row in rows if row.noise_s is not None), default=None
        ),
        "search": dict(search or {}),
        "mcts": mcts_stats(search or {}),
        "judge_model": opinion,
        "strategy_generator": None if generator is None else dict(generator),
    }


def _verdict(item: Item, rows: Sequence[Judged]) -> tuple[str, str]:
    if not item.gated and item.scoring is None:
        return NOT_SCORED, "the item expects no answers, so nothing is called correct"
    if any(_passes(item, row) for row in rows):
        return SOLVED, ""
    if rows and all(row.status == SANDBOX_REFUSED for row in rows):
        return SANDBOX_REFUSED, f"no variant could be run: {rows[0].reason}"
    if not item.gated:
        return UNSOLVED, f"the scorer gave none of {len(rows)} variants a score that counts"
    return UNSOLVED, f"none of {len(rows)} variants is right in every case"


def _passes(item: Item, row: Judged) -> bool:
    """Right in every case; where nothing can be right, scored."""
    return row.correctness == 1.0 if item.gated else row.status == OK


def _best(item: Item, rows: Sequence[Judged]) -> dict[str, Json]:
    first = [row for row in rows if row.rank == 1 and (row.correctness or _passes(item, row))]
    if not first:
        why = "no variant is right in any case" if item.gated else "not scored"
        return {"best": None, "best_tied": [], "best_reason": why}
    ids = [row.variant.id for row in first]
    notes = []
    if item.gated and first[0].correctness != 1.0:
        right = sum(bool(case) for case in first[0].right)
        notes.append(f"right in {right} of {len(item.inputs)} cases only")
    if len(ids) > 1:
        notes.append("equally good within the noise; the first by id is named")
    return {"best": ids[0], "best_tied": ids, "best_reason": "; ".join(notes)}


def _variant(item: Item, row: Judged, trace: Trace) -> dict[str, Json]:
    faults = faults_of(item, trace)
    return {
        "id": row.variant.id,
        "status": row.status,
        "reason": row.reason,
        "language": row.variant.language,
        "origin": dict(row.variant.origin),
        "scores": {
            "correctness": row.correctness,
            "robustness": row.robustness,
            "speed": row.speed,
            "memory": row.memory,
            "brevity": row.brevity,
            **row.custom,
        },
        "aggregate": row.aggregate,
        "rank": row.rank,
        "right": sum(bool(case) for case in row.right) if item.gated else None,
        "cases": len(item.inputs),
        "report_right": row.report_right,
        "wall_s": row.wall_s,
        "noise_s": row.noise_s,
        "fuel": row.fuel,
        "max_rss_kb": row.max_rss_kb,
        "lines": code_lines(row.variant.code),
        "code_digest": digest(row.variant.code),
        "isolation": level_of(trace),
        "executions": [
            case_row(item, number, runs, faults[number]) for number, runs in enumerate(trace.cases)
        ],
        "report_executions": [
            case_row(item, number, [run], [fault], inputs=item.report_inputs)
            for number, (run, fault) in enumerate(
                zip(trace.report, trace.report_faults, strict=True)
            )
        ],
        "robustness_executions": [
            {"case": number + 1, "status": run.status, "reason": run.reason}
            for number, run in enumerate(trace.robustness)
        ],
    }


def findings(item: Item, rows: Sequence[Judged], traces: Mapping[str, Trace]) -> list[Finding]:
    """One per variant, without anything that was measured: what must come out again."""
    return [_finding(item, row, traces[row.variant.id]) for row in rows]


def _finding(item: Item, row: Judged, trace: Trace) -> Finding:
    value: dict[str, Json] = {
        "status": row.status,
        "correctness": row.correctness,
        "right": list(row.right),
        "case_statuses": [_worst(runs) for runs in trace.cases],
        "outputs_digest": digest([runs[0].output for runs in trace.cases]),
    }
    if row.fuel is not None:
        value["fuel"] = row.fuel
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
