"""Racing over test cases: out at the first failure, over at the first full pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import define, field
from scillm.errors import UsageError
from scillm.records import Outcome, Trial

from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.book import Book, at_least, distinct

if TYPE_CHECKING:
    from scillm.records import Json

STOPS = ("first_pass", "all")


@define(kw_only=True)
class Runner:
    """One program in the race. Remembers which cases it was asked, passed and failed."""

    arm: str
    todo: set[int]
    open: set[int] = field(factory=set)
    scores: dict[int, float | None] = field(factory=dict)
    passed: int = 0
    lost: bool = False


class Race:
    """One program after the other, case by case, the cases that have failed most programs first.

    Of cases that failed equally many the later goes first: people write simple ones to begin with.
    `gate`: a program is out at its first case below `pass_score` or without a score. `stop`:
    `first_pass` ends the race when one program has passed every case, `all` runs the others too.
    """

    def __init__(
        self,
        arms: Sequence[str],
        *,
        seed: int = 0,
        rollouts: int = 1_000_000,
        cases: int = 1,
        pass_score: float = 1.0,
        gate: bool = True,
        stop: str = "first_pass",
    ) -> None:
        at_least(1, rollouts=rollouts, cases=cases)
        if stop not in STOPS:
            raise UsageError(f"stop must be one of {', '.join(STOPS)}, but is {stop!r}.")
        self._given = distinct(arms)
        self._seed, self._cases, self._gate, self._stop = seed, cases, gate, stop
        self._pass_score = pass_score
        self._book: Book[None] = Book(rollouts=rollouts)
        self._runners = {arm: Runner(arm=arm, todo=set(range(cases))) for arm in arms}
        self._order = draws.order(self._given, seed, "arms")
        self._kills = [0] * cases

    def ask(self) -> Trial | None:
        """The next case of the program in front, or of the next one while that one's are out."""
        if not self._book.has_room() or (self._stop == "first_pass" and self._winners()):
            return None
        for arm in self._order:
            runner = self._runners[arm]
            if runner.todo and not runner.lost:
                case = min(runner.todo, key=lambda case: (-self._kills[case], -case))
                runner.todo.remove(case)
                runner.open.add(case)
                return self._book.begin(self._trial(arm, case), None)
        return None

    def _trial(self, arm: str, case: int) -> Trial:
        if self._cases == 1:
            return Trial(number=self._book.asked, arm=arm)
        return Trial(number=self._book.asked, arm=arm, kind="case", payload={"case": case})

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Count the case; a withdrawn one is run again."""
        self._book.end(trial, outcome)
        runner = self._runners[trial.arm]
        case = 0 if trial.payload is None else trial.payload["case"]
        runner.open.remove(case)
        if outcome.withdrawn:
            runner.todo.add(case)
            return
        runner.scores[case] = outcome.score
        if outcome.score is not None and outcome.score >= self._pass_score:
            runner.passed += 1
            return
        self._kills[case] += 1
        runner.lost = runner.lost or self._gate

    def _winners(self) -> list[str]:
        return [arm for arm in self._given if self._runners[arm].passed == self._cases]

    def report(self) -> Mapping[str, Json]:
        """`best` (a full pass, else who passed most), `verified`: whether that is a full pass.

        `executions_saved` counts the cases that did not have to be run.
        """
        scored = [
            r for r in self._runners.values() if any(s is not None for s in r.scores.values())
        ]
        best = max(scored, key=lambda runner: (runner.passed, _sum(runner)), default=None)
        ran = sum(len(runner.scores) for runner in self._runners.values())
        return {
            "strategy": "race",
            "seed": self._seed,
            **self._book.to_dict(),
            "best": None if best is None else best.arm,
            "best_score": None if best is None else best.passed / self._cases,
            "verified": best is not None and best.passed == self._cases,
            "ties": [] if best is None else [a for a in self._winners() if a != best.arm],
            "executions_saved": len(self._given) * self._cases - ran,
            "arms": {
                runner.arm: {
                    "passed": runner.passed,
                    "ran": len(runner.scores),
                    "lost": runner.lost,
                }
                for runner in self._runners.values()
            },
        }


def _sum(runner: Runner) -> float:
    return sum(score for score in runner.scores.values() if score is not None)
