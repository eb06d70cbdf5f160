"""Sequential halving: equal pulls for all, then for the better half, until one is left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_codeworld.strategies.bandits import Flat

if TYPE_CHECKING:
    from scillm.records import Json, Outcome, Trial

    from scillm_codeworld.strategies.book import Tally


class Halving(Flat):
    """Splits `rollouts` evenly over the rounds (Karnin et al. 2013). Remembers who is still in.

    A round ends when all its pulls are told, so a wide search waits there. Arms that failed leave
    before those that scored.
    """

    name = "halving"

    def __init__(
        self,
        arms: Sequence[str],
        *,
        seed: int = 0,
        rollouts: int = 64,
        cases: int | None = 1,
        kind: str = "run",
        bounds: Sequence[float] | None = None,
    ) -> None:
        super().__init__(arms, seed=seed, rollouts=rollouts, cases=cases, kind=kind, bounds=bounds)
        self._field = list(self._order)
        self._rounds = max(1, math.ceil(math.log2(max(len(arms), 1))))
        self._kept = [len(self._field)]
        self._start_round()

    def _start_round(self) -> None:
        share = self._book.rollouts // (self._rounds * max(len(self._field), 1))
        self._due = dict.fromkeys(self._field, float(max(1, share)))
        for arm in self._field:
            self._due[arm] = min(self._due[arm], self._pulls.left(arm))

    def ask(self) -> Trial | None:
        """The next pull of this round, or None while its last pulls are out, or at the end."""
        if not self._book.has_room():
            return None
        while not any(self._due.values()):
            if self._book.open or len(self._field) <= 1:
                return None
            self._halve()
            self._start_round()
        trial = super().ask()
        assert trial is not None  # something is due, and there is room for it
        self._due[trial.arm] -= 1
        return trial

    def _choose(self, live: Sequence[str]) -> str:
        return max(live, key=lambda arm: self._due.get(arm, 0.0))

    def _halve(self) -> None:
        def worth(arm: str) -> tuple[bool, float]:
            tally: Tally = self._tallies[arm]
            return tally.failed == 0, tally.mean(self._scale.floor)

        # A stable sort: the seeded order of the field decides between equals.
        self._field.sort(key=worth, reverse=True)
        del self._field[math.ceil(len(self._field) / 2) :]
        self._kept.append(len(self._field))

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Count the pull; a withdrawn one is due again."""
        super().tell(trial, outcome)
        if outcome.withdrawn:
            self._due[trial.arm] += 1

    def report(self) -> Mapping[str, Json]:
        """As every bandit's, with the number of arms `kept` in each round."""
        return {**super().report(), "kept": list(self._kept)}
