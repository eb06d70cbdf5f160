"""The limiter: turns in order, rests that stop a herd, cancellation, several event loops."""

from __future__ import annotations

import threading
from functools import partial
from itertools import pairwise

import anyio
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from scillm.errors import RateLimitError
from scillm.resilience.limiter import Limiter
from scillm.resilience.limits import Rates

EACH = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def virtual(main, *args):
    """Run `main` on a clock that jumps to the next wake-up whenever everybody sleeps."""
    return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))


def limiter(**rates):
    return Limiter(Rates(**rates), clock=trio.current_time)


async def all_of(function, count):
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(function, number)


@settings(max_examples=25)
@given(st.floats(0.5, 200), st.integers(1, 10), st.integers(1, 60))
def test_n_calls_at_rate_r_and_burst_b_take_at_least_n_minus_b_over_r(rate, burst, count):
    """And no longer than that: a crowd of tasks is let through in order, at the rate."""
    order, moments = [], []

    async def main():
        line = limiter(rpm=rate * 60, burst=burst)

        async def call(number):
            await trio.sleep(number * 1e-6)
            async with line.slot():
                order.append(number)
                moments.append(trio.current_time())

        started = trio.current_time()
        await all_of(call, count)
        return trio.current_time() - started

    took = virtual(main)

    least = max(count - burst, 0) / rate
    assert least - 1e-4 <= took <= least + 1e-2
    assert order == sorted(order)


@settings(max_examples=25)
@given(st.integers(1, 8), st.lists(st.floats(0, 3), min_size=1, max_size=40))
def test_never_more_in_the_air_than_there_is_room_for(room, lengths):
    """However long calls take, concurrency holds, is used up fully, and order holds."""
    seen, order = [], []

    async def main():
        line = limiter(max_concurrency=room)

        async def call(number):
            await trio.sleep(number * 1e-6)
            async with line.slot():
                order.append(number)
                seen.append(line.in_flight)
                await trio.sleep(lengths[number])

        await all_of(call, len(lengths))
        return line.in_flight, line.waiting

    left = virtual(main)

    assert max(seen) <= room
    assert order == sorted(order)
    assert left == (0, 0)


@settings(max_examples=40)
@given(st.data())
def test_cancelled_calls_leave_nothing_behind(data):
    """Waiters and running calls cancelled at any moment block nobody and leak no slot or token."""
    room = data.draw(st.integers(1, 4))
    patience = data.draw(st.lists(st.floats(0, 4), min_size=1, max_size=25))
    done = []

    async def main():
        line = limiter(rpm=600, burst=2, max_concurrency=room)

        async def call(number):
            with trio.move_on_after(patience[number]):
                async with line.slot():
                    await trio.sleep(0.5)

        await all_of(call, len(patience))
        assert (line.in_flight, line.waiting) == (0, 0)
        with trio.fail_after(1.5):
            async with line.slot():
                done.append(line.in_flight)

    virtual(main)

    assert done == [1]


def test_a_cancelled_waiter_takes_no_token():
    """Those behind it move up: a hundred cancelled waiters cost the next call nothing."""

    async def main():
        line = limiter(rpm=60, burst=1)
        async with line.slot():
            pass

        async def impatient(_):
            with trio.move_on_after(0.5):
                async with line.slot():
                    raise AssertionError("it was not its turn")

        await all_of(impatient, 100)
        async with line.slot() as slot:
            return trio.current_time(), slot.waited_s

    now, waited = virtual(main)

    assert waited == pytest.approx(0.5, abs=1e-4)
    assert now == pytest.approx(1.0, abs=1e-4)


def test_when_the_first_in_line_gives_up_the_next_takes_over():
    """Nobody else has to end a call for that."""

    async def main():
        line = limiter(rpm=60, burst=1)
        moments = []

        async def call(_):
            async with line.slot():
                moments.append(trio.current_time())
                await trio.sleep(1000)

        async def impatient(_):
            with trio.move_on_after(0.5):
                async with line.slot():
                    raise AssertionError("it was not its turn")

        async with trio.open_nursery() as nursery:
            for function in (call, impatient, call, call):
                nursery.start_soon(function, 0)
                await trio.sleep(0.01)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
        return moments, line.in_flight, line.waiting

    moments, *left = virtual(main)

    assert moments == pytest.approx([0, 1, 2], abs=1e-3)
    assert left == [0, 0]


def test_room_made_twice_at_once_is_used_twice_at_once():
    """Two calls that end in the same moment let two waiters in, however long the first takes."""

    async def main():
        line = limiter(max_concurrency=2)
        moments = []

        async def call(length):
            async with line.slot():
                moments.append(trio.current_time())
                await trio.sleep(length)

        async with trio.open_nursery() as nursery:
            for length in (1, 1, 50, 50):  # trio starts tasks of one moment in any order
                nursery.start_soon(call, length)
                await trio.testing.wait_all_tasks_blocked()
        return moments

    assert virtual(main) == pytest.approx([0, 0, 1, 1], abs=1e-6)


def test_a_held_place_is_kept_after_its_slot_and_given_back_once():
    """A stream that outlives its slot still takes up room, until it ends."""

    async def main():
        line = limiter(max_concurrency=1)
        async with line.slot():
            line.hold()
        with trio.move_on_after(5):
            async with line.slot():
                raise AssertionError("there was no room")
        line.leave()
        async with line.slot() as slot:
            return slot.waited_s, line.in_flight

    assert virtual(main) == (0.0, 1)


@EACH
def test_a_newcomer_does_not_overtake_the_line(backend):
    """Who leaves and asks again stands behind those who waited, even if the room is still free."""
    order = []

    async def waits(line):
        async with line.slot():
            order.append("the one who waited")

    async def main():
        line = Limiter(Rates(max_concurrency=1))
        async with anyio.create_task_group() as group:
            async with line.slot():
                group.start_soon(waits, line)
                await anyio.wait_all_tasks_blocked()
            async with line.slot():
                order.append("the newcomer")

    anyio.run(main, backend=backend)

    assert order == ["the one who waited", "the newcomer"]


@pytest.mark.parametrize("room", [4, None])
def test_one_refusal_holds_the_herd_until_the_rest_ends_and_then_lets_it_go_paced(room):
    """200 calls at once: after the first refusal is known, none starts in the rest."""
    starts, known = [], []

    async def main():
        line = limiter(max_concurrency=room, rpm=6000, burst=4)

        async def call(_):
            async with line.slot() as slot:
                starts.append(trio.current_time())
                await trio.sleep(0.05)
                if not known:
                    known.append(trio.current_time())
                    slot.limited(10.0)

        await all_of(call, 200)

    virtual(main)

    refused_at, rest_ends = known[0], known[0] + 10.0
    assert not [t for t in starts if refused_at < t < rest_ends - 1e-5]
    assert len([t for t in starts if t <= refused_at]) <= (room or 10)
    later = [t for t in starts if t > refused_at]
    gaps = [b - a for a, b in pairwise(later)]
    assert min(gaps) >= 0.01 - 1e-5
    assert len(starts) == 200


def test_calls_in_the_air_are_refused_once_and_come_back_paced():
    """Without any limit configured 200 calls leave at once; their return is no second herd."""
    starts = []

    async def main():
        line = limiter()
        rest_ends = [0.0]

        async def call(_):
            while True:
                async with line.slot() as slot:
                    starts.append(trio.current_time())
                    await trio.sleep(0.1)
                    rest_ends[0] = rest_ends[0] or trio.current_time() + 5.0
                    if slot.started_at >= rest_ends[0] - 1e-5:
                        slot.succeeded()
                        return
                    slot.limited(rest_ends[0] - trio.current_time())

        await all_of(call, 200)

    virtual(main)

    assert len(starts) == 400
    back = [t for t in starts if t > 1]
    assert min(back) >= 5.1 - 1e-5
    assert len([t for t in back if t < 6.1]) <= 4
    assert max(back) < 60


def test_those_who_waited_for_a_rest_leave_together():
    """40 calls are on their way within a few turns of the event loop, not one in each turn.

    On asyncio; trio's loop runs what is ready in any order, and the line lets nobody pass.
    """
    left_in, turns, over = [], [0], anyio.Event()

    async def main():
        line = Limiter(Rates(adaptive=False))
        line.limited(0.05)

        async def call(_):
            async with line.slot():
                left_in.append(turns[0])
                if len(left_in) == 40:
                    over.set()
                await over.wait()

        async def count():
            while not over.is_set():
                turns[0] += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(count)
            for n in range(40):
                group.start_soon(call, n)

    anyio.run(main, backend="asyncio")

    assert len(left_in) == 40
    assert left_in[-1] - left_in[0] <= 4


def test_a_slower_pace_holds_for_those_who_wait_already():
    """Waiters were promised a turn, not a time."""

    async def main():
        line = limiter(rpm=60, burst=1)
        moments = []

        async def call(_):
            async with line.slot():
                moments.append(trio.current_time())

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(call, number)
            await trio.sleep(0.5)
            line.limited(10.0)
        return moments

    assert virtual(main) == pytest.approx([0, 10.5, 12.5, 14.5], abs=1e-3)


def test_a_wait_that_does_not_fit_is_refused_at_once():
    """The error says how long it would be, and nothing was taken."""

    async def main():
        line = limiter(rpm=60, burst=1)
        async with line.slot(max_wait_s=0):
            pass
        with pytest.raises(RateLimitError, match="Nothing was sent") as caught:
            async with line.slot(max_wait_s=0.5):
                raise AssertionError("it was let in")
        assert trio.current_time() == 0
        async with line.slot(max_wait_s=1.0):
            return caught.value.retry_after, trio.current_time()

    assert virtual(main) == pytest.approx((1.0, 1.0), abs=1e-4)


def test_the_line_is_counted_when_a_wait_is_judged():
    """Five in line at one a second: the sixth that has three seconds is told at once."""

    async def main():
        line = limiter(rpm=60, tpm=60000, burst=1)

        async def call(_):
            async with line.slot(100):
                pass

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(call, number)
            await trio.sleep(0.1)
            assert line.waiting == 5
            assert line.wait_s(100) == pytest.approx(5.9)
            with pytest.raises(RateLimitError) as caught:
                async with line.slot(100, max_wait_s=3):
                    raise AssertionError("it was let in")
            return caught.value.retry_after

    assert virtual(main) == pytest.approx(5.9, abs=1e-3)


def test_a_rest_announced_meanwhile_releases_those_who_cannot_wait_for_it():
    """Who has 5 s and now learns of a rest of 60 s hears it soon, anywhere in the line."""

    async def main():
        line = limiter(rpm=60, burst=1, max_concurrency=1)
        gave_up = []

        async def call(_):
            try:
                async with line.slot(max_wait_s=5):
                    await trio.sleep(2.5)
            except RateLimitError:
                gave_up.append(trio.current_time())

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(call, number)
            await trio.sleep(1)
            line.limited(60)
        return gave_up

    assert virtual(main) == pytest.approx([1.0, 1.0], abs=1e-3)


def test_expected_and_used_tokens_count():
    """A call that used less than expected lets the next one go earlier."""

    async def main():
        line = limiter(tpm=6000)  # 100 a second
        async with line.slot(1100) as slot:
            slot.used(300)
        async with line.slot(100):
            return trio.current_time()

    assert virtual(main) == pytest.approx(3.0, abs=1e-3)


def test_headers_are_heeded_on_success_and_on_refusal():
    """What a reply says is left holds for all."""
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "7"}

    async def main():
        line = limiter()
        async with line.slot() as slot:
            slot.succeeded(headers)
        async with line.slot() as slot:
            first = slot.waited_s
            slot.limited(1.0, headers)
        async with line.slot() as slot:
            return first, slot.waited_s

    assert virtual(main) == pytest.approx((7.0, 7.0), abs=1e-3)


def test_reports_say_how_things_are():
    """Rate, rest and line can be shown to a person."""
    now = [100.0]
    line = Limiter(Rates(rpm=120), clock=lambda: now[0])
    assert (line.rate_per_s, line.rest_s(), line.wait_s(), line.is_idle()) == (2.0, 0, 0, True)
    line.limited(30.0)

    assert (line.rate_per_s, line.rest_s(), line.wait_s()) == (1.0, 30.0, 30.0)
    assert not line.is_idle()


@EACH
def test_sleep_and_clock_can_be_replaced(backend):
    """Virtual time also without trio: the given sleep is the only one used."""
    now, slept = [0.0], []

    async def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds
        await anyio.lowlevel.checkpoint()

    async def main():
        line = Limiter(Rates(rpm=6, burst=1), clock=lambda: now[0], sleep=sleep)
        for _ in range(3):
            async with line.slot():
                pass

    anyio.run(main, backend=backend)

    assert now[0] == pytest.approx(20.0, abs=1e-3)
    assert max(slept) <= 1.0


@pytest.mark.parametrize("backends", [("asyncio", "asyncio"), ("asyncio", "trio")])
def test_one_limiter_serves_several_event_loops(backends):
    """Room freed on one loop wakes a waiter on another, and nobody is forgotten."""
    line = Limiter(Rates(max_concurrency=2))
    counts, most, lock = [0, 0], [], threading.Lock()

    async def worker(which, _):
        for _ in range(20):
            async with line.slot():
                with lock:
                    counts[which] += 1
                    most.append(line.in_flight)
                await anyio.sleep(0.0005)

    def loop(which):
        async def main():
            with anyio.fail_after(20):
                await all_of(partial(worker, which), 6)

        anyio.run(main, backend=backends[which])

    threads = [threading.Thread(target=loop, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert counts == [120, 120]
    assert max(most) == 2
    assert (line.in_flight, line.waiting) == (0, 0)


def test_a_waiter_whose_loop_is_gone_does_not_block_the_others():
    """A loop that was thrown away without ending its tasks is passed over."""
    import asyncio

    line = Limiter(Rates(max_concurrency=1))
    entered, go, gone = threading.Event(), threading.Event(), threading.Event()

    async def hold():
        async with line.slot():
            entered.set()
            await anyio.to_thread.run_sync(go.wait, 10)

    async def later():
        with anyio.fail_after(5):
            async with line.slot():
                return "in"

    async def wait_for_ever():
        async with line.slot():
            raise AssertionError("it was let in on a dead loop")

    def abandon():
        loop = asyncio.new_event_loop()
        kept.append(loop.create_task(wait_for_ever()))
        while not line.waiting:
            loop.call_soon(loop.stop)
            loop.run_forever()
        kept[0]._log_destroy_pending = False
        loop.close()
        gone.set()

    kept = []
    threads = [threading.Thread(target=anyio.run, args=(hold,))]
    threads[0].start()
    assert entered.wait(5)
    threads.append(threading.Thread(target=abandon))
    threads[1].start()
    assert gone.wait(5)
    go.set()
    for thread in threads:
        thread.join(5)

    assert anyio.run(later) == "in"
    assert line.waiting == 0
    kept[0].get_coro().close()


@EACH
def test_a_free_limiter_lets_a_call_in_without_giving_up_its_turn(backend):
    """The fast path neither sleeps nor yields."""
    steps = []

    async def other():
        steps.append("other")

    async def main():
        line = Limiter(Rates(rpm=6000, max_concurrency=2))
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            async with line.slot():
                steps.append("in")

    anyio.run(main, backend=backend)

    assert steps == ["in", "other"]
