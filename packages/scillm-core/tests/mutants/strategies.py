"""Strategies that each break one promise, and the tests of the kit that must catch them."""

from __future__ import annotations

import random

import pytest
from scillm.records import Trial, evolve
from scillm.search.sweep import Sweep
from scillm.testing import StrategyConformance


class Mutant(StrategyConformance):
    most_trials = 50
    Strategy = Sweep

    @pytest.fixture
    def make_strategy(self):
        return self.Strategy


class TestSound(Mutant):
    """Sweep itself: the control."""

    caught_by = ()


class TestUnseededLuck(Mutant):
    """Shuffles with dice of its own that nobody seeded."""

    caught_by = (
        "test_same_seed_asks_the_same",
        "test_any_order_of_asking_and_telling",
    )

    class Strategy(Sweep):
        def __init__(self, arms, *, seed=0):
            super().__init__(random.Random().sample(arms, len(arms)), seed=seed)


class TestGlobalDice(Mutant):
    """Seeds the global dice, and with them everybody else's luck."""

    caught_by = ("test_same_seed_asks_the_same",)

    class Strategy(Sweep):
        def __init__(self, arms, *, seed=0):
            random.seed(seed)
            super().__init__(random.sample(arms, len(arms)), seed=seed)


class TestEndless(Mutant):
    """Never has enough."""

    caught_at_least_by = (
        "test_finishes_for_good",
        "test_failed_trials_win_nothing",
    )

    class Strategy(Sweep):
        number = 0

        def ask(self):
            self.number += 1
            return Trial(number=self.number, arm=self._arms[0])


class TestSecondWind(Mutant):
    """Says that it has finished, and then asks for one more."""

    caught_at_least_by = (
        "test_finishes_for_good",
        "test_any_order_of_asking_and_telling",
    )

    class Strategy(Sweep):
        nones = 0

        def ask(self):
            trial = super().ask()
            if trial is None:
                self.nones += 1
                if self.nones == 2:
                    return Trial(number=40, arm=self._arms[0])
            return trial


class TestSameNumber(Mutant):
    """Gives every trial the same number."""

    caught_at_least_by = (
        "test_finishes_for_good",
        "test_any_order_of_asking_and_telling",
    )

    class Strategy(Sweep):
        def ask(self):
            trial = super().ask()
            return trial and evolve(trial, number=0)


class TestFailureWins(Mutant):
    """Takes a failed trial for a score of zero."""

    caught_by = (
        "test_failed_trials_win_nothing",
        "test_reports_what_won",
        "test_any_order_of_asking_and_telling",
    )

    class Strategy(Sweep):
        def tell(self, trial, outcome, /):
            super().tell(trial, evolve(outcome, score=outcome.score or 0.0))


class TestNoWinner(Mutant):
    """Never says which arm was best."""

    caught_by = ("test_reports_what_won",)

    class Strategy(Sweep):
        def report(self):
            return {**super().report(), "best": None}


class TestNotJson(Mutant):
    """Reports a set."""

    caught_by = (
        "test_reports_what_won",
        "test_any_order_of_asking_and_telling",
    )

    class Strategy(Sweep):
        def report(self):
            return {**super().report(), "tried": set(self._outcomes)}
