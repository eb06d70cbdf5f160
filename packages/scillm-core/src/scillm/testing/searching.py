"""A search in any order: the state machine that drives two copies of a strategy in step."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from scillm.records import Outcome, Trial
from scillm.testing.answers import check_plain_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set

    from scillm.protocols import Strategy
    from scillm.records import Json

MAX_OUTSTANDING = 8
SEEDS = st.integers(0, 2**32 - 1)


def of_the_suite(knob: str) -> st.SearchStrategy[Any]:
    """What the class attribute `knob` of the running suite generates; a subclass may change it."""
    return st.runner().flatmap(lambda suite: getattr(suite, knob))


def check_best(report: Mapping[str, Json], scored: Set[str]) -> None:
    """Fail unless the report's `best` is one of the arms that scored, or None where none did."""
    assert "best" in report, f"A report has the key `best`; this one has {sorted(report)}."
    best = report["best"]
    assert best is None or best in scored, (
        f"The report says that {best!r} is best, but it never scored; {sorted(scored)} did."
    )


class StrategyMachine(RuleBasedStateMachine):
    """Asks, tells and reports in any order a search can. Remembers what is outstanding.

    Outcomes are told oldest first, as the search loop does. Two copies with one seed go in step.
    """

    make: ClassVar[Callable[..., Strategy]]
    most_trials: ClassVar[int]
    arms: ClassVar[st.SearchStrategy[list[str]]]
    scores: ClassVar[st.SearchStrategy[float | None]]

    @initialize(arms=of_the_suite("arms"), seed=SEEDS)
    def begin(self, arms: list[str], seed: int) -> None:
        """Build both copies."""
        self.one = type(self).make(list(arms), seed=seed)
        self.other = type(self).make(list(arms), seed=seed)
        self.numbers: set[int] = set()
        self.outstanding: list[Trial] = []
        self.scored: set[str] = set()
        self.finished = False

    @precondition(lambda self: len(self.outstanding) < MAX_OUTSTANDING)
    @rule()
    def ask(self) -> None:
        """Both copies ask for the same new trial, or for nothing."""
        self._ask()

    @precondition(lambda self: self.outstanding)
    @rule(score=of_the_suite("scores"))
    def tell(self, score: float | None) -> None:
        """The oldest outstanding trial ends."""
        self._tell(score)

    @rule()
    def report(self) -> None:
        """A report may be asked for at any time, and is the same for both copies."""
        report = dict(self.one.report())

        assert report == dict(self.other.report()), "One seed, one history, two reports."
        check_plain_json(report, "Strategy.report()")
        check_best(report, self.scored)

    def teardown(self) -> None:
        """Wherever it was left, the search runs to its end, and stays there."""
        if sys.exc_info()[0] is not None or not hasattr(self, "one"):
            return  # it has failed already, or was never begun
        while not self.finished:
            self._ask()
            while self.outstanding:
                self._tell(None)
        for _ in range(2):
            self._ask()

    def _ask(self) -> None:
        trial: Any = self.one.ask()
        twin = self.other.ask()

        assert trial == twin, f"One seed, one history, two trials: {trial} and {twin}."
        if trial is None:
            self.finished = self.finished or not self.outstanding
            return
        assert isinstance(trial, Trial), f"ask() gives a Trial or None, not {trial!r}."
        assert not self.finished, "The strategy had finished, and then asked again."
        assert trial.number not in self.numbers, f"Trial {trial.number} was asked for twice."
        assert len(self.numbers) < self.most_trials, "The strategy asks beyond its bound."
        self.numbers.add(trial.number)
        self.outstanding.append(trial)

    def _tell(self, score: float | None) -> None:
        trial = self.outstanding.pop(0)
        outcome = Outcome(score=score, status="failed" if score is None else "ok")
        self.one.tell(trial, outcome)
        self.other.tell(trial, outcome)
        if score is not None:
            self.scored.add(trial.arm)
