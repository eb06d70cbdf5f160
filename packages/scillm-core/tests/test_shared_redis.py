"""Pacing shared between processes, against a real redis-server of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import anyio
import pytest
from scillm.errors import EngineError, RateLimitError, UsageError
from scillm.resilience.limiter_book import LimiterBook
from scillm.resilience.limits import Rates
from scillm.resilience.shared_redis import RedisPacing
from support.redis_server import free_port, redis_server


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as served:
        yield served


def run(main, *args):
    return anyio.run(main, *args, backend="asyncio")


async def all_of(function, count):
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(function, number)


CHILD = """
import json, sys, time
import anyio
from scillm.resilience.limits import Rates
from scillm.resilience.shared_redis import RedisPacing

async def main(url, name, count):
    moments = []
    async with RedisPacing(url) as pacing:
        line = pacing.limiter(Rates(rpm=3000, burst=5), name)
        async def call():
            async with line.slot():
                moments.append(time.time())
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(call)
    print(json.dumps(moments))

anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


def test_processes_together_keep_to_one_rate(url):
    """Three processes of 20 calls each: 60 calls at 50/s and burst 5 take at least 1.1 s."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, url, "together", "20"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    moments = []
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        moments += json.loads(out)

    assert len(moments) == 60
    assert max(moments) - min(moments) >= (60 - 5) / 50 - 0.05


def test_a_rest_announced_by_one_holds_for_the_others_and_for_those_who_wait(url):
    """Another holder of the name, even one that had reserved before, starts after the rest."""

    async def main():
        async with RedisPacing(url) as pacing:
            rates = Rates(rpm=120, burst=1, adaptive=False)
            one, other = pacing.limiter(rates, "rest"), pacing.limiter(rates, "rest")
            moments = []

            async def waits(_):
                async with other.slot():
                    moments.append(time.monotonic())

            async with one.slot() as slot:
                slot.limited(1.0)
                refused_at = time.monotonic()
                async with anyio.create_task_group() as group:
                    group.start_soon(waits, 0)
                    await anyio.sleep(0.1)
                    await one.tell("rest", 1.0)
            return moments[0] - refused_at

    assert run(main) >= 1.0 - 0.01


def test_within_a_process_calls_start_in_order_and_with_room(url):
    """FIFO, and concurrency counts here."""

    async def main():
        order, most = [], []
        async with RedisPacing(url) as pacing:
            line = pacing.limiter(Rates(rpm=6000, burst=2, max_concurrency=3), "order")

            async def call(number):
                await anyio.sleep(number * 0.002)
                async with line.slot():
                    order.append(number)
                    most.append(line.in_flight)
                    await anyio.sleep(0.01)

            await all_of(call, 15)
        return order, max(most), line.in_flight

    order, most, left = run(main)

    assert order == sorted(order)
    assert most <= 3
    assert left == 0


def test_a_cancelled_waiter_gives_its_reservation_back(url):
    """The next call waits for its own token only, not for the one that was given up."""

    async def main():
        async with RedisPacing(url) as pacing:
            line = pacing.limiter(Rates(rpm=60, burst=1, tpm=60000), "cancel")
            async with line.slot(10):
                started = time.monotonic()
            for _ in range(5):
                with anyio.move_on_after(0.05):
                    async with line.slot(10):
                        raise AssertionError("it was not its turn")
            assert line.in_flight == 0
            async with line.slot(10):
                return time.monotonic() - started

    assert 0.99 <= run(main) < 1.5


def test_a_wait_that_does_not_fit_is_refused_and_not_charged(url):
    """Nothing is taken from the others for a call that does not start."""

    async def main():
        async with RedisPacing(url) as pacing:
            line = pacing.limiter(Rates(rpm=60, burst=1), "fit")
            async with line.slot():
                pass
            for _ in range(5):
                with pytest.raises(RateLimitError) as caught:
                    async with line.slot(max_wait_s=0.2):
                        raise AssertionError("it was let in")
                waits.append(caught.value.retry_after)

    waits = []
    run(main)

    assert 0.5 < min(waits) <= max(waits) <= 1.0


def test_tokens_are_shared_and_corrected(url):
    """What a call really used counts for all, in both directions."""

    async def main():
        async with RedisPacing(url) as pacing:
            rates = Rates(tpm=6000)  # 100 a second
            one, other = pacing.limiter(rates, "tokens"), pacing.limiter(rates, "tokens")
            async with one.slot(5000) as slot:
                slot.used(110)
            started = time.monotonic()
            async with other.slot(20) as slot:
                first = time.monotonic() - started
                slot.used(50)
            async with one.slot(20):
                return first, time.monotonic() - started

    first, second = run(main)

    assert 0.1 <= first < 0.6
    assert second >= first + 0.4


def test_a_book_can_be_shared(url):
    """`LimiterBook(new=pacing.limiter)` is all it takes; without limits only rests are shared."""

    async def main():
        async with RedisPacing(url) as pacing:
            book, twin = LimiterBook(new=pacing.limiter), LimiterBook(new=pacing.limiter)
            async with book.slot("d", api_key="sk-1234567890") as slot:
                slot.limited(0.5)
            started = time.monotonic()
            async with twin.slot("d", api_key="sk-1234567890"):
                pass
            keys = [key async for key in pacing._client()[0].scan_iter("*d*")]
            assert not any("sk-1234567890" in key for key in keys)
            return time.monotonic() - started

    assert 0.3 <= run(main) < 2


def test_state_disappears_by_itself(url):
    """Keys of upstreams that are no longer used do not stay for ever."""

    async def main():
        async with RedisPacing(url) as pacing:
            async with pacing.limiter(Rates(rpm=60), "ttl").slot():
                pass
            return await pacing._client()[0].ttl("scillm:pace:ttl")

    assert 0 < run(main) <= 62


def test_without_redis_a_call_does_not_start_and_says_why():
    """No silent fall back to no limit; room is given back."""

    async def main():
        async with RedisPacing(f"redis://127.0.0.1:{free_port()}", timeout_s=1.0) as pacing:
            line = pacing.limiter(Rates(rpm=60), "gone")
            with pytest.raises(EngineError, match=r"Redis did not answer.*Nothing was sent"):
                async with line.slot():
                    raise AssertionError("it was let in")
            return line.in_flight

    assert run(main) == 0


def test_an_answer_is_not_lost_when_redis_goes_away(url, caplog):
    """What could not be told to the others is logged; the call keeps its outcome."""

    async def main():
        async with RedisPacing(url, timeout_s=1.0) as pacing:
            line = pacing.limiter(Rates(rpm=60), "outage")
            async with line.slot() as slot:
                await pacing.aclose()
                pacing._url = f"redis://127.0.0.1:{free_port()}"
                slot.limited(0.1)
                return "paid for"

    assert run(main) == "paid for"
    assert "was not told to rest" in caplog.text


def test_trio_is_told_what_to_use_instead(url):
    """redis-py runs on asyncio; the error comes before anything is taken."""

    async def main():
        line = RedisPacing(url).limiter(Rates(rpm=60), "trio")
        with pytest.raises(UsageError, match="asyncio only"):
            async with line.slot():
                raise AssertionError("it was let in")
        return line.in_flight

    assert anyio.run(main, backend="trio") == 0
