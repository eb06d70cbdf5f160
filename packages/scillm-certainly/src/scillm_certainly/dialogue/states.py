"""How every state of a proof came to be, by its number. Pure.

A state is kept as what leads to it: a place in a text, and tactics. What Lean itself holds is only
a copy, which it may forget, or lose with its process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeGuard

from attrs import define, evolve, field, frozen
from scillm.errors import UsageError

from scillm_certainly.intake import text_fault

if TYPE_CHECKING:
    from scillm.records import Json

OPEN = "Incomplete: open goals remain"
KINDS: Final = ("sorry", "root", "tactic")


@frozen(kw_only=True)
class Place:
    """A goal in a text: at the sorry, the first goal or the tactic with this index."""

    text: str
    kind: str
    index: int


@frozen(kw_only=True)
class Stepped:
    """What a tactic left of state `parent`; with `sorry`, the goal at that sorry of the tactic."""

    parent: int
    tactic: str
    sorry: int | None = None


@frozen(kw_only=True)
class State:
    """A state as it was told: `goals` are None until Lean was asked for them."""

    origin: Place | Stepped
    goals: Sequence[str] | None = None
    status: str = OPEN


@define
class States:
    """Every state of one conversation. Remembers them by number, and forgets none."""

    rows: list[State] = field(factory=list)

    def add(self, state: State) -> int:
        """The number of a new state."""
        self.rows.append(state)
        return len(self.rows) - 1

    def get(self, number: Json) -> State:
        """The state with this number; `UsageError` in the protocol's own words for any other."""
        if isinstance(number, bool) or not isinstance(number, int):
            raise UsageError("proofState must be a number.")
        if not 0 <= number < len(self.rows):
            raise UsageError("Unknown proof state.")
        return self.rows[number]

    def tell(self, number: int, goals: Sequence[str], status: str) -> None:
        """Note what Lean said of a state that was only a place so far."""
        self.rows[number] = evolve(self.rows[number], goals=tuple(goals), status=status)

    def way_to(self, number: int) -> list[int]:
        """The states on the way from a text to this one, first the one at the text."""
        way = [number]
        while isinstance(origin := self.rows[way[-1]].origin, Stepped):
            way.append(origin.parent)
        return way[::-1]

    def written(self, number: int) -> dict[str, Json]:
        """A state as a document that leads to it anywhere."""
        place, *steps = (self.rows[at].origin for at in self.way_to(number))
        assert isinstance(place, Place)  # every way begins at one
        return {
            "text": place.text,
            "kind": place.kind,
            "index": place.index,
            "steps": [[s.tactic, s.sorry] for s in steps if isinstance(s, Stepped)],
        }

    def read(self, document: Mapping[str, Json]) -> int:
        """The number of a written state; `UsageError` when the document is none."""
        text, kind, index = (document.get(name) for name in ("text", "kind", "index"))
        steps = document.get("steps")
        if (
            not isinstance(text, str)
            or not isinstance(kind, str)
            or kind not in KINDS
            or not _is_index(index)
            or not isinstance(steps, list)
            or not all(_is_step(row) for row in steps)
        ):
            raise UsageError("The document describes no proof state.")
        for what, part in (("text", text), *(("tactic", row[0]) for row in steps)):
            if fault := text_fault(what, part):
                raise UsageError(f"The document's proof state cannot be told to Lean: {fault}.")
        number = self.add(State(origin=Place(text=text, kind=kind, index=index)))
        for tactic, sorry in steps:
            number = self.add(State(origin=Stepped(parent=number, tactic=tactic, sorry=sorry)))
        return number


def _is_index(value: Json) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_step(row: Json) -> bool:
    if not isinstance(row, list) or len(row) != 2:
        return False
    return isinstance(row[0], str) and (row[1] is None or _is_index(row[1]))
