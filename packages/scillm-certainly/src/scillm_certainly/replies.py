"""A verdict in the words of leanprover-community's REPL, for clients that know nothing else. Pure.

Such clients take a reply without errors for a valid proof. So whatever keeps a text from being
proved, and Lean itself does not call an error, is added as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm_certainly.records import (
    INCOMPLETE,
    INCONCLUSIVE,
    MISMATCH,
    UNAVAILABLE,
    UNSOUND,
    Position,
    ProofVerdict,
    Sorry,
)

if TYPE_CHECKING:
    from scillm.records import Json

HARMLESS = ("no_theorem",)
"""An inconclusive text of this kind was accepted by Lean: it only claims nothing."""
SILENT = (UNSOUND, MISMATCH)
FAULTS = ("timeout", "died", "worker", "missing_import", "malformed")
"""Limits of verdicts that Lean had no part in: there is no reply, but a fault."""
START = Position(line=1, column=0)


def fault_of(verdict: ProofVerdict) -> str:
    """Why there is no reply at all, or "" when there is one."""
    if verdict.status == UNAVAILABLE:
        return verdict.reason or UNAVAILABLE
    absent = verdict.status == INCONCLUSIVE and verdict.limit in FAULTS
    # A missing import that Lean reports as one error among others is told as such.
    return verdict.reason if absent and not verdict.diagnostics else ""


def reply_of(verdict: ProofVerdict, *, after_line: int = 0) -> dict[str, Json]:
    """`messages` and `sorries`, left out when empty, of what stands after line `after_line`."""
    messages = [
        {
            "severity": row.severity,
            "pos": _place(row.start, after_line),
            **({} if row.end is None else {"endPos": _place(row.end, after_line)}),
            "data": row.text,
        }
        for row in verdict.diagnostics
        if row.start.line > after_line
    ]
    sorries = [
        {
            "pos": _place(row.start or START, after_line),
            "endPos": _place(row.end or row.start or START, after_line),
            "goal": row.goal,
        }
        for _, row in left_out(verdict, after_line=after_line)
    ]
    told = verdict.status in SILENT or _is_unexplained(verdict)
    if told:
        messages.append(_whole("error", f"certainly: {verdict.status}: {verdict.reason}"))
    if verdict.status == INCOMPLETE and not verdict.sorries:
        # Hidden in a macro, say: no place to show, but a gap all the same.
        start = {"line": 1, "column": 0}
        sorries.append({"pos": start, "endPos": start, "goal": verdict.reason})
    return {
        **({"messages": messages} if messages else {}),
        **({"sorries": sorries} if sorries else {}),
    }


def left_out(verdict: ProofVerdict, *, after_line: int) -> list[tuple[int, Sorry]]:
    """The sorries after a line, with their places among all; one that is nowhere is always told."""
    return [
        (at, row)
        for at, row in enumerate(verdict.sorries)
        if row.start is None or row.start.line > after_line
    ]


def _is_unexplained(verdict: ProofVerdict) -> bool:
    if verdict.status != INCONCLUSIVE or verdict.limit in HARMLESS:
        return False
    return not any(row.severity == "error" for row in verdict.diagnostics)


def _whole(severity: str, text: str) -> dict[str, Json]:
    start = {"line": 1, "column": 0}
    return {"severity": severity, "pos": start, "endPos": start, "data": text}


def _place(position: Position, after_line: int) -> Mapping[str, Json]:
    return {"line": max(1, position.line - after_line), "column": position.column}
