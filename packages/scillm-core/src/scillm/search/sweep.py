"""The strategy that tries every arm once, in the order given: the control of every search."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.errors import UsageError
from scillm.records import Outcome, Trial

if TYPE_CHECKING:
    from scillm.records import Json


class Sweep:
    """Tries each of `arms` once. Remembers what is next and what each arm scored.

    `best` is the arm with the highest score; ties go to the arm that was given first; None while
    nothing has scored.
    """

    def __init__(self, arms: Sequence[str], *, seed: int = 0) -> None:
        doubles = sorted({arm for arm in arms if list(arms).count(arm) > 1})
        if doubles:
            raise UsageError(
                f"Arms must be distinct, but {', '.join(doubles)} came more than once."
            )
        self._arms = tuple(arms)
        self._seed = seed
        self._asked = 0
        self._waiting = deque(self._arms)
        self._outcomes: dict[str, Outcome] = {}

    def ask(self) -> Trial | None:
        """The next arm not yet asked for, or None; a withdrawn arm is asked for again."""
        if not self._waiting:
            return None
        trial = Trial(number=self._asked, arm=self._waiting.popleft())
        self._asked += 1
        return trial

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Keep the outcome of `trial`, unless it is withdrawn."""
        if outcome.withdrawn:
            self._waiting.append(trial.arm)
            return
        self._outcomes[trial.arm] = outcome

    def report(self) -> Mapping[str, Json]:
        """`best`, `best_score`, `trials`, `failed` (arms without a score)."""
        told = [(arm, self._outcomes[arm].score) for arm in self._arms if arm in self._outcomes]
        scored = {arm: score for arm, score in told if score is not None}
        best = max(scored, key=lambda arm: scored[arm], default=None)
        return {
            "strategy": "sweep",
            "seed": self._seed,
            "trials": len(self._outcomes),
            "failed": len(self._outcomes) - len(scored),
            "best": best,
            "best_score": None if best is None else scored[best],
        }
