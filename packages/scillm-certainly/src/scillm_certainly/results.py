"""A verdict as plain JSON, and back as text for a person. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scillm_certainly.records import PROVED, Position, ProofVerdict

if TYPE_CHECKING:
    from scillm.records import Json


def result_of(verdict: ProofVerdict) -> dict[str, Json]:
    """The whole verdict as one JSON object; `proved` is true for status `proved` alone."""
    lean = verdict.lean
    return {
        "item_id": verdict.id,
        "status": verdict.status,
        "proved": verdict.proved,
        "reason": verdict.reason,
        "limit": verdict.limit,
        "culprits": list(verdict.culprits),
        "theorems": [
            {
                "name": row.name,
                "statement": row.statement,
                "type_hash": row.type_hash,
                "axioms": list(row.axioms),
            }
            for row in verdict.theorems
        ],
        "axioms": list(verdict.axioms),
        "axioms_complete": verdict.axioms_complete,
        "replay": verdict.replay,
        "reference": None
        if verdict.judged is None
        else [
            {"name": row.name, "same": row.same, "detail": row.detail}
            for row in verdict.judged.targets
        ],
        "messages": [
            {
                "severity": row.severity,
                "line": row.start.line,
                "column": row.start.column,
                "end": _place(row.end),
                "kind": row.kind,
                "text": row.text,
            }
            for row in verdict.diagnostics
        ],
        "sorries": [{"goal": row.goal, "at": _place(row.start)} for row in verdict.sorries],
        "grade": verdict.grade,
        "caveats": list(verdict.caveats),
        "lean": None
        if lean is None
        else {
            "backend": lean.backend,
            "version": lean.version,
            "commit": lean.commit,
            "package": lean.package,
            "driver": lean.driver,
            "confinement": dict(lean.confinement),
        },
        "formal": dict(verdict.formal) or None,
        "certificate": dict(verdict.certificate) or None,
        "us": dict(verdict.us),
        "wall_s": verdict.wall_s,
        "cached": verdict.cached,
    }


def _place(position: Position | None) -> Json:
    return None if position is None else {"line": position.line, "column": position.column}


def lines_of(verdict: ProofVerdict, *, name: str) -> Sequence[str]:
    """The verdict as a compiler would print it: `file:line:column: error: text`, then one line.

    What the file itself says never begins a line, so it cannot look like a verdict.
    """
    shown = one_line(name)
    lines = [
        f"{shown}:{row.start.line}:{row.start.column}: {row.severity}: {_hung(row.text)}"
        for row in verdict.diagnostics
    ]
    lines += [
        f"{shown}:{gap.start.line}:{gap.start.column}: goal:\n  {_hung(gap.goal)}"
        for gap in verdict.sorries
        if gap.start is not None
    ]
    reason = f": {one_line(verdict.reason)}" if verdict.reason else ""
    lines.append(f"{shown}: {verdict.status}{reason}")
    if verdict.status == PROVED:
        lines += [f"  {row.name} : {_hung(row.statement)}" for row in verdict.theorems]
    return lines


def one_line(text: str) -> str:
    """`text` without what would end its line."""
    return " ".join(text.splitlines())


def _hung(text: str) -> str:
    return "\n  ".join(text.splitlines())
