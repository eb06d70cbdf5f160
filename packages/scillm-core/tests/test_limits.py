"""Rates and the token bucket: what may start when."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UsageError
from scillm.plugins.settings import load
from scillm.resilience.limits import GRAIN_S, Bucket, Rates, bucket_of, rates_from

rates = st.floats(0.01, 1000)
bursts = st.integers(1, 50)
starts = st.floats(0, 1e6)
gaps = st.lists(st.one_of(st.just(0.0), st.floats(0, 5)), min_size=1, max_size=80)
SLACK = 1e-6


def waited(bucket, now, gaps):
    """Moments at which callers start who each ask `gap` after the one before started."""
    moments = []
    for gap in gaps:
        now += gap
        while wait := bucket.wait_s(now):
            now += wait
        bucket.take(now)
        moments.append(now)
    return moments


@given(rates, bursts, starts, gaps)
def test_n_acquisitions_take_at_least_n_minus_b_over_r(rate, burst, now, gaps):
    """However callers come, N acquisitions at rate r and burst b take at least (N - b) / r."""
    moments = waited(Bucket(rate=rate, burst=burst), now, gaps)

    least = (len(gaps) - burst) / rate
    assert moments[-1] - now >= least - SLACK * (1 + least)


@given(rates, bursts, starts, gaps)
def test_no_window_of_any_length_holds_more_than_b_plus_r_t(rate, burst, now, gaps):
    """Not only from the start: between any two acquisitions the same bound holds."""
    moments = waited(Bucket(rate=rate, burst=burst), now, gaps)

    for i, first in enumerate(moments):
        for j in range(i, len(moments)):
            count = j - i + 1
            assert count <= burst + rate * (moments[j] - first + 2 * GRAIN_S) * (1 + 1e-9) + SLACK


@given(rates, bursts, st.floats(1, 1e6))
def test_an_idle_bucket_gathers_no_more_than_its_burst(rate, burst, idle_s):
    """After any idle time, `burst` calls start at once and the next one waits."""
    bucket = Bucket(rate=rate, burst=burst)
    bucket.take(0.0)
    now = (burst + 1) / rate + idle_s
    moments = waited(bucket, now, [0.0] * (burst + 1))

    assert moments[burst - 1] == now
    assert moments[burst] == pytest.approx(now + 1 / rate)
    assert bucket.wait_s(moments[burst]) > 0


@given(rates, bursts, starts, gaps)
def test_reservations_start_in_order_and_keep_the_same_bound(rate, burst, now, gaps):
    """A reservation made later never starts earlier, and all of them keep to rate and burst."""
    bucket, first, moments = Bucket(rate=rate, burst=burst), now, []
    for gap in gaps:
        now += gap
        moments.append(now + bucket.reserve(now))

    assert all(a <= b + 2 * SLACK for a, b in pairwise(moments))
    least = (len(gaps) - burst) / rate
    assert moments[-1] - first >= least - SLACK * (1 + least)


@given(rates, bursts, starts)
def test_nobody_waits_longer_than_the_line_needs(rate, burst, now):
    """The bucket wastes nothing: the N-th of a crowd starts (N - b) / r after the first."""
    moments = waited(Bucket(rate=rate, burst=burst), now, [0.0] * (burst + 10))

    assert moments[-1] - now == pytest.approx(10 / rate, rel=1e-6, abs=1e-5)


@given(rates, bursts, st.floats(1, 10_000))
def test_a_call_larger_than_the_burst_starts_and_is_paid_off(rate, burst, amount):
    """It starts when the bucket is full, and the next one waits until it is paid off."""
    bucket = Bucket(rate=rate, burst=burst)

    assert bucket.wait_s(0.0, amount) == 0
    bucket.take(0.0, amount)
    debt = max(amount + 1 - burst, 0) / rate
    assert bucket.wait_s(0.0) == pytest.approx(debt, abs=1e-5, rel=1e-6)


@given(rates, bursts, st.integers(0, 100), st.floats(1, 60))
def test_those_ahead_are_counted(rate, burst, ahead, amount):
    """A forecast for a place in line is what waiting behind the others gives."""
    forecast = Bucket(rate=rate, burst=burst).wait_s(0.0, amount, ahead=ahead)
    bucket = Bucket(rate=rate, burst=burst)
    for _ in range(ahead):
        bucket.take(0.0)

    assert forecast == pytest.approx(bucket.wait_s(0.0, amount), abs=1e-5)


@given(rates, bursts, st.floats(0, 100), rates)
def test_a_change_of_rate_keeps_what_is_missing(rate, burst, amount, new_rate):
    """A slower bucket does not forget what was taken at the old rate."""
    bucket = Bucket(rate=rate, burst=burst)
    bucket.take(10.0, amount)
    bucket.set_rate(10.0, new_rate)

    assert (bucket.full_at - 10.0) * new_rate == pytest.approx(amount, abs=1e-4, rel=1e-4)
    assert bucket.rate == new_rate


def test_a_full_bucket_stays_full_when_its_rate_changes():
    """Nothing is missing, so nothing is rescaled."""
    bucket = Bucket(rate=1.0, burst=2.0, full_at=3.0)
    bucket.set_rate(10.0, 5.0)

    assert bucket.full_at == 3.0
    assert bucket.wait_s(10.0, 2.0) == 0


@given(rates, bursts, st.floats(0, 50))
def test_what_is_given_back_can_be_taken_again(rate, burst, amount):
    """Tokens that were expected and not used cost nobody anything."""
    bucket, other = Bucket(rate=rate, burst=burst), Bucket(rate=rate, burst=burst)
    for one in (bucket, other):
        one.take(0.0, 3.0)
    bucket.take(0.0, amount)
    bucket.give_back(amount)

    assert bucket.wait_s(0.0) == pytest.approx(other.wait_s(0.0), abs=1e-5)


@given(rates, bursts, st.floats(1, 100))
def test_after_a_drain_calls_leave_one_by_one(rate, burst, until):
    """A bucket that filled up during a rest does not let a burst go at its end."""
    bucket = Bucket(rate=rate, burst=burst)
    bucket.drain(until)

    moments = waited(bucket, until, [0.0] * 5)
    assert moments == pytest.approx([until + k / rate for k in range(5)], abs=1e-4, rel=1e-6)


def test_a_clock_that_stands_or_goes_back_gives_nothing_away():
    """Time that does not pass fills nothing."""
    bucket = Bucket(rate=1.0, burst=1.0)
    bucket.take(100.0)

    assert bucket.wait_s(100.0) == 1.0
    assert bucket.wait_s(90.0) == 11.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"rpm": 0}, {"rpm": -1}, {"tpm": 0}, {"rpm": inf}, {"rpm": float("nan")}, {"burst": 0.5},
        {"max_concurrency": 0}, {"cooldown_s": -1}, {"rpm": "60"}, {"tpm": True},
    ],
)  # fmt: skip
def test_rates_that_would_stop_everything_are_refused(wrong):
    """A limit of 0 calls is a mistake, said at once and by name."""
    (name,) = wrong

    with pytest.raises(UsageError, match=f"^{name} must be .*leave it out"):
        Rates(**wrong)


def test_the_settings_become_rates():
    """SCILLM_RATE_LIMIT_QPS, SCILLM_MAX_CONCURRENCY and SCILLM_COOLDOWN_429_S count."""
    environ = {
        "SCILLM_RATE_LIMIT_QPS": "2.5",
        "SCILLM_MAX_CONCURRENCY": "7",
        "SCILLM_COOLDOWN_429_S": "120",
    }

    assert rates_from(load(environ)) == Rates(rpm=150.0, max_concurrency=7, cooldown_s=120.0)
    assert rates_from(load({})) == Rates()
    with pytest.raises(UsageError, match="rpm must be a number above 0"):
        rates_from(load({"SCILLM_RATE_LIMIT_QPS": "0"}))


def test_a_bucket_holds_one_second_of_its_rate_unless_told_otherwise():
    """So a slow limit has no burst, and a fast one a short one."""
    assert bucket_of(None, 5.0) is None
    assert bucket_of(30.0, None) == Bucket(rate=0.5, burst=1.0)
    assert bucket_of(600.0, None) == Bucket(rate=10.0, burst=10.0)
    assert bucket_of(600.0, 3.0) == Bucket(rate=10.0, burst=3.0)
