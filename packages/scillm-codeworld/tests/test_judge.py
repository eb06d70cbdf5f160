"""The judge: a gate nothing makes up for, then a rule, and noise is a tie."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm_codeworld.judge.noise import NOISE, NOISE_S, f_quantile, floor_of, relative, slower
from scillm_codeworld.judge.opinion import (
    CHOICES,
    DISAGREE,
    Pair,
    messages,
    points,
    read_choice,
    settled,
)
from scillm_codeworld.judge.ranking import Merit, aggregate, front, ranks
from scillm_codeworld.judge.rule import WEIGHTS, Rule, parse_rule

NAMES = ("speed", "brevity", "memory")
MERITS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2),
    st.builds(
        Merit,
        gate=st.sampled_from([(0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (1.0, 1.0)]),
        metrics=st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    ),
    min_size=1,
    max_size=8,
)
RULES = st.sampled_from(
    [
        Rule(),
        Rule(mode="lexicographic", order=NAMES),
        Rule(mode="pareto", order=NAMES),
        Rule(weights={"speed": 3.0}),
    ]
)


@given(MERITS, RULES)
def test_no_metric_makes_up_for_the_gate(merits, rule):
    """Whatever the rule: who ran, and was right more often, is never ranked behind."""
    found = ranks(merits, rule)

    for one in merits:
        for other in merits:
            if merits[one].gate > merits[other].gate:
                assert found[one] < found[other]


@given(MERITS, RULES, st.randoms())
def test_ranks_depend_on_merits_alone(merits, rule, luck):
    """Neither the order nor the names matter, and equal merits share a rank."""
    names = list(merits)
    luck.shuffle(names)
    found = ranks(merits, rule)

    assert ranks({name: merits[name] for name in names}, rule) == found
    assert ranks({f"new {name}": merits[name] for name in names}, rule) == {
        f"new {name}": rank for name, rank in found.items()
    }
    for one in merits:
        for other in merits:
            if merits[one] == merits[other]:
                assert found[one] == found[other]


@given(MERITS)
def test_the_first_front_is_what_nothing_dominates(merits):
    """Pareto rank 1: nobody behind the same gate is as good everywhere and better somewhere."""
    rule = Rule(mode="pareto", order=NAMES)
    best = max(merit.gate for merit in merits.values())
    group = {name: merit for name, merit in merits.items() if merit.gate == best}
    first = {name for name, rank in ranks(merits, rule).items() if rank == 1}

    assert first == set(front(group, NAMES))
    for name in first:
        mine = [group[name].metrics.get(metric, 0.0) for metric in NAMES]
        for other in group.values():
            its = [other.metrics.get(metric, 0.0) for metric in NAMES]
            dominated = its != mine and all(b >= a for a, b in zip(mine, its, strict=True))
            assert not dominated


def test_pareto_by_hand():
    """Fast and long, slow and short are both first; slow and long is behind both."""
    merits = {
        "fast": Merit(gate=(1.0, 1.0), metrics={"speed": 1.0, "brevity": 0.2}),
        "short": Merit(gate=(1.0, 1.0), metrics={"speed": 0.2, "brevity": 1.0}),
        "neither": Merit(gate=(1.0, 1.0), metrics={"speed": 0.2, "brevity": 0.2}),
        "wrong": Merit(gate=(1.0, 0.5), metrics={"speed": 1.0, "brevity": 1.0}),
    }

    found = ranks(merits, Rule(mode="pareto", order=("speed", "brevity")))

    assert found == {"fast": 1, "short": 1, "neither": 3, "wrong": 4}


def test_lexicographic_by_hand():
    """The first metric decides, the second only between equals."""
    merits = {
        "a": Merit(gate=(1.0, 1.0), metrics={"speed": 1.0, "brevity": 0.1}),
        "b": Merit(gate=(1.0, 1.0), metrics={"speed": 1.0, "brevity": 0.2}),
        "c": Merit(gate=(1.0, 1.0), metrics={"speed": 0.9, "brevity": 1.0}),
    }

    assert ranks(merits, Rule(mode="lexicographic", order=("speed", "brevity"))) == {
        "b": 1,
        "a": 2,
        "c": 3,
    }


def test_the_weighted_mean_by_hand():
    """.7 + .2 * 1/2 + .1 * 1/4, all over 1, times 1; half of it for half the cases."""
    metrics = {"speed": 0.5, "brevity": 0.25}

    assert aggregate(Merit(gate=(1.0, 1.0), metrics=metrics), Rule()) == 0.825
    assert aggregate(Merit(gate=(1.0, 0.5), metrics=metrics), Rule()) == 0.4125
    assert aggregate(Merit(gate=(0.0, 1.0), metrics=metrics), Rule()) == 0.0


@given(
    st.dictionaries(st.text("abc", max_size=3), st.floats(1e-4, 10), max_size=8),
    st.floats(0, 0.5),
)
def test_values_within_the_noise_of_a_leader_are_its_equals(values, floor):
    """The least has 1, nobody smaller is called worse, and who is within the floor is equal."""
    found = relative(values, floors=dict.fromkeys(values, floor))
    least = min(values.values(), default=0.0)

    assert not values or max(found.values()) == 1.0
    for a in values:
        for b in values:
            if values[a] <= values[b]:
                assert found[a] >= found[b]
    for name, value in values.items():
        if value - least <= max(NOISE * least, floor):
            assert found[name] == 1.0


def test_the_noise_floor_by_hand():
    """Mean excess 0.2, k = 3: 0.2 / 3 * F(0.99; 2, 4 * 2), never less than the clock's per case.

    Two such cases share what they know of the machine: 0.4 / 3 * F(0.99; 4, 16), which is far less
    than twice the floor of one. Repeats that agree by luck, and one alone, add nothing.
    """
    one, none = [0.5, 0.6, 0.8], [[0.2, 0.2, 0.2], [0.3]]

    assert floor_of([one, *none]) == pytest.approx(0.2 / 3 * 8.6491, rel=0.02)
    assert floor_of([one, one]) == pytest.approx(0.4 / 3 * 4.7726, rel=0.02)
    assert floor_of(none) == 2 * NOISE_S
    assert floor_of([[0.5], []]) is None
    assert floor_of([]) is None


@pytest.mark.parametrize(
    ("above", "below", "true"),
    [(2, 4, 18.0), (10, 4, 14.546), (2, 8, 8.6491), (6, 12, 4.8206), (20, 40, 2.3689)],
)
def test_quantiles_of_f_are_those_of_the_tables(above, below, true):
    """Never noticeably below; a fifth above at most, where the degrees are fewest."""
    assert 0.999 * true <= f_quantile(above, below) <= 1.2 * true


@pytest.mark.parametrize("cases", [1, 4])
@pytest.mark.parametrize("repeats", [2, 3, 5, 9])
@pytest.mark.parametrize("spread_s", [0.001, 0.01, 0.1])
def test_equal_programs_tie_but_for_one_in_a_hundred(cases, repeats, spread_s):
    """10 ms of work and what a busy machine adds: 2000 pairs of equals, at most 1 % told apart."""
    luck = random.Random(f"{cases}/{repeats}/{spread_s}")

    def timed():
        return [
            [0.01 + luck.expovariate(1 / spread_s) for _ in range(repeats)] for _ in range(cases)
        ]

    told_apart = 0
    for _ in range(2000):
        one, other = timed(), timed()
        found = relative(
            {"one": sum(map(min, one)), "other": sum(map(min, other))},
            floors={"one": floor_of(one) or 0.0, "other": floor_of(other) or 0.0},
        )
        told_apart += min(found.values()) < 1.0

    assert told_apart <= 20


@pytest.mark.parametrize(("cases", "repeats"), [(1, 3), (3, 3), (4, 3), (1, 9), (5, 5)])
def test_the_order_of_repeats_tells_equal_programs_apart_less_than_twice_in_a_thousand(
    cases, repeats
):
    """Whatever the machine adds, here with tails that have no mean: 5000 pairs of equals."""
    luck = random.Random(f"{cases}/{repeats}")

    def timed():
        return [[0.01 * luck.paretovariate(0.9) for _ in range(repeats)] for _ in range(cases)]

    told_apart = sum(slower(timed(), timed()) for _ in range(5000))

    assert told_apart <= 10


def test_what_is_always_slower_is_slower_however_noisy_the_machine():
    """Noise as large as the time itself hides no factor of twenty, where every repeat shows it."""
    fast = [[0.001, 0.011, 0.002], [0.001, 0.009, 0.004], [0.008, 0.001, 0.003]]
    slow = [[0.020, 0.080, 0.031], [0.055, 0.021, 0.041], [0.020, 0.036, 0.090]]
    values = {name: sum(map(min, each)) for name, each in (("fast", fast), ("slow", slow))}
    floors = {"fast": floor_of(fast) or 0.0, "slow": floor_of(slow) or 0.0}

    assert values["slow"] - values["fast"] < floors["slow"]
    assert relative(values, floors=floors) == {"fast": 1.0, "slow": 1.0}
    told = relative(values, floors=floors, apart=lambda *_pair: slower(slow, fast))
    assert told == {"fast": 1.0, "slow": pytest.approx(0.003 / 0.061, abs=1e-4)}
    assert not slower(fast, slow)
    assert not slower(slow[:2], fast[:2])
    assert not slower([], [])


def test_more_repeats_tell_smaller_differences_apart():
    """Twice the work, where the machine adds as much again: lost in three repeats, not fifteen."""
    luck = random.Random(7)

    def told_apart(repeats):
        found = 0
        for _ in range(500):
            one, other = (
                [work + luck.expovariate(100) for _ in range(repeats)] for work in (0.01, 0.02)
            )
            floor = max(floor_of([one]) or 0.0, floor_of([other]) or 0.0)
            found += min(other) - min(one) > floor
        return found / 500

    assert told_apart(3) < 0.2
    assert told_apart(15) > 0.9


@pytest.mark.parametrize(
    ("judge", "metrics", "mode", "weights"),
    [
        (None, None, "weighted", WEIGHTS),
        ("lex", None, "lexicographic", WEIGHTS),
        ({"mode": "pareto"}, ["speed"], "pareto", {"correctness": 0.7, "speed": 0.2}),
        (None, ["memory"], "weighted", {"correctness": 0.7, "memory": 0.1}),
        ({"weights": {"speed": 2}}, None, "weighted", {"speed": 2.0}),
    ],
)
def test_a_rule_is_read_from_the_options(judge, metrics, mode, weights):
    """Modes have their older short names, and metrics their usual weights."""
    rule = parse_rule(judge, metrics)

    assert (rule.mode, dict(rule.weights)) == (mode, dict(weights))


@given(st.text(), st.text(), st.text())
def test_no_program_gets_out_of_its_fence(task, first, second):
    """However many backticks it holds, the fence around it is longer."""
    text = messages(task, first, second)[1]["content"]

    for part in (task, first, second):
        longest = max((len(run) for run in part.split("`") and _runs(part)), default=0)
        fence = "`" * max(3, longest + 1)
        assert f"{fence}\n{part}\n{fence}" in text


def _runs(text):
    found, run = [], ""
    for sign in [*text, ""]:
        if sign == "`":
            run += sign
        elif run:
            found.append(run)
            run = ""
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "first",
        '{"better": "first"}',
        '{"better": "third", "reason": "x"}',
        '{"better": "first", "reason": 3}',
        '{"better": "first", "reason": "x", "score": 1}',
        '["first"]',
        'Sure! {"better": "first", "reason": "x"}',
    ],
)
def test_an_answer_that_is_no_strict_verdict_is_a_tie(text):
    """It is not read with good will, and says what is wrong with it."""
    choice, problem = read_choice({"text": text})

    assert choice == DISAGREE
    assert problem


@given(st.sampled_from([*CHOICES, DISAGREE]), st.sampled_from([*CHOICES, DISAGREE]))
def test_only_an_answer_that_survives_the_swap_counts(one, other):
    """Two answers that differ are a disagreement, which is worth as much as a tie."""
    verdict = settled(one, other)
    won = points([Pair(first="a", second="b", verdict=verdict)])

    assert won["a"] + won["b"] == 1.0
    assert (won["a"] == 0.5) == (verdict in ("tie", DISAGREE))
    if one != other:
        assert verdict == DISAGREE
