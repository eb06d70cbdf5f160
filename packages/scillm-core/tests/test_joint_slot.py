"""A place at a deployment and at its key: both rates hold, and no call starts in a rest."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scillm.errors import RateLimitError
from scillm.resilience.account import key_name
from scillm.resilience.limiter import Limiter
from scillm.resilience.limiter_book import LimiterBook
from scillm.resilience.limits import Rates

KEY, OTHER = "sk-joint-0123456789", "sk-other-0123456789"
GRAIN_S = 1e-3


def virtual_limiter(rates, name):
    return Limiter(rates, name=name, clock=trio.current_time)


def virtual_book(deployment=None, key=None):
    return LimiterBook(
        deployment_rates=deployment or Rates(adaptive=False),
        key_rates=key or Rates(adaptive=False),
        new=virtual_limiter,
    )


def virtual(main):
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def started(book, calls, *, rests=()):
    """When each call started: `calls` are (arrival, deployment, seconds in the air)."""
    moments = []

    async def call(arrival, name, took):
        await trio.sleep(arrival)
        async with book.slot(name, api_key=KEY):
            moments.append((trio.current_time(), name))
            await trio.sleep(took)

    async def rest(at, name, wait_s):
        await trio.sleep(at)
        book.deployment(name).limited(wait_s)

    async def main():
        with trio.fail_after(10_000):
            async with trio.open_nursery() as nursery:
                for one in calls:
                    nursery.start_soon(call, *one)
                for one in rests:
                    nursery.start_soon(rest, *one)

    virtual(main)
    return moments


def keeps_to(moments, rate, burst):
    """In any time t at most burst + rate * t calls start."""
    times = sorted(moments)
    return all(
        later - first + GRAIN_S >= (n - burst + 1) / rate
        for i, first in enumerate(times)
        for n, later in enumerate(times[i:])
    )


CALLS = st.lists(
    st.tuples(st.floats(0, 5), st.sampled_from("ab"), st.floats(0, 2)), min_size=1, max_size=25
)
RESTS = st.lists(st.tuples(st.floats(0, 8), st.sampled_from("ab"), st.floats(0.1, 5)), max_size=3)


@settings(deadline=None)
@example(calls=[(0.0, who, 0.0) for who in "baaab"], rests=[], own=4.0, shared=5.0)
@given(CALLS, RESTS, st.sampled_from([1.0, 4.0]), st.sampled_from([2.0, 5.0]))
def test_both_rates_hold_and_no_call_starts_in_a_rest(calls, rests, own, shared):
    """Whatever comes when: each deployment keeps to its rate, all together to the key's."""
    book = virtual_book(
        Rates(rpm=60 * own, burst=1, adaptive=False), Rates(rpm=60 * shared, burst=2)
    )

    moments = started(book, calls, rests=rests)

    assert len(moments) == len(calls)
    assert keeps_to([at for at, _ in moments], shared, 2)
    for name in "ab":
        assert keeps_to([at for at, who in moments if who == name], own, 1)
    for at, name, wait_s in rests:
        inside = (at + GRAIN_S, at + wait_s - GRAIN_S)
        assert not [m for m, who in moments if who == name and inside[0] < m < inside[1]]


def test_calls_of_a_deployment_start_in_the_order_they_came():
    """Also where a rest sends the first in line back to wait."""
    book = virtual_book(key=Rates(rpm=60, burst=1, adaptive=False))
    order = []

    async def call(number):
        async with book.slot("a", api_key=KEY):
            order.append(number)

    async def main():
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(call, number)
                await trio.sleep(0.01)
            book.deployment("a").limited(5.0)

    virtual(main)

    assert order == sorted(order)


def test_a_key_serves_its_deployments_in_turn():
    """A deployment with a long line does not keep its sibling from the key."""
    book = virtual_book(key=Rates(rpm=60, burst=1, adaptive=False))
    calls = [(0.0, "a", 0.0)] * 20 + [(0.5, "b", 0.0)] * 3

    moments = started(book, calls)

    assert [at for at, who in moments if who == "b"][-1] <= 8.0


def test_a_rest_at_a_deployment_costs_its_siblings_no_turns():
    """While one rests, the other has the whole rate of the key."""
    book = virtual_book(key=Rates(rpm=60, burst=1, adaptive=False))
    calls = [(0.0, "a", 0.0)] * 5 + [(0.0, "b", 0.0)] * 10

    moments = started(book, calls, rests=[(0.5, "a", 60.0)])

    assert [at for at, who in moments if who == "b"][-1] <= 12.0


def test_a_wait_that_does_not_fit_is_said_at_once():
    """Of the key as of the deployment, the line in front counted."""
    book = virtual_book(key=Rates(rpm=60, burst=1, adaptive=False))

    async def main():
        async with book.slot("a", api_key=KEY):
            pass
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            before = trio.current_time()
            with pytest.raises(RateLimitError) as caught:
                async with book.slot("a", api_key=KEY, max_wait_s=3.0):
                    pass
            nursery.cancel_scope.cancel()
            return trio.current_time() - before, caught.value.retry_after

    async def wait():
        async with book.slot("a", api_key=KEY):
            pass

    took, retry_after = virtual(main)

    assert took == 0
    assert retry_after > 3.0


def test_who_gives_up_in_line_keeps_nothing():
    """Cancelled at the gate, at the deployment or at the key: the next call starts on time."""
    book = virtual_book(Rates(max_concurrency=1), Rates(rpm=60, burst=1, adaptive=False))

    async def main():
        for _ in range(3):
            with trio.move_on_after(0.3):
                async with book.slot("a", api_key=KEY):
                    await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(wait)
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        await trio.sleep(5)
        before = trio.current_time()
        async with book.slot("a", api_key=KEY) as slot:
            return trio.current_time() - before, slot.waited_s

    async def wait():
        async with book.slot("a", api_key=KEY):
            await trio.sleep_forever()

    assert virtual(main) == (0, 0)
    one = (book.deployment("a"), book.key(KEY), book.gate("a"))
    assert [limiter.in_flight for limiter in one] == [0, 0, 0]
    assert [limiter.waiting for limiter in one] == [0, 0, 0]


def test_a_refusal_of_the_key_rests_all_who_have_it():
    """With `key_rests`; whoever has another key goes on."""
    book = virtual_book()

    async def main():
        async with book.slot("a", api_key=KEY, key_rests=True) as slot:
            slot.limited(30.0)
            resting = book.resting()
        async with book.slot("c", api_key=OTHER, key_rests=True):
            free = trio.current_time()
        async with book.slot("b", api_key=KEY, key_rests=True):
            return free, trio.current_time(), resting

    free, rested, resting = virtual(main)

    assert (free, rested) == (0, pytest.approx(30.0, abs=1e-3))
    assert list(resting) == [key_name(KEY)]


def test_headers_and_tokens_reach_the_one_they_are_about():
    """What a reply says is left is the key's with `key_rests`; tokens count for both."""
    book = virtual_book(key=Rates(tpm=6000, adaptive=False))
    spent = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7s"}

    async def main():
        async with book.slot("a", api_key=KEY, key_rests=True) as slot:
            slot.succeeded(spent)
        async with book.slot("b", api_key=KEY) as slot:
            after_headers = trio.current_time()
            slot.used(1100)
            assert slot.tokens == 1100
        async with book.slot("c", api_key=KEY):
            return after_headers, trio.current_time()

    assert virtual(main) == (pytest.approx(7.0, abs=1e-2), pytest.approx(17.0, abs=1e-2))


def test_a_stream_holds_both_places_until_it_is_closed():
    """`hold` gives back what it kept, once for both."""
    book = virtual_book(Rates(max_concurrency=1))

    async def main():
        async with book.slot("a", api_key=KEY) as slot:
            leave = slot.hold()
        held = book.deployment("a").in_flight, book.key(KEY).in_flight
        leave()
        return held

    assert virtual(main) == (1, 1)
    assert (book.deployment("a").in_flight, book.key(KEY).in_flight) == (0, 0)
