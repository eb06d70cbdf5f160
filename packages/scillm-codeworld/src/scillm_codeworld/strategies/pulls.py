"""What one pull of a fixed arm is: the whole of it, its next test case, or one more measurement."""

from __future__ import annotations

import math

from scillm.errors import UsageError
from scillm.records import Trial

from scillm_codeworld.strategies.book import at_least

KINDS = ("run", "timing")


class Pulls:
    """Hands out the pulls of arms. Remembers which case of which arm comes next.

    `cases` is how many pulls an arm has. Of `run` 1 asks for all of it at once, more ask for one
    case each (`case`, in their order), and None asks for the same noisy run again and again; of
    `timing` each pull is one more measurement, so many at most or without end.
    """

    def __init__(self, *, cases: int | None, kind: str = "run") -> None:
        at_least(1, cases=cases)
        if kind not in KINDS:
            raise UsageError(f"kind must be one of {', '.join(KINDS)}, but is {kind!r}.")
        self.cases = cases
        self.each: float = math.inf if cases is None else cases
        self._kind = kind
        self._next: dict[str, int] = {}
        self._back: dict[str, list[int]] = {}

    def left(self, arm: str) -> float:
        """How many pulls of `arm` were not yet asked for."""
        return self.each - self._next.get(arm, 0) + len(self._back.get(arm, ()))

    def trial(self, number: int, arm: str) -> Trial:
        """The next pull of `arm`."""
        back = self._back.get(arm)
        if back:
            case = min(back)
            back.remove(case)
        else:
            case = self._next.get(arm, 0)
            self._next[arm] = case + 1
        if self.cases is None or self.cases == 1 or self._kind == "timing":
            return Trial(number=number, arm=arm, kind=self._kind)
        return Trial(number=number, arm=arm, kind="case", payload={"case": case})

    def give_back(self, trial: Trial) -> None:
        """The pull of a withdrawn trial can be asked for again."""
        case = trial.payload["case"] if trial.kind == "case" else 0
        self._back.setdefault(trial.arm, []).append(case)
