"""What tactic mode says, in the words of leanprover-community's REPL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_certainly.dialogue.lean import reading
from scillm_certainly.dialogue.states import OPEN

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_certainly.dialogue.desk import Desk, Told
    from scillm_certainly.dialogue.options import Wanted
    from scillm_certainly.dialogue.states import State

NO_GOAL = ("", "no goals")


def numbered(
    rows: Sequence[Mapping[str, Json]], places: Sequence[int], text: str, desk: Desk
) -> list[dict[str, Json]]:
    """The sorries of a reply, each with the number of its goal; `places` are theirs in `text`."""
    return [
        {**row, **_state(desk, text, "sorry", at, row["goal"], told=(row["goal"],))}
        for at, row in zip(places, rows, strict=True)
    ]


async def goals_in(
    text: str, wanted: Wanted, desk: Desk, *, after_line: int
) -> dict[str, list[dict[str, Json]]]:
    """`roots` and `tactics` of what stands after a line, as far as they are wanted."""
    if not (wanted.roots or wanted.tactics):
        return {"roots": [], "tactics": []}
    seen = await desk.look(text)
    with reading():
        roots = _after(seen["roots"], after_line) if wanted.roots else []
        tactics = _after(seen["tactics"], after_line) if wanted.tactics else []
        return {
            "roots": [_root(row, at, text, desk, after_line) for at, row in roots],
            "tactics": [_tactic(row, at, text, desk, after_line) for at, row in tactics],
        }


def _root(
    row: Mapping[str, Json], at: int, text: str, desk: Desk, after_line: int
) -> dict[str, Json]:
    goal = row["goal"].strip()
    return {
        "pos": _moved(row["pos"], after_line),
        "endPos": _moved(row["pos"], after_line),
        "goal": goal,
        **_state(desk, text, "root", at, goal),
    }


def _tactic(
    row: Mapping[str, Json], at: int, text: str, desk: Desk, after_line: int
) -> dict[str, Json]:
    goals = row["goals"].strip()
    return {
        "pos": _moved(row["pos"], after_line),
        "endPos": _moved(row["endPos"] or row["pos"], after_line),
        "goals": goals,
        "tactic": row["tactic"],
        "usedConstants": row["usedConstants"],
        **_state(desk, text, "tactic", at, goals),
    }


def reply_to_step(told: Told) -> dict[str, Json]:
    """The reply to a tactic; empty lists are left out, as the REPL does."""
    messages = [
        {
            "severity": row["severity"],
            "pos": row["pos"],
            **({} if row["endPos"] is None else {"endPos": row["endPos"]}),
            "data": row["data"].strip(),
        }
        for row in told.messages
    ]
    return {
        "proofState": told.number,
        "goals": list(told.goals),
        **({"messages": messages} if messages else {}),
        **({"sorries": list(told.sorries)} if told.sorries else {}),
        **({"traces": list(told.traces)} if told.traces else {}),
        "proofStatus": told.status,
    }


def reply_of_state(number: int, state: State) -> dict[str, Json]:
    """The reply that shows a state as it is."""
    return {
        "proofState": number,
        "goals": list(state.goals or ()),
        "proofStatus": state.status if not state.goals else OPEN,
    }


def _state(
    desk: Desk, text: str, kind: str, index: int, goal: str, *, told: Sequence[str] | None = None
) -> dict[str, Json]:
    if goal in NO_GOAL:
        return {}
    return {"proofState": desk.place(text, kind, index, told)}


def _after(rows: Sequence[Json], line: int) -> list[tuple[int, Json]]:
    """Rows that stand after a line, with their places among all of them."""
    return [(at, row) for at, row in enumerate(rows) if row["pos"] and row["pos"]["line"] > line]


def _moved(position: Mapping[str, Json], lines: int) -> dict[str, Json]:
    return {"line": position["line"] - lines, "column": position["column"]}
