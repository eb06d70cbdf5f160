"""The pace: rests, slowing down after refusals, growing with success."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.resilience.allowances import MAX_HEEDED_S
from scillm.resilience.limits import Rates
from scillm.resilience.pace import LEAST_SHARE, RECOVER_S, Pace

UNIX = 1_790_000_000.0

events = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0, 20)),
        st.tuples(st.just("start"), st.floats(0, 300)),
        st.tuples(st.just("limit"), st.none() | st.floats(0, 30)),
        st.tuples(st.just("success"), st.just(0.0)),
        st.tuples(st.just("left"), st.floats(0, 30)),
        st.tuples(st.just("settle"), st.floats(0, 300)),
    ),
    max_size=120,
)
rates = st.builds(
    Rates,
    rpm=st.none() | st.floats(1, 6000),
    tpm=st.none() | st.floats(60, 1e6),
    burst=st.none() | st.floats(1, 20),
    adaptive=st.booleans(),
)


def drive(pace, events):
    """Play events; yields (moment, end of the rest when it started) for every start."""
    now, began = 50.0, 50.0
    for verb, value in events:
        if verb == "pass":
            now += value
        elif verb == "limit":
            pace.after_limit(now, value, started_at=began)
        elif verb == "success":
            pace.after_success(now, started_at=began)
        elif verb == "settle":
            pace.settle(now, expected=100.0, used=value)
        elif verb == "left":
            headers = {"ratelimit-remaining": str(int(value)), "ratelimit-reset": str(value)}
            pace.after_headers(now, headers, unix_now=UNIX)
        else:
            for _ in range(10_000):
                wait = pace.wait_s(now, value)
                if not wait:
                    break
                now += wait
            else:
                raise AssertionError("the call never started")
            pace.take(now, value)
            began = now
            yield now, pace.rest_until


@given(rates, events)
def test_no_call_starts_during_a_rest_and_every_call_starts(rates, events):
    """Whatever was refused, answered and announced before: rests hold, and they end."""
    for now, rest_until in drive(Pace(rates), events):
        assert now >= rest_until - 2e-6


@given(st.floats(1, 6000), st.integers(1, 20), events)
def test_adapting_never_exceeds_the_configured_rate(rpm, burst, events):
    """N starts take at least (N - b) / r, however the pace was lowered and raised meanwhile."""
    pace = Pace(Rates(rpm=rpm, burst=burst))
    moments = [now for now, _ in drive(pace, events)]

    for i, first in enumerate(moments):
        span = moments[-1] - first
        assert len(moments) - i <= burst + rpm / 60 * (span + 1e-5) + 1e-5
    assert LEAST_SHARE <= pace.share <= 1.0


@given(rates, st.floats(0.1, 100), st.integers(1, 200))
def test_a_herd_counts_once(rates, retry_after, size):
    """Calls that were in the air when the first was refused do not slow the pace again."""
    one, herd = Pace(rates), Pace(rates)
    one.after_limit(10.0, retry_after, started_at=9.0)
    for _ in range(size):
        herd.after_limit(10.0, retry_after, started_at=9.0)

    assert herd.share == one.share
    assert herd.rate_per_s == one.rate_per_s
    assert herd.rest_until == one.rest_until == 10.0 + retry_after


def test_refusals_without_a_start_count_once_for_each_rest():
    """Who reports a refusal without saying when the call began is believed after the rest only."""
    pace = Pace(Rates(rpm=60))
    pace.after_limit(10.0, 5.0)
    pace.after_limit(12.0, 1.0)

    assert (pace.share, pace.rest_until) == (0.5, 15.0)
    pace.after_limit(15.0, 1.0)
    assert (pace.share, pace.rest_until) == (0.25, 16.0)


@given(st.floats(0.5, 20), st.integers(1, 12))
def test_a_rest_that_was_not_named_doubles_up_to_a_minute(cooldown_s, times):
    """Without a Retry-After, repeated refusals rest longer and longer."""
    pace, now = Pace(Rates(cooldown_s=cooldown_s)), 0.0
    for k in range(times):
        now += 1000.0
        pace.after_limit(now, started_at=now)

        assert pace.rest_until == pytest.approx(now + min(cooldown_s * 2.0**k, 60.0))
    pace.after_success(now + 1000, started_at=now + 999)
    pace.after_limit(now + 2000, started_at=now + 2000)
    assert pace.rest_until == pytest.approx(now + 2000 + min(cooldown_s, 60.0))


def test_retry_now_means_half_a_second():
    """An upstream that refuses and says 0 is not asked again at once."""
    pace = Pace(Rates())
    pace.after_limit(10.0, 0.0)

    assert pace.rest_until == 10.5


def test_retry_now_means_no_longer_than_the_shortest_wait_that_was_named():
    """Milliseconds rounded to 0 are not half a second for everybody; whole seconds are."""
    fine, coarse = Pace(Rates()), Pace(Rates())
    for pace, named_s in ((fine, 0.004), (coarse, 2.0)):
        pace.after_limit(10.0, named_s)
        pace.after_limit(20.0, 0.0)

    assert fine.rest_until == pytest.approx(20.004 + 0.004)
    assert coarse.rest_until == 20.5


def test_an_upstream_that_goes_on_saying_0_is_rested_for_half_a_second_again():
    """The shortest wait it has named doubles until there is an answer."""
    pace = Pace(Rates())
    pace.after_limit(10.0, 0.004)
    rests = []
    for n in range(12):
        now = 20.0 + n
        pace.after_limit(now, 0.0)
        rests.append(round(pace.rest_until - now, 6))
    pace.after_success(40.0)
    pace.after_limit(41.0, 0.0)

    assert rests[:4] == [0.008, 0.016, 0.032, 0.064]
    assert rests[-1] == 0.5
    assert pace.rest_until == pytest.approx(41.004)


def test_after_a_rest_calls_leave_one_by_one_even_with_a_full_bucket():
    """The herd does not come back as a herd."""
    pace = Pace(Rates(rpm=600, burst=50))
    pace.after_limit(49.0, 10.0, started_at=48.0)
    moments = [now for now, _ in drive(pace, [("start", 0.0)] * 4)]

    assert moments == pytest.approx([59.0, 59.2, 59.4, 59.6], abs=1e-4)


def rate_of(paced) -> float:
    """The rate of a pace or a bucket, which must be known."""
    return paced.rate if hasattr(paced, "rate") else paced.rate_per_s


def succeed(pace, now, seconds):
    """Success under load for a while: a call starts whenever it may and is answered."""
    end = now + seconds
    while now < end:
        now += pace.wait_s(now)
        pace.take(now)
        pace.after_success(now, started_at=now)
    return now


def test_success_under_load_brings_the_configured_rate_back():
    """Steadily, within RECOVER_S, and never beyond the configured rate."""
    pace = Pace(Rates(rpm=600, burst=1))
    pace.after_limit(0.0, 1.0, started_at=-1.0)
    now = succeed(pace, 1.0, RECOVER_S / 4)
    assert 0.7 < pace.share < 0.9
    succeed(pace, now, RECOVER_S / 2)

    assert pace.share == 1.0
    assert pace.rate_per_s == pytest.approx(10.0)


def test_success_without_load_proves_nothing():
    """A pace that holds nobody back does not grow: it was not tried."""
    pace = Pace(Rates(rpm=600))
    pace.after_limit(0.0, 1.0, started_at=-1.0)
    for minute in range(1, 30):
        pace.after_success(minute * 60.0, started_at=minute * 60.0 - 1)

    assert pace.share == 0.5


def test_success_of_calls_older_than_the_refusal_proves_nothing():
    """They were let in before the limit was reached."""
    pace = Pace(Rates(rpm=600))
    pace.after_limit(5.0, 1.0, started_at=4.0)
    pace.take(6.0)
    pace.take(6.0)
    pace.after_success(6.5, started_at=4.5)

    assert pace.share == 0.5


def test_timers_that_ring_late_do_not_slow_a_pace_that_was_found():
    """Calls that come 10 ms after their turn, each time, still start at the whole pace."""
    pace = Pace(Rates())
    for n in range(100):
        pace.after_success(1.0 + n / 100)
    pace.after_limit(2.0, 0.0)
    taken, now = 0, 3.0
    while now < 8.0:
        now += pace.wait_s(now) + 0.01
        while not pace.wait_s(now):
            pace.take(now)
            taken += 1

    assert taken / 5.0 == pytest.approx(rate_of(pace), rel=0.05)


def test_without_a_configured_rate_the_first_refusal_teaches_one():
    """The pace becomes what succeeded before, doubles each second, and then saws."""
    pace = Pace(Rates())
    for k in range(200):  # 20 answers a second for ten seconds
        pace.after_success(k * 0.05, started_at=k * 0.05)
    assert pace.rate_per_s is None
    pace.after_limit(10.0, 1.0, started_at=9.9)
    assert pace.rate_per_s == pytest.approx(20.0, rel=0.1)
    now = succeed(pace, 11.0, 2.0)
    assert 60 < rate_of(pace) < 200
    refused_at = rate_of(pace)
    pace.after_limit(now, 1.0, started_at=now)

    assert pace.rate_per_s == pytest.approx(refused_at / 2)
    succeed(pace, now + 1.0, 0.1)
    assert refused_at * 0.55 < rate_of(pace) < refused_at


@pytest.mark.parametrize(("rates", "least"), [(Rates(), 1.0), (Rates(rpm=480), 8 * LEAST_SHARE)])
def test_an_upstream_that_only_refuses_is_still_asked(rates, least):
    """A pace has a floor, so nothing starves."""
    pace, now, paces = Pace(rates), 0.0, []
    for _ in range(20):
        now += 100.0
        pace.after_limit(now, 1.0, started_at=now)
        paces.append(pace.rate_per_s)

    assert min(paces) == paces[-1] == pytest.approx(least)


def test_tokens_slow_down_and_recover_with_calls():
    """One share holds for both; tokens never exceed what was configured."""
    pace = Pace(Rates(rpm=60, tpm=6000))
    pace.after_limit(0.0, 1.0, started_at=-1.0)
    assert rate_of(pace.tokens) == 50.0
    only = Pace(Rates(tpm=6000))
    only.after_limit(0.0, 1.0, started_at=-1.0)

    assert only.rate_per_s == 1.0
    succeed(only, 1.0, 3.0)
    assert only.share > 1.0
    assert rate_of(only.tokens) == 100.0


def test_without_adaptation_the_rate_stays_and_the_rest_still_holds():
    """`adaptive=False` means exactly the configured rate; headers are heeded unless that is off."""
    pace = Pace(Rates(rpm=60, adaptive=False, heeding=False))
    pace.after_limit(0.0, 3.0)
    pace.after_headers(
        0.0, {"ratelimit-remaining": "0", "ratelimit-reset": "60"}, unix_now=UNIX
    )  # fmt: skip

    assert pace.rate_per_s == 1.0
    assert pace.wait_s(0.0) == 3.0
    pace.rates = Rates(rpm=60, adaptive=False)
    pace.after_headers(
        0.0, {"ratelimit-remaining": "0", "ratelimit-reset": "60"}, unix_now=UNIX
    )  # fmt: skip
    assert pace.wait_s(0.0) == 60.0


def test_a_rest_holds_also_where_nothing_else_limits():
    """Neither a rate nor a learnt pace is needed for it."""
    pace = Pace(Rates(adaptive=False))
    pace.after_limit(0.0, 3.0)

    assert pace.rate_per_s is None
    assert (pace.wait_s(0.0), pace.wait_s(2.0), pace.wait_s(3.0)) == (3.0, 1.0, 0.0)


@given(st.integers(0, 20), st.floats(1, 100))
def test_no_more_calls_start_than_a_header_says_are_left(left, reset_s):
    """What is left is used up, and then nothing starts until it resets, or for a minute."""
    pace = Pace(Rates())
    headers = {"ratelimit-remaining": str(left), "ratelimit-reset": repr(reset_s)}
    pace.after_headers(50.0, headers, unix_now=UNIX)
    moments = [now for now, _ in drive(pace, [("start", 0.0)] * (left + 1))]

    assert all(now == 50.0 for now in moments[:left])
    assert moments[left] == pytest.approx(50.0 + min(reset_s, MAX_HEEDED_S))


def test_of_two_replies_the_one_that_leaves_less_counts():
    """Replies overtake each other; an old one does not bring back what is used."""
    pace = Pace(Rates())
    for left in ("1", "40"):
        headers = {"ratelimit-remaining": left, "ratelimit-reset": "10"}
        pace.after_headers(0.0, headers, unix_now=UNIX)
    pace.take(0.0)
    assert pace.wait_s(0.0) == 10.0

    headers = {"ratelimit-remaining": "40", "ratelimit-reset": "10"}
    pace.after_headers(10.0, headers, unix_now=UNIX)
    assert pace.wait_s(10.0) == 0


def test_a_call_larger_than_the_tokens_left_waits_for_the_reset():
    """A smaller one may still go."""
    pace = Pace(Rates())
    headers = {"x-ratelimit-remaining-tokens": "100", "x-ratelimit-reset-tokens": "10s"}
    pace.after_headers(0.0, headers, unix_now=UNIX)

    assert pace.wait_s(0.0, 101.0) == 10.0
    assert pace.wait_s(0.0, 100.0) == 0
    pace.take(0.0, 100.0)
    assert pace.wait_s(0.0) == 10.0


def test_a_turn_that_was_not_used_is_there_for_others():
    """Of the rate, of the tokens, and of what a header said is left."""
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "60s"}
    pace = Pace(Rates(rpm=60, tpm=6000, burst=1, adaptive=False))
    pace.after_headers(0.0, headers, unix_now=0.0)
    pace.take(0.0, 500.0)
    taken_s = pace.wait_s(0.0, 100.0)
    pace.give_back(500.0)

    assert taken_s > 0
    assert pace.wait_s(0.0, 100.0) == 0


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_what_a_call_really_used_counts(expected, used):
    """Expecting wrongly and settling is the same as having known."""
    guessed, knew = Pace(Rates(tpm=600)), Pace(Rates(tpm=600))
    guessed.take(0.0, expected)
    guessed.settle(0.0, expected=expected, used=used)
    knew.take(0.0, used)

    assert guessed.wait_s(0.0, 1.0) == pytest.approx(knew.wait_s(0.0, 1.0), abs=1e-5)
    Pace(Rates()).settle(0.0, expected=expected, used=used)


def test_a_pace_is_fresh_until_something_is_learnt_and_again_when_it_is_over():
    """What a limiter remembers is only forgotten when it no longer matters."""
    pace = Pace(Rates(rpm=60, tpm=600))
    assert pace.is_fresh(0.0)
    pace.take(0.0, 10.0)
    assert not pace.is_fresh(0.5)
    assert pace.is_fresh(1.5)
    pace.after_limit(2.0, 1.0)
    assert not pace.is_fresh(100.0)


def test_a_reset_far_away_holds_nobody_back_for_longer_than_a_minute():
    """A header on an answer is a hint; who means a day refuses, and that is obeyed."""
    pace = Pace(Rates())
    pace.after_headers(
        0.0, {"ratelimit-remaining": "0", "ratelimit-reset": "86400"}, unix_now=UNIX
    )  # fmt: skip

    assert pace.wait_s(0.0) == 60.0
    pace.after_limit(0.0, 86400.0)
    assert pace.wait_s(0.0) == 86400.0
