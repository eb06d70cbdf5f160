"""Problems with known answers: bandits, trees, K-module, and how much work a selection is.

Where a docstring says "reference", the number was measured by other code than ours (UCB1 and
Thompson sampling as in Auer et al. 2002 and Chapelle & Li 2011, 200 seeds); a test allows 5
standard errors of the mean around it. The best arm is never in a fixed place: arms are permuted.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
import sys

import pytest
from scillm.records import Outcome
from scillm_codeworld.strategies.bandits import Thompson, ucb, uniform
from scillm_codeworld.strategies.halving import Halving
from scillm_codeworld.strategies.mcts import mcts

TWO, TEN = (0.9, 0.6), (0.5, *[0.4] * 9)
FIVE = (0.9, 0.8, 0.7, 0.6, 0.5)
ROOT2 = math.sqrt(2)


def bandit(make, chances, pulls, seed, **parameters):
    """Regret of one play of Bernoulli arms, and whether the best one was named."""
    luck = random.Random(f"bandit {seed}")
    chances = luck.sample(chances, len(chances))
    of = {f"arm-{place}": chance for place, chance in enumerate(chances)}
    strategy = make(list(of), seed=seed, rollouts=pulls, cases=None, bounds=(0, 1), **parameters)
    regret = 0.0
    while (trial := strategy.ask()) is not None:
        regret += max(chances) - of[trial.arm]
        strategy.tell(trial, Outcome(score=float(luck.random() < of[trial.arm])))
    report = strategy.report()
    assert report["trials"] == pulls
    return regret, of[report["best"]] == max(chances)


def plays(make, chances, pulls, seeds, **parameters):
    """Mean regret, its standard error, and the share of plays that named the best arm."""
    played = [bandit(make, chances, pulls, seed, **parameters) for seed in range(seeds)]
    regrets = [regret for regret, _ in played]
    error = statistics.stdev(regrets) / math.sqrt(seeds) if len(set(regrets)) > 1 else 0.0
    return statistics.mean(regrets), error, sum(found for _, found in played) / seeds


def band(rate, seeds):
    """Lowest share that a method with true success `rate` gives in `seeds` plays, at 4 sigma."""
    return rate - 4 * math.sqrt(rate * (1 - rate) / seeds)


@pytest.mark.parametrize(
    ("make", "chances", "parameters", "reference", "error", "rate"),
    [
        (ucb, TWO, {"c": ROOT2}, 23.5, 0.4, 1.0),
        (ucb, TWO, {"c": 0.5}, 4.8, 0.3, 1.0),
        (Thompson, TWO, {}, 4.1, 0.3, 1.0),
        (uniform, TWO, {}, 150, 0, 1.0),
        (ucb, TEN, {"c": ROOT2}, 83.3, 0.3, 0.79),
        (ucb, TEN, {"c": 0.5}, 57.3, 1.2, 0.92),
        (Thompson, TEN, {}, 66.1, 1.2, 0.81),
        (uniform, TEN, {}, 90, 0, 0.77),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bandits_lose_as_much_as_the_reference(make, chances, parameters, reference, error, rate):
    """At 1,000 pulls: mean regret within 5 standard errors, and the best arm named as often."""
    seeds = 60
    regret, own_error, found = plays(make, chances, 1000, seeds, **parameters)

    assert abs(regret - reference) <= 5 * math.hypot(own_error, error) + 1e-9
    assert found >= band(rate, seeds)


def test_halving_names_the_best_of_ten_close_arms():
    """Reference .83 of 200 at 1,000 pulls; the best arm is .5 and the others are .4."""
    *_, found = plays(Halving, TEN, 1000, 60)

    assert found >= band(0.83, 60)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("make", "chances", "c", "most"),
    [(ucb, TWO, ROOT2, 4), (ucb, FIVE, ROOT2, 4), (ucb, TEN, 0.5, 4), (uniform, TWO, None, 10)],
)
def test_regret_grows_slower_than_the_pulls(make, chances, c, most):
    """Ten times the pulls lose less than 4 times as much; the control loses 10 times as much."""
    parameters = {} if c is None else {"c": c}
    few, *_ = plays(make, chances, 1000, 30, **parameters)
    many, _, found = plays(make, chances, 10_000, 30, **parameters)

    if make is uniform:
        assert many / few == pytest.approx(10)
    else:
        assert many / few < most
        assert found >= band(0.99, 30)


# -- a ternary tree of depth 5 -----------------------------------------------------------------

LEAVES = ["/".join(parts) for parts in itertools.product("012", repeat=5)]


def landscape(seed):
    """A value for each of the 243 leaves: the mean of a uniform draw for each of its prefixes."""
    luck, drawn = random.Random(f"tree {seed}"), {}
    values = {}
    for leaf in LEAVES:
        parts = leaf.split("/")
        prefixes = ["/".join(parts[: depth + 1]) for depth in range(5)]
        values[leaf] = statistics.fmean(drawn.setdefault(p, luck.random()) for p in prefixes)
    return values


def climb(values, budget, width, seed, **parameters):
    """Whether the best leaf was found, and how many evaluations were repeated."""
    strategy = mcts(LEAVES, seed=seed, separator="/", rollouts=budget, **parameters)
    tried = []
    while True:
        window = [trial for trial in (strategy.ask() for _ in range(width)) if trial]
        if not window:
            break
        for trial in window:
            tried.append(trial.arm)
            strategy.tell(trial, Outcome(score=values[trial.arm]))
    best = strategy.report()["best"]
    return values[best] == max(values.values()), len(tried) - len(set(tried))


@pytest.mark.parametrize(
    ("budget", "width", "parameters", "least"),
    [
        (60, 1, {}, 0.38),
        (120, 1, {}, 0.97),
        (120, 1, {"uct_c": 0.5}, 0.97),
        (120, 16, {}, 0.85),
        (120, 16, {"uct_c": ROOT2}, 0.85),
        (243, 16, {}, 1.0),
    ],
)
def test_the_best_leaf_of_a_tree_is_found(budget, width, parameters, least):
    """At 120 of 243 leaves nearly always, 16 at a time too, and no leaf is ever tried twice.

    Random tries find it in budget / 243 of the trees: .25 and .49.
    """
    trees = 60
    climbs = [climb(landscape(n), budget, width, n, **parameters) for n in range(trees)]

    assert sum(found for found, _ in climbs) / trees >= least
    assert sum(repeated for _, repeated in climbs) == 0


@pytest.mark.deep
@pytest.mark.parametrize("backup", ["mean", "mixed"])
def test_the_whole_tree_is_searched_in_the_end(backup):
    """Whatever is backed up, exhausted branches leave, so 243 pulls see 243 leaves."""
    climbs = [climb(landscape(n), 243, 1, n, backup=backup, uct_c=0.05) for n in range(150)]

    assert climbs == [(True, 0)] * 150


# -- K-module: find four hidden choices out of five each, told only how many are right ------------

MODULES = ["/".join(parts) for parts in itertools.product("01234", repeat=4)]


def evaluations(seed, **parameters):
    """How many of the 625 combinations were tried until the right one."""
    hidden = random.Random(f"modules {seed}").choice(MODULES).split("/")
    strategy = mcts(MODULES, seed=seed, separator="/", rollouts=625, **parameters)
    for count in range(1, 626):
        trial = strategy.ask()
        right = sum(a == b for a, b in zip(trial.arm.split("/"), hidden, strict=True))
        strategy.tell(trial, Outcome(score=right / 4))
        if right == 4:
            return count
    raise AssertionError("all 625 combinations were tried, and none was right")


@pytest.mark.parametrize(
    "seeds", [60, pytest.param(400, marks=pytest.mark.deep)], ids=["quick", "all"]
)
@pytest.mark.parametrize("parameters", [{}, {"bounds": (0, 1)}], ids=["observed", "declared"])
def test_k_module_is_solved_within_100_evaluations(seeds, parameters):
    """Always, and within 30 on average; random tries do so in 16 % (100 of 625)."""
    counts = [evaluations(seed, **parameters) for seed in range(seeds)]

    assert max(counts) <= 100
    assert statistics.mean(counts) <= 30


# -- work --------------------------------------------------------------------------------------


def calls_of(strategy, rollouts):
    """Python functions entered for so many rollouts of a fixed score."""
    count = 0

    def tally(_frame, event, _argument):
        nonlocal count
        count += event == "call"

    outcome = Outcome(score=0.5)
    sys.setprofile(tally)
    try:
        for _ in range(rollouts):
            strategy.tell(strategy.ask(), outcome)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "rollouts", [2000, pytest.param(100_000, marks=pytest.mark.deep)], ids=["quick", "all"]
)
@pytest.mark.parametrize(
    ("make", "parameters", "most"),
    [
        (ucb, {"cases": None}, 40),
        (mcts, {"cases": None, "separator": "/"}, 130),
        (uniform, {"cases": None}, 70),
        (Thompson, {"cases": None}, 140),
    ],
)
def test_a_rollout_is_a_bounded_number_of_calls(make, parameters, most, rollouts):
    """Bookkeeping does not grow with what was done before: the last rollouts cost as the first.

    Five arms, or 27 leaves three deep. `benchmarks/search.py` prints the seconds.
    """
    arms = ["/".join(parts) for parts in itertools.product("012", repeat=3)]
    arms = arms if "separator" in parameters else list("abcde")
    strategy = make(arms, seed=1, rollouts=10 * rollouts, bounds=(0, 1), **parameters)
    first = calls_of(strategy, rollouts // 2) / (rollouts // 2)
    last = calls_of(strategy, rollouts // 2) / (rollouts // 2)

    assert first <= most
    assert last <= first * 1.1 + 1
