"""The strategy that drafts an answer and repairs the best one so far: the default of `solve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from scillm.errors import UsageError
from scillm.records import Outcome, Trial

if TYPE_CHECKING:
    from scillm.records import Json


@frozen(kw_only=True)
class _Known:
    """An arm that was told. `order` is when, so that of equal ones the newest is repaired."""

    arm: str
    score: float | None
    order: int

    @property
    def worth(self) -> tuple[bool, float, int]:
        """A scored arm is worth more than one without a score; then the score, then the newest."""
        return self.score is not None, self.score or 0.0, self.order


class Repair:
    """Tries the given arms, then drafts, then repairs the best so far. Remembers what was told.

    After `patience` repairs in a row that did not better the score, it drafts afresh and repairs
    from there. Without `generate` only the given arms are tried. No luck is involved: `seed` is
    only told in the report.
    """

    def __init__(
        self,
        arms: Sequence[str] = (),
        *,
        seed: int = 0,
        rollouts: int = 64,
        generate: bool = False,
        patience: int = 3,
    ) -> None:
        if rollouts < 1 or patience < 1:
            raise UsageError(
                f"rollouts and patience must be at least 1, but are {rollouts} and {patience}."
            )
        doubles = sorted({arm for arm in arms if list(arms).count(arm) > 1})
        if doubles:
            raise UsageError(
                f"Arms must be distinct, but {', '.join(doubles)} came more than once."
            )
        self._waiting = list(arms)
        self._given = frozenset(arms)
        self._seed, self._rollouts = seed, rollouts
        self._generate, self._patience = generate, patience
        self._asked = self._withdrawn = self._told = self._failed = 0
        self._line: list[_Known] = []
        self._idle = 0
        self._scores: dict[str, float | None] = {}

    def ask(self) -> Trial | None:
        """A given arm, a draft, or a repair; None when the rollouts are used up."""
        if self._asked - self._withdrawn >= self._rollouts:
            return None
        number = self._asked
        if self._waiting:
            self._asked += 1
            return Trial(number=number, arm=self._waiting.pop(0))
        if not self._generate:
            return None
        self._asked += 1
        parent = max(self._line, key=lambda known: known.worth).arm if self._line else None
        name = f"new-{number}"
        while name in self._given:
            name += "'"
        return Trial(number=number, arm=name, new=True, parent=parent, kind="generate")

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Take the arm into the line that is being repaired, or end the line when it got stuck."""
        if outcome.withdrawn:
            self._withdrawn += 1
            if not trial.new:
                self._waiting.append(trial.arm)
            return
        self._told += 1
        self._failed += outcome.score is None
        arm = outcome.arm or trial.arm
        self._scores[arm] = outcome.score
        known = _Known(arm=arm, score=outcome.score, order=self._told)
        before = max((row.worth[:2] for row in self._line), default=None)
        repaired = trial.parent is not None and before is not None
        self._idle = self._idle + 1 if repaired and before and known.worth[:2] <= before else 0
        self._line.append(known)
        if self._idle >= self._patience:
            self._line, self._idle = [], 0

    def report(self) -> Mapping[str, Json]:
        """`best`, `best_score`, `trials`, `failed` (those without a score)."""
        scored = {arm: score for arm, score in self._scores.items() if score is not None}
        best = max(scored, key=lambda arm: scored[arm], default=None)
        return {
            "strategy": "repair",
            "seed": self._seed,
            "trials": self._told,
            "failed": self._failed,
            "best": best,
            "best_score": None if best is None else scored[best],
        }
