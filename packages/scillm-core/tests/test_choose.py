"""Choosing: weights, load, latency, usage and price decide; what rests is never picked."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UsageError
from scillm.routing.choose import STRATEGIES, known_strategy, levels_of, pick, with_tags
from scillm.routing.deployment import read_model_list
from scillm.routing.load import LATENCY_TTL_S, TIMEOUT_COUNTS_S, Load


def level_of(*params):
    rows = [
        {"model_name": "g", "litellm_params": {"model": "echo/m", "api_base": f"http://h{n}", **p}}
        for n, p in enumerate(params)
    ]
    (level,) = levels_of(list(enumerate(read_model_list(rows))))
    return level


@given(
    st.lists(
        st.tuples(st.none() | st.floats(0, 100), st.booleans(), st.integers(0, 5)), min_size=1
    ),
    st.sampled_from(STRATEGIES),
    st.integers(0, 10**6),
)
def test_an_eligible_deployment_is_picked_whenever_there_is_one(rows, strategy, seed):
    """No strategy picks what rests, and none starves a call while somebody is open."""
    level = level_of(*({} if weight is None else {"weight": weight} for weight, _, _ in rows))
    open_ = {index for index, (_, is_open, _) in enumerate(rows) if is_open}
    luck = random.Random(seed)

    index = pick(
        level,
        lambda index: index in open_,
        strategy=strategy,
        metric=[busy for _, _, busy in rows],
        draw=luck.random,
    )

    assert index in open_ if open_ else index is None


def test_weights_are_shares():
    """9 : 1 gives about 270 of 300 (LiteLLM's Router gave 269); 4 standard errors are 21."""
    level = level_of({"weight": 9}, {"weight": 1})
    luck = random.Random(7)

    found = Counter(
        pick(level, None, strategy="simple-shuffle", metric=(), draw=luck.random)
        for _ in range(300)
    )

    assert 249 <= found[0] <= 291


@pytest.mark.parametrize("luck", [0.0, 0.5, 0.999])
def test_a_small_share_is_picked_while_the_large_one_rests(luck):
    """Every draw falls on the one that rests; the other is found nevertheless."""
    level = level_of({"weight": 10**6}, {"weight": 1})

    index = pick(level, lambda i: i == 1, strategy="simple-shuffle", metric=(), draw=lambda: luck)

    assert index == 1


def test_weights_come_from_the_first_of_weight_rpm_tpm():
    """A weight counts also when only a later deployment has one; without any, all are equal."""
    luck = random.Random(1)

    def shares(*params):
        level = level_of(*params)
        picks = (
            pick(level, None, strategy="simple-shuffle", metric=(), draw=luck.random)
            for _ in range(400)
        )
        return Counter(picks)

    assert shares({}, {"weight": 1}) == {1: 400}
    assert shares({"rpm": 3, "tpm": 0}, {"rpm": 1, "tpm": 100})[0] > 240
    assert 140 < shares({}, {})[0] < 260


def test_a_weight_of_zero_still_serves_when_nobody_else_can():
    """Weight 0 means last, not never."""
    level = level_of({"weight": 0}, {"weight": 1})

    index = pick(level, lambda i: i == 0, strategy="simple-shuffle", metric=(), draw=lambda: 0.5)

    assert index == 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.floats(0, 1, exclude_max=True))
def test_the_lowest_metric_wins_and_ties_are_drawn(metric, draw):
    """Fast path and filtered path agree on what is lowest."""
    level = level_of(*({} for _ in metric))
    for eligible in (None, lambda _index: True):
        index = pick(level, eligible, strategy="least-busy", metric=metric, draw=lambda: draw)

        assert metric[index] == min(metric)


def test_ties_do_not_always_fall_on_the_first():
    """With equal loads every deployment gets its turn."""
    level = level_of({}, {}, {})
    luck = random.Random(3)

    found = {
        pick(level, None, strategy="least-busy", metric=[0, 0, 0], draw=luck.random)
        for _ in range(50)
    }

    assert found == {0, 1, 2}


def test_a_latency_buffer_widens_the_choice():
    """Buffer 0 gives the fastest only; buffer 1 everything up to twice as slow."""
    level = level_of({}, {}, {})
    luck = random.Random(3)

    def found(buffer):
        return {
            pick(level, None, strategy="latency-based-routing", metric=[1.0, 1.9, 2.1],
                 draw=luck.random, buffer=buffer)
            for _ in range(60)
        }  # fmt: skip

    assert found(0.0) == {0}
    assert found(1.0) == {0, 1}


def test_the_cheapest_wins_and_unknown_prices_count_as_dear():
    """Cost is input plus output per token; 5 each where unknown."""
    level = level_of(
        {"input_cost_per_token": 1e-6, "output_cost_per_token": 3e-6},
        {"input_cost_per_token": 2e-6, "output_cost_per_token": 1e-6},
        {},
    )

    assert level.costs == pytest.approx((4e-6, 3e-6, 10.0))
    assert (
        pick(level, None, strategy="cost-based-routing", metric=level.costs, draw=lambda: 0.9) == 1
    )


def deployments(*tags):
    rows = [
        {"model_name": "g", "litellm_params": {"model": f"echo/{n}", "tags": list(t)}}
        for n, t in enumerate(tags)
    ]
    return read_model_list(rows)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        (["paid"], [0]),
        (["free"], [1, 3]),
        (["other"], [2]),
        ([], [2]),
        (["paid", "free"], [0, 1, 3]),
    ],
)
def test_tags_choose_with_default_for_the_rest(asked, served):
    """A tag goes to those that have it; unknown tags and no tags go to the default ones."""
    rows = deployments(["paid"], ["free"], ["default"], ["free", "x"])

    assert [rows.index(d) for d in with_tags(rows, asked)] == served


def test_without_defaults_untagged_calls_go_everywhere_and_unknown_tags_nowhere():
    """Nothing is served by accident."""
    rows = deployments(["paid"], [])

    assert len(with_tags(rows, [])) == 2
    assert with_tags(rows, ["other"]) == ()


def test_strategies_are_known_by_both_spellings():
    """usage-based-routing-v2 is the same; an unknown one lists what there is."""
    assert known_strategy("usage-based-routing-v2") == "usage-based-routing"
    with pytest.raises(UsageError, match="simple-shuffle"):
        known_strategy("round-robin")


# -- load ---------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["began", "ended"]), max_size=40))
def test_in_flight_is_never_negative(events):
    """Up on start, down on every end, never below 0."""
    load = Load(1)
    for event in events:
        if event == "began":
            load.began(0, 0.0)
        else:
            load.ended(0)

        assert load.in_flight[0] >= 0


def test_latencies_are_averages_per_token_and_expire():
    """EWMA with weight 0.3; after the ttl a deployment is tried again."""
    load = Load(2)
    load.answered(0, 0.0, 10.0, tokens=10)
    load.answered(0, 1.0, 20.0, tokens=10)
    load.answered(1, 2.0, 7.0)

    assert load.latency_s == pytest.approx([0.3 * 2.0 + 0.7 * 1.0, 7.0])
    load.sweep(1.0 + LATENCY_TTL_S)
    assert load.latency_s == [0.0, 7.0]
    load.sweep(2.0 + LATENCY_TTL_S)
    assert load.latency_s == [0.0, 0.0]


def test_a_timeout_counts_as_a_very_long_answer():
    """A hanging deployment goes to the end, for streams too."""
    load = Load(2)
    load.timed_out(0, 0.0)

    assert load.metric("latency-based-routing", streamed=True)[0] == TIMEOUT_COUNTS_S
    assert load.metric("latency-based-routing", streamed=False)[0] == TIMEOUT_COUNTS_S


def test_streams_are_compared_by_their_first_chunk():
    """Time to first token and time per token are kept apart."""
    load = Load(1)
    load.answered(0, 0.0, 0.2, streamed=True)
    load.answered(0, 0.0, 3.0)

    assert load.metric("latency-based-routing", streamed=True) == [0.2]
    assert load.metric("latency-based-routing", streamed=False) == [3.0]
    assert load.metric("least-busy", streamed=False) == [0]


def test_usage_counts_within_the_minute():
    """Requests and tokens count against their limits until the minute turns."""
    load = Load(1)
    load.began(0, 1.0)
    load.answered(0, 2.0, 1.0, tokens=50)

    assert load.metric("usage-based-routing", streamed=False) == [51]
    assert load.over_limit(0, 3.0, rpm=1, tpm=None)
    assert load.over_limit(0, 3.0, rpm=None, tpm=50)
    assert not load.over_limit(0, 3.0, rpm=2, tpm=51)
    assert not load.over_limit(0, 61.0, rpm=1, tpm=50)
