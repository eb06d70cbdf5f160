"""Given arms and made arms: asking for both, and one identity per content hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from scillm.records import Trial

from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.book import (
    Book,
    Scale,
    Tally,
    at_least,
    distinct,
    findings,
    scale_of,
)

if TYPE_CHECKING:
    from scillm.records import Json, Outcome

Note = TypeVar("Note")


class Family(Generic[Note]):
    """The arms of a search that can make more. Remembers them, and who descends from whom.

    Given arms are asked for in an order drawn from `seed`, each once and whole. A made arm is known
    by the hash that its outcome names, so that the same code twice is one arm.
    """

    def __init__(
        self, arms: Sequence[str], *, seed: int, rollouts: int, bounds: Sequence[float] | None
    ) -> None:
        at_least(1, rollouts=rollouts)
        self.seed = seed
        self.scale: Scale = scale_of(bounds)
        self.book: Book[Note] = Book(rollouts=rollouts)
        self.waiting = draws.order(distinct(arms), seed, "given")
        self.tallies: dict[str, Tally] = {arm: Tally() for arm in arms}
        self.parents: dict[str, list[str | None]] = {}
        self.repeats = 0
        self._made: set[str] = set()

    def ask_given(self, note: Note) -> Trial:
        """The next given arm; `waiting` must not be empty."""
        arm = self.waiting.pop(0)
        self.tallies[arm].pending += 1
        return self.book.begin(Trial(number=self.book.asked, arm=arm), note)

    def ask_new(self, parent: str | None, payload: Json, note: Note) -> Trial:
        """A new arm made from `parent`, or drafted afresh."""
        number = self.book.asked
        name = f"new-{number}"
        while name in self.tallies:
            name += "'"
        trial = Trial(
            number=number, arm=name, new=True, parent=parent, kind="generate", payload=payload
        )
        return self.book.begin(trial, note)

    def settle(self, trial: Trial, outcome: Outcome) -> tuple[Note, str | None]:
        """Close a trial: its note and the arm it was, None when the trial was withdrawn."""
        note = self.book.end(trial, outcome)
        if not trial.new:
            self.tallies[trial.arm].pending -= 1
        if outcome.withdrawn:
            if not trial.new:
                self.waiting.append(trial.arm)
            return note, None
        name = trial.arm if not trial.new or outcome.arm is None else outcome.arm
        if outcome.score is not None:
            self.scale.see(outcome.score)
        tally = self.tallies.setdefault(name, Tally())
        if tally.pulls:
            self.repeats += 1
        tally.take(outcome.score)
        if trial.new:
            self._made.add(name)
            lines = self.parents.setdefault(name, [])
            if trial.parent not in lines:
                lines.append(trial.parent)
        return note, name

    def report(self, strategy: str, **more: Json) -> Mapping[str, Json]:
        """Counts, `best`, tallies, `made` arms, their `parents`, and `repeats` of known ones."""
        return {
            "strategy": strategy,
            "seed": self.seed,
            **more,
            "made": len(self._made),
            "repeats": self.repeats,
            "parents": {name: list(lines) for name, lines in self.parents.items()},
            **findings(self.book, self.tallies, self.scale, cases=1),
        }
