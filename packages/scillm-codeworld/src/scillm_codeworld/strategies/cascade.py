"""A cascade: all programs on the cheap cases first, and only the promising ones on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.errors import UsageError

from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.book import (
    Book,
    Tally,
    at_least,
    distinct,
    findings,
    scale_of,
)
from scillm_codeworld.strategies.pulls import Pulls

if TYPE_CHECKING:
    from scillm.records import Json, Outcome, Trial


class Cascade:
    """Stages of cases, and the mean score that lets a program into the next stage.

    `stages` are the numbers of cases of each stage, in the order of the cases (default: one case,
    then the rest); `thresholds` has one score for each stage but the last (default 0.5). Remembers
    who is in which stage. A stage ends when all its cases are told.
    """

    def __init__(
        self,
        arms: Sequence[str],
        *,
        seed: int = 0,
        rollouts: int = 1_000_000,
        cases: int = 1,
        stages: Sequence[int] | None = None,
        thresholds: Sequence[float] | None = None,
        bounds: Sequence[float] | None = None,
    ) -> None:
        at_least(1, rollouts=rollouts, cases=cases)
        self._stages = _stages(cases, stages)
        self._thresholds = _thresholds(len(self._stages), thresholds)
        self._pulls = Pulls(cases=cases)
        self._scale = scale_of(bounds)
        self._book: Book[None] = Book(rollouts=rollouts)
        self._seed = seed
        self._tallies = {arm: Tally() for arm in distinct(arms)}
        self._field = draws.order(list(arms), seed, "arms")
        self._stage, self._goal = 0, self._stages[0]
        self._entered = [len(self._field)]

    def ask(self) -> Trial | None:
        """The next case of this stage, or None while its last cases are out, or at the end."""
        if not self._book.has_room():
            return None
        while True:
            for arm in self._field:
                tally = self._tallies[arm]
                if tally.pulls + tally.pending < self._goal:
                    tally.pending += 1
                    return self._book.begin(self._pulls.trial(self._book.asked, arm), None)
            if self._book.open or self._stage + 1 == len(self._stages):
                return None
            self._promote()

    def _promote(self) -> None:
        bar = self._thresholds[self._stage]
        floor = self._scale.floor
        self._field = [
            arm
            for arm in self._field
            if self._tallies[arm].scored and self._tallies[arm].mean(floor) >= bar
        ]
        self._stage += 1
        self._goal += self._stages[self._stage]
        self._entered.append(len(self._field))

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Count the case; a withdrawn one is run again."""
        self._book.end(trial, outcome)
        tally = self._tallies[trial.arm]
        tally.pending -= 1
        if outcome.withdrawn:
            self._pulls.give_back(trial)
            return
        if outcome.score is not None:
            self._scale.see(outcome.score)
        tally.take(outcome.score)

    def report(self) -> Mapping[str, Json]:
        """As every bandit's; `best` is of those furthest on; `entered` counts each stage's arms."""
        furthest = {arm: self._tallies[arm] for arm in self._tallies if arm in self._field}
        shared = findings(self._book, self._tallies, self._scale, cases=self._pulls.cases)
        ahead = findings(self._book, furthest, self._scale, cases=self._pulls.cases)
        chosen = ahead if ahead["best"] is not None else shared
        kept = {key: chosen[key] for key in ("best", "best_score", "ties")}
        return {
            "strategy": "cascade",
            "seed": self._seed,
            "stages": list(self._stages),
            "entered": list(self._entered),
            **shared,
            **kept,
        }


def _stages(cases: int, stages: Sequence[int] | None) -> list[int]:
    if stages is None:
        return [1, cases - 1] if cases > 1 else [1]
    if not stages or min(stages) < 1 or sum(stages) != cases:
        raise UsageError(
            f"stages are numbers of at least 1 that add up to the {cases} cases, "
            f"but are {list(stages)}."
        )
    return list(stages)


def _thresholds(stages: int, thresholds: Sequence[float] | None) -> list[float]:
    given = [0.5] * (stages - 1) if thresholds is None else list(thresholds)
    if len(given) != stages - 1:
        raise UsageError(
            f"{stages} stages have {stages - 1} thresholds between them, but {len(given)} came."
        )
    return given
