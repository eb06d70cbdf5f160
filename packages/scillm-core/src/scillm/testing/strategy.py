"""The conformance suite for search strategies: give it a fixture `make_strategy`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar, Protocol

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from scillm.protocols import Strategy
from scillm.records import Outcome, Trial
from scillm.testing.answers import check_plain_json
from scillm.testing.searching import SEEDS, StrategyMachine, check_best, of_the_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARED = settings(
    max_examples=50,
    deadline=None,
    # One factory serves all examples, and one suite serves many classes: both on purpose.
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)

WIDTHS = st.integers(1, 4)
ONE_ARM_OR_MORE = of_the_suite("arms")
SOME_SCORES = st.lists(of_the_suite("scores"), min_size=1, max_size=20)


class MakeStrategy(Protocol):
    """Builds a fresh strategy; the class itself will often do."""

    def __call__(self, arms: Sequence[str], *, seed: int) -> Strategy:
        """A strategy over `arms` that has asked for nothing yet."""
        ...


def outcome_of(score: float | None) -> Outcome:
    """The outcome with this score."""
    if score is None:
        return Outcome(score=None, status="failed", reason="the conformance suite says so")
    return Outcome(score=score)


class StrategyConformance:
    """What every strategy promises: pure, seeded, finite, and honest about what won.

    Inherit, and give a fixture `make_strategy`, which takes `(arms, *, seed)`::

        class TestMine(StrategyConformance):
            @pytest.fixture
            def make_strategy(self):
                return Mine

    Knobs: `most_trials` (the strategy must have finished by then), and two hypothesis strategies:
    `arms` (lists of names to search) and `scores` (what a trial may score; None is a failed one).
    """

    most_trials: ClassVar[int] = 1000
    arms: ClassVar[st.SearchStrategy[list[str]]] = st.lists(
        st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True
    )
    scores: ClassVar[st.SearchStrategy[float | None]] = st.none() | st.floats(-1e6, 1e6)

    def test_is_a_strategy(self, make_strategy: MakeStrategy) -> None:
        """It has the three methods every strategy has."""
        assert isinstance(make_strategy(["a", "b"], seed=0), Strategy), (
            "A strategy has the methods ask(), tell(trial, outcome) and report()."
        )

    @SHARED
    @given(arms=ONE_ARM_OR_MORE, seed=SEEDS, width=WIDTHS, scores=SOME_SCORES)
    def test_same_seed_asks_the_same(
        self,
        make_strategy: MakeStrategy,
        arms: list[str],
        seed: int,
        width: int,
        scores: list[float | None],
    ) -> None:
        """The same seed, width and outcomes give the same trials and the same report."""
        dice = random.getstate()
        plays = []
        for noise in (1, 2):
            random.seed(noise)
            before = random.getstate()
            strategy = make_strategy(list(arms), seed=seed)
            plays.append((self._play(strategy, scores, width), strategy.report()))
            untouched = random.getstate() == before
            random.setstate(dice)

            assert untouched, "A strategy owns random.Random(seed); the global dice are not its."
        assert plays[0] == plays[1], (
            "Two runs with the same seed and outcomes asked for different trials. "
            "Take all luck from random.Random(seed)."
        )

    @SHARED
    @given(arms=ONE_ARM_OR_MORE, seed=SEEDS, width=WIDTHS, scores=SOME_SCORES)
    def test_finishes_for_good(
        self,
        make_strategy: MakeStrategy,
        arms: list[str],
        seed: int,
        width: int,
        scores: list[float | None],
    ) -> None:
        """A strategy ends within its bound, asks nothing afterwards, and keeps its report."""
        strategy = make_strategy(list(arms), seed=seed)
        self._play(strategy, scores, width)
        report = dict(strategy.report())

        assert [strategy.ask() for _ in range(3)] == [None] * 3, "Finished means finished."
        assert dict(strategy.report()) == report, "Asking a finished strategy changes nothing."

    @SHARED
    @given(arms=ONE_ARM_OR_MORE, seed=SEEDS, width=WIDTHS, scores=SOME_SCORES)
    def test_reports_what_won(
        self,
        make_strategy: MakeStrategy,
        arms: list[str],
        seed: int,
        width: int,
        scores: list[float | None],
    ) -> None:
        """The report is plain JSON, and its `best` is an arm that scored, or None."""
        strategy = make_strategy(list(arms), seed=seed)
        played = self._play(strategy, scores, width)

        report = dict(strategy.report())
        scored = {trial.arm for trial, score in played if score is not None}

        check_plain_json(report, "Strategy.report()")
        check_best(report, scored)
        assert report["best"] is not None or not scored, (
            f"The search is over and {sorted(scored)} scored, but the report names no `best`."
        )

    @SHARED
    @given(arms=ONE_ARM_OR_MORE, seed=SEEDS, width=WIDTHS)
    def test_failed_trials_win_nothing(
        self, make_strategy: MakeStrategy, arms: list[str], seed: int, width: int
    ) -> None:
        """When every trial fails, the search still ends and nothing is best."""
        strategy = make_strategy(list(arms), seed=seed)
        self._play(strategy, [None], width)

        assert strategy.report()["best"] is None, (
            f"No trial scored, but the report says that {strategy.report()['best']!r} is best."
        )

    def test_any_order_of_asking_and_telling(self, make_strategy: MakeStrategy) -> None:
        """However asking, telling and reporting interleave, every promise holds at every step."""
        suite = self

        class Machine(StrategyMachine):
            make = staticmethod(make_strategy)
            most_trials = suite.most_trials
            arms = suite.arms
            scores = suite.scores

        run_state_machine_as_test(Machine, settings=SHARED)

    def _play(
        self, strategy: Strategy, scores: Sequence[float | None], width: int
    ) -> list[tuple[Trial, float | None]]:
        """Drive `strategy` as `scillm.search` does; trial number n scores `scores[n % len]`."""
        played: list[tuple[Trial, float | None]] = []
        while window := _window(strategy, width):
            for trial in window:
                score = scores[len(played) % len(scores)]
                strategy.tell(trial, outcome_of(score))
                played.append((trial, score))
            assert len(played) <= self.most_trials, (
                f"After {len(played)} trials the strategy still asks for more. If it needs so "
                "many, raise `most_trials`."
            )
        numbers = [trial.number for trial, _ in played]
        assert len(set(numbers)) == len(numbers), f"Trial numbers are distinct, not {numbers}."
        return played


def _window(strategy: Strategy, width: int) -> list[Trial]:
    asked = (strategy.ask() for _ in range(width))
    window: list[Trial] = []
    for trial in asked:
        if trial is None:
            break
        window.append(trial)
    return window
