"""`TokenBucket` and `AsyncTokenBucket`: the seeds' call forms, and they really limit."""

from __future__ import annotations

import threading
import time

import anyio
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from scillm.batch.buckets import AsyncTokenBucket, TokenBucket, token_bucket_from_env
from scillm.errors import SettingsError, UsageError

EACH = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Clock:
    """Virtual time; remembers every sleep."""

    def __init__(self):
        self.now = 0.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@given(st.floats(0.1, 100), st.integers(1, 8), st.integers(1, 40))
def test_n_acquires_take_n_minus_capacity_over_rate(rate, capacity, count):
    """Not less, and not more."""
    clock = Clock()
    bucket = TokenBucket(rate, capacity, clock=clock, sleep=clock.sleep)
    for _ in range(count):
        with bucket.acquire():
            pass

    assert clock.now == pytest.approx(max(count - capacity, 0) / rate, abs=1e-4)
    assert bucket.stats()["acquired"] == count


def test_max_sleep_s_bounds_one_sleep_and_never_lets_a_call_through():
    """A longer wait is slept in parts; parts that ended without a token are counted."""
    clock = Clock()
    bucket = TokenBucket(0.1, 1, max_sleep_s=2.0, name="slow", clock=clock, sleep=clock.sleep)
    for _ in range(2):
        bucket.acquire()

    assert clock.now == pytest.approx(10.0)
    assert max(clock.slept) == 2.0
    assert bucket.stats() == {
        "name": "slow", "acquired": 2, "slept_s_total": pytest.approx(10.0),
        "rejects": pytest.approx(5, abs=1), "last_sleep_s": pytest.approx(10.0),
    }  # fmt: skip


def test_threads_share_the_rate_but_not_the_body():
    """Ten tokens are there: ten bodies of 0.3 s run side by side, and nested acquires work."""
    bucket = TokenBucket(50, 10)
    together = threading.Barrier(5, timeout=10)

    def work():
        with bucket.acquire():
            together.wait()
            with bucket.acquire():
                pass

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert bucket.stats()["acquired"] == 10
    assert not together.broken


def test_many_threads_are_let_through_at_the_rate():
    """Five acquires at 20/s and capacity 1 take at least 0.2 s of real time."""
    bucket = TokenBucket(20, 1)
    threads = [threading.Thread(target=bucket.acquire) for _ in range(5)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert time.monotonic() - started >= 0.2 - 1e-3
    assert bucket.stats()["acquired"] == 5


def test_a_thread_that_gives_up_leaves_the_line():
    """After Ctrl-C in one waiter the next one is served, and no token is gone."""
    clock = Clock()
    interrupts = [KeyboardInterrupt]

    def sleep(seconds):
        if interrupts:
            raise interrupts.pop()
        clock.sleep(seconds)

    bucket = TokenBucket(1, 1, clock=clock, sleep=sleep)
    bucket.acquire()
    with pytest.raises(KeyboardInterrupt):
        bucket.acquire()
    bucket.acquire()

    assert clock.now == pytest.approx(1.0)
    assert bucket.stats()["acquired"] == 2


def test_those_who_wait_are_served_in_order():
    """The second in line moves up when the first is served."""
    clock, lock = Clock(), threading.Lock()
    reached, go, order = threading.Event(), threading.Event(), []

    def sleep(seconds):
        reached.set()
        assert go.wait(10)
        clock.sleep(seconds)

    bucket = TokenBucket(1, 1, clock=clock, sleep=sleep)
    bucket.acquire()

    def work(name):
        bucket.acquire()
        with lock:
            order.append(name)

    threads = []
    for name in "abc":
        threads.append(threading.Thread(target=work, args=(name,)))
        threads[-1].start()
        assert reached.wait(10)
        while len(bucket._line) < len(threads):
            threading.Event().wait(0.001)
    go.set()
    for thread in threads:
        thread.join(10)

    assert order == ["a", "b", "c"]


def test_twenty_async_acquires_at_five_a_second_take_nearly_four_seconds():
    """The earlier bucket let all twenty pass in 0.2 s; here it is (20 - 1) / 5 = 3.8."""

    async def main():
        bucket = AsyncTokenBucket(5, 1, name="five", clock=trio.current_time)
        moments = []

        async def call():
            async with await bucket.acquire():
                moments.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(call)
        return max(moments), bucket.stats()

    took, stats = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    assert took == pytest.approx(3.8, abs=1e-2)
    assert (stats["name"], stats["acquired"]) == ("five", 20)
    assert stats["slept_s_total"] == pytest.approx(sum(k / 5 for k in range(20)), abs=0.1)
    assert stats["last_sleep_s"] == pytest.approx(3.8, abs=1e-2)
    assert stats["rejects"] == pytest.approx(10, abs=1)  # those that waited 2 s or more


@EACH
def test_both_async_forms_take_one_token_each(backend):
    """`async with (await b.acquire())` and `async with b.acquire()` are the same."""

    async def main():
        bucket = AsyncTokenBucket(1000, 10)
        async with await bucket.acquire():
            pass
        async with bucket.acquire():
            pass
        token = await bucket.acquire()
        await token
        bucket.acquire()
        return bucket.stats()["acquired"]

    assert anyio.run(main, backend=backend) == 3


@EACH
def test_a_token_serves_one_body_only(backend):
    """Using it twice would be a call without a token."""

    async def main():
        token = AsyncTokenBucket(1000, 10).acquire()
        async with token:
            pass
        with pytest.raises(UsageError, match=r"Call `bucket\.acquire\(\)` once for each"):
            async with token:
                pass

    anyio.run(main, backend=backend)
    token = TokenBucket(1000, 10).acquire()
    with token:
        pass

    with pytest.raises(UsageError, match="once for each"), token:
        pass


def test_a_cancelled_task_takes_no_token():
    """The next one waits only for its own."""

    async def main():
        bucket = AsyncTokenBucket(1, 1, clock=trio.current_time)
        await bucket.acquire()
        with trio.move_on_after(0.25):
            await bucket.acquire()
        await bucket.acquire()
        return trio.current_time(), bucket.stats()["acquired"]

    now, acquired = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    assert (now, acquired) == (pytest.approx(1.0, abs=1e-3), 2)


@pytest.mark.parametrize("kind", [TokenBucket, AsyncTokenBucket])
@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ((0, 1), "rate_per_sec"), ((-1, 1), "rate_per_sec"), ((float("inf"), 1), "rate_per_sec"),
        ((1, 0), "capacity"), ((1, 1, 0), "max_sleep_s"),
        (("3", 1), "rate_per_sec"), ((True, 1), "rate_per_sec"), ((1, None), "capacity"),
    ],
)  # fmt: skip
def test_a_bucket_that_could_never_work_is_refused(kind, wrong, match):
    """A rate of 0 is said to be wrong instead of dividing by it later."""
    with pytest.raises(UsageError, match=match):
        kind(*wrong)


def test_the_environment_overrides_the_arguments():
    """SCILLM_BUCKET_RATE, _CAPACITY and _MAX_SLEEP_S; the arguments are the defaults."""
    clock = Clock()
    environ = {"SCILLM_BUCKET_RATE": "0.5", "SCILLM_TIMEOUT_S": "wrong, but another's"}
    bucket = token_bucket_from_env(3.0, 6, 2.0, name="mine", environ=environ)
    bucket._clock, bucket._sleep = clock, clock.sleep
    for _ in range(7):
        bucket.acquire()

    assert clock.now == pytest.approx(2.0)
    assert bucket.stats()["name"] == "mine"
    with pytest.raises(SettingsError, match="SCILLM_BUCKET_CAPACITY must be a number"):
        token_bucket_from_env(environ={"SCILLM_BUCKET_CAPACITY": "many"})
    with pytest.raises(UsageError, match="capacity must be at least 1"):
        token_bucket_from_env(environ={"SCILLM_BUCKET_CAPACITY": "0"})
