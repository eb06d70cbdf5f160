"""What a command of the REPL protocol asks for besides running it. Pure.

Every option that leanprover-community's REPL or LeanInteract's fork knows is answered or refused;
two of them are taken and change nothing, because they are about speed alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen
from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json

KNOWN: Final = (
    "cmd", "path", "env", "allTactics", "rootGoals", "infotree", "declarations", "incrementality",
    "setOptions", "gc",
)  # fmt: skip
SWITCHES: Final = ("allTactics", "rootGoals", "declarations", "incrementality", "gc")
SPEED: Final = ("Elab", "async")
"""The one option that LeanInteract sets by itself: whether Lean may use several threads."""


@frozen(kw_only=True)
class Wanted:
    """What a reply has beside messages and sorries."""

    tactics: bool = False
    roots: bool = False


def wanted(asked: Mapping[str, Json]) -> Wanted:
    """What this command asks for; `UsageError` naming an option that cannot be answered."""
    given = {name: value for name, value in asked.items() if value is not None}
    odd = sorted(name for name in given if name not in KNOWN)
    if odd:
        raise UsageError(f"Unknown key {odd[0]!r} in a command; known are {', '.join(KNOWN)}.")
    for name in SWITCHES:
        if not isinstance(given.get(name, False), bool):
            raise UsageError(f"{name} must be true or false, but is {given[name]!r}.")
    if given.get("declarations"):
        raise UsageError("declarations is not offered; leave it out. Positions are in messages.")
    if "infotree" in given:
        raise UsageError(
            f"infotree ({given['infotree']!r}) is not offered; leave it out. allTactics tells the "
            "goals at every tactic, rootGoals those at the start of every proof."
        )
    _check_options(given.get("setOptions", []))
    return Wanted(tactics=given.get("allTactics", False), roots=given.get("rootGoals", False))


def _check_options(rows: Json) -> None:
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise UsageError('setOptions must be a list such as [[["pp", "all"], true]].')
    for row in rows:
        pair = isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 2
        name = row[0] if pair else None
        if not isinstance(name, Sequence) or isinstance(name, str):
            raise UsageError(f"An option must be [[part, …], value], but is {row!r}.")
        if tuple(name) != SPEED:
            dotted = ".".join(str(part) for part in name)
            raise UsageError(
                f"setOptions takes Elab.async alone; for {dotted}, write `set_option {dotted} …` "
                "in the command."
            )
