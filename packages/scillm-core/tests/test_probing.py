"""Slowing down only where that spares refusals: found by trying, in virtual time."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from scillm.resilience.limiter import Limiter
from scillm.resilience.limits import Rates
from scillm.resilience.pace import Pace
from scillm.resilience.probing import AGAIN_S, LEAST_PER_S, LONGEST_S, MOST_PER_S, Probing

RESTS_ONLY, PROBING = Rates(adaptive=False), Rates(adaptive=False, probing=True)
WIDTH = 64


class Counting:
    """An upstream with a token bucket of its own. Remembers it, and when it refused."""

    def __init__(self, rate, burst, *, says):
        self.rate, self.burst, self.says = rate, burst, says
        self.tokens, self.at = burst, 0.0
        self.refused_at = []

    def wait_s(self, now):
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        self.refused_at.append(now)
        return (1 - self.tokens) / self.rate if self.says is None else self.says


class AtRandom:
    """An upstream that refuses a share of all calls, whatever their pace."""

    def __init__(self, share, *, says, seed):
        self.share, self.says, self.luck = share, says, Random(seed)
        self.refused_at = []

    def wait_s(self, now):
        if self.luck.random() >= self.share:
            return None
        self.refused_at.append(now)
        return self.says


def answer_all(upstream, rates, calls=1000, took_s=0.02, answer_s=0.0):
    """Seconds until so many calls are answered by an upstream, each tried until it is.

    A refusal takes `took_s`, an answer `answer_s` longer.
    """

    async def ask(limiter, luck):
        while True:
            async with limiter.slot() as slot:
                await trio.sleep(took_s)
                wait_s = upstream.wait_s(trio.current_time())
                if wait_s is None:
                    if answer_s:
                        await trio.sleep(answer_s)
                    slot.succeeded()
                    return
                slot.limited(wait_s)
            await trio.sleep(wait_s * (1 + 0.25 * luck.random()))

    async def main():
        limiter, luck, left = Limiter(rates, clock=trio.current_time), Random(1), iter(range(calls))

        async def work():
            for _ in left:
                await ask(limiter, luck)

        async with trio.open_nursery() as nursery:
            for _ in range(WIDTH):
                nursery.start_soon(work)
        return trio.current_time()

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_an_upstream_that_counts_is_soon_refused_no_more():
    """A bucket of 200/s that names exact waits: rests alone are refused ten times per answer."""
    rests, probed = Counting(200, 20, says=None), Counting(200, 20, says=None)

    rests_s = answer_all(rests, RESTS_ONLY)
    probed_s = answer_all(probed, PROBING)

    assert len(rests.refused_at) > 5_000
    assert len(probed.refused_at) < 150
    assert len([at for at in probed.refused_at if at > 1.0]) < 20
    assert probed_s < 1.1 * (1000 - 20) / 200
    assert probed_s < 1.1 * rests_s


def test_an_upstream_that_names_long_waits_is_answered_sooner():
    """A bucket of 20/s that says one second: an even pace uses what the rests would waste."""
    rests, probed = Counting(20, 5, says=1.0), Counting(20, 5, says=1.0)

    rests_s = answer_all(rests, RESTS_ONLY, 600)
    probed_s = answer_all(probed, PROBING, 600)

    assert probed_s < 0.75 * rests_s
    assert len(probed.refused_at) < len(rests.refused_at) / 4


@pytest.mark.parametrize("says", [None, 1.0])
def test_a_pace_is_found_where_answers_take_long_and_refusals_come_at_once(says):
    """Answers after 2 s from a bucket of 20/s: calls that are out for long count as let in."""
    upstream = Counting(20, 20, says=says)

    took_s = answer_all(upstream, PROBING, 600, answer_s=2.0)

    assert took_s < 1.1 * ((600 - 20) / 20 + 2.0)
    assert len(upstream.refused_at) < 150


def test_an_upstream_that_answers_slowly_and_refuses_at_random_is_not_slowed():
    """Where only refusals have come so far, they are not taken for all there is."""
    rests, probed = (AtRandom(0.3, says=0.5, seed=1) for _ in range(2))

    rests_s = answer_all(rests, RESTS_ONLY, 600, answer_s=2.0)
    probed_s = answer_all(probed, PROBING, 600, answer_s=2.0)

    assert probed_s < rests_s + 2.0


def test_an_upstream_that_refuses_at_random_is_not_slowed():
    """30 % whatever the pace: at most a trial a minute, and not one request more."""
    for seed in range(3):
        rests, probed = (AtRandom(0.3, says=0.1, seed=seed) for _ in range(2))

        rests_s = answer_all(rests, RESTS_ONLY)
        probed_s = answer_all(probed, PROBING)

        assert probed_s < rests_s + 1.5
        assert len(probed.refused_at) == len(rests.refused_at)


OUTCOMES = st.lists(
    st.tuples(st.floats(0, 3), st.floats(0, 20), st.booleans(), st.booleans()), max_size=300
)


def noted(probing, outcomes):
    now = 0.0
    for passed_s, took_s, refused, held_back in outcomes:
        now += passed_s
        probing.note(
            now,
            started_at=max(0.0, now - took_s),
            refused=refused,
            held_back=held_back,
            rest_until=now + refused,
        )
        yield now


@given(OUTCOMES)
def test_a_pace_stays_within_its_bounds_whatever_happens(outcomes):
    """Never below one call a second; and none at all in the state that holds nobody back."""
    probing = Probing()

    for _now in noted(probing, outcomes):
        assert (probing.rate_per_s is None) == (probing.state == "free")
        assert probing.rate_per_s is None or probing.rate_per_s >= LEAST_PER_S


@given(OUTCOMES)
def test_who_is_never_refused_is_never_held_back(outcomes):
    """Nothing is tried without refusals."""
    probing = Probing()

    for _now in noted(probing, [(p, t, False, h) for p, t, _, h in outcomes]):
        assert probing.state == "free"


def many(probing, now, *, answered, refused, over_s):
    """So many outcomes, evenly mixed, over some seconds; returns the time after them."""
    count = answered + refused
    for n in range(count):
        now += over_s / count
        is_refused = n * refused // count != (n + 1) * refused // count
        probing.note(
            now, started_at=now - 0.001, refused=is_refused, held_back=True, rest_until=0.0
        )
    return now


def test_a_trial_that_does_not_help_is_not_repeated_for_a_minute_then_two():
    """Refused as before: calls are held back no longer, and the next trial is further away."""
    probing, now, trials = Probing(), 100.0, []
    for _ in range(4_000):
        was = probing.state
        now = many(probing, now, answered=7, refused=3, over_s=0.1)
        if probing.state == "trial" != was:
            trials.append(now)

    gaps = [later - first for first, later in pairwise(trials)]
    assert gaps[:3] == sorted(gaps[:3])
    assert AGAIN_S < gaps[0] < AGAIN_S + 2 * LONGEST_S
    assert 2 * AGAIN_S < gaps[1] < 2 * AGAIN_S + 2 * LONGEST_S


def test_a_trial_that_helps_a_little_goes_on_slower():
    """Half refused, then a quarter, then none: two steps down, then the pace is kept."""
    probing = Probing()
    now = many(probing, 100.0, answered=15, refused=15, over_s=0.3)
    first = probing.rate_per_s
    now = many(probing, now, answered=24, refused=8, over_s=1.0)
    second = probing.rate_per_s
    many(probing, now, answered=40, refused=0, over_s=1.0)

    assert first > second > 0
    assert probing.state == "kept"


def kept():
    probing = Probing()
    now = many(probing, 100.0, answered=15, refused=15, over_s=0.3)
    return probing, many(probing, now, answered=30, refused=0, over_s=1.0)


def test_a_pace_that_helps_climbs_and_steps_back_once_for_a_herd():
    """Faster until a refusal, three quarters then, a quarter faster each second, and careful where
    it was refused."""
    probing, now = kept()
    before = probing.rate_per_s
    now = many(probing, now, answered=60, refused=0, over_s=3.0)
    climbed = probing.rate_per_s
    for _ in range(5):
        probing.note(now + 0.1, started_at=now + 0.05, refused=True, held_back=True, rest_until=now)
    stepped = probing.rate_per_s
    many(probing, now, answered=40, refused=0, over_s=9.0)

    assert climbed > 1.5 * before
    assert stepped == 0.75 * climbed
    assert stepped < probing.rate_per_s < 1.2 * climbed


def test_a_pace_that_was_never_refused_doubles():
    """Each quarter of a second that brings ten answers, and each half that brings fewer."""
    many_answers, now = kept()
    few_answers, later = kept()
    start = many_answers.rate_per_s
    many(many_answers, now, answered=101, refused=0, over_s=1.01)
    many(few_answers, later, answered=12, refused=0, over_s=1.2)

    assert many_answers.rate_per_s == start * 2**4
    assert few_answers.rate_per_s == start * 2**2


def test_a_refusal_brings_the_pace_to_what_was_let_in():
    """Tried at 108 a second, let in at 50: just below 50, not three quarters of 108."""
    probing, now = kept()
    now = many(probing, now, answered=40, refused=0, over_s=0.51)
    before = probing.rate_per_s
    for _ in range(20):
        now += 0.02
        probing.note(now, started_at=now, refused=False, held_back=False, rest_until=0.0)
    now += 0.02
    probing.note(now, started_at=now, refused=True, held_back=True, rest_until=now)

    assert before > 100
    assert probing.rate_per_s == pytest.approx(0.97 * 50, rel=0.1)


def test_refusals_that_come_before_the_answers_are_no_reason_to_hurry():
    """30 of 64 calls were refused, 12 answered: the others may yet be answered."""
    probing = Probing()
    for _ in range(64):
        probing.began(100.0)
    for n in range(42):
        probing.note(100.1, started_at=100.0, refused=n >= 12, held_back=False, rest_until=100.1)

    assert probing.state == "free"


def test_a_herd_that_is_mostly_refused_is_not_waited_out():
    """Before the window of 0.25 s ends: half the answers per second so far."""
    probing = Probing()
    many(probing, 100.0, answered=12, refused=18, over_s=0.1)

    assert probing.state == "trial"
    assert probing.rate_per_s == pytest.approx(0.5 * 12 / 0.1, rel=0.05)


def test_what_was_in_a_full_bucket_is_not_a_pace():
    """25 answers at once, then 14 in 0.2 s with refusals between them: 70 a second, not 160."""
    probing = Probing()
    now = many(probing, 100.0, answered=25, refused=0, over_s=0.05)
    many(probing, now, answered=14, refused=7, over_s=0.201)

    assert probing.state == "trial"
    assert probing.rate_per_s == pytest.approx(0.9 * 14 / 0.2, rel=0.1)


def test_calls_that_nobody_held_back_prove_no_faster_pace():
    """Success without a line says nothing about going faster."""
    probing, now = kept()
    before = probing.rate_per_s
    for n in range(20):
        at = now + n
        probing.note(at, started_at=at, refused=False, held_back=False, rest_until=0.0)

    assert probing.rate_per_s == before


def test_a_pace_that_stops_helping_is_given_up():
    """What was a bucket refuses at random now: calls go free again."""
    probing, now = kept()

    many(probing, now, answered=42, refused=18, over_s=9.0)

    assert (probing.state, probing.rate_per_s) == ("free", None)


def test_few_refusals_in_a_long_time_teach_nothing():
    """Three calls a second, a third of them refused, is no basis; rests hold all the same."""
    probing = Probing()

    many(probing, 100.0, answered=200, refused=20, over_s=500.0)

    assert probing.state == "free"


def test_a_configured_rate_or_adapting_leaves_nothing_to_find_out():
    """`probing` is for upstreams of which nothing is known."""
    for rates in (Rates(rpm=60, adaptive=False, probing=True), Rates(probing=True)):
        pace = Pace(rates)
        for n in range(100):
            pace.after_limit(n / 100, 0.0)

        assert pace._probing is None


def test_a_turn_that_was_given_back_was_not_let_in():
    """20 calls a refusal overtook on their way to a second limiter are no sign that it is open."""
    pace = Pace(PROBING)
    for _ in range(20):
        pace.take(100.0)
    for _ in range(20):
        pace.give_back()
    for n in range(31):
        at = 100.0 + n / 100
        pace.take(at)
        pace.after_limit(at + 0.005, 0.005, started_at=at)

    assert pace.rate_per_s == LEAST_PER_S


def test_a_limiter_that_holds_back_is_not_forgotten():
    """What was found out lasts, although nobody waits just now."""
    pace, now = Pace(PROBING), 100.0
    for n in range(80):
        now += 0.01
        outcome = pace.after_success if n % 2 else pace.after_limit
        outcome(now, started_at=now - 0.001)

    assert pace.rate_per_s is not None
    assert pace.rate_per_s <= MOST_PER_S
    assert not pace.is_fresh(now + 1000.0)
