"""The limiter against a real server that keeps a token bucket and answers 429 with Retry-After."""

from __future__ import annotations

import json
import threading
import time

import anyio
import pytest
from scillm.http.transport import HttpxTransport
from scillm.records import HttpCall
from scillm.resilience.limiter import Limiter
from scillm.resilience.limits import Bucket, Rates
from scillm.resilience.retry_after import parse_retry_after
from support.faulty import CHAT_PATH, FaultyServer, Json

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()


class Gatekeeper:
    """A server-side bucket; remembers what it accepted, refused, and saw during its pauses."""

    def __init__(self, rate, burst, pause_s=0.0):
        self.bucket = Bucket(rate=rate, burst=burst)
        self.pause_s = pause_s
        self.paused_until = 0.0
        self.accepted, self.refused, self.in_pause = 0, 0, 0
        self.lock = threading.Lock()

    def __call__(self, request):
        with self.lock:
            now = time.monotonic()
            wait = max(self.bucket.wait_s(now), self.paused_until - now)
            if wait <= 0:
                self.bucket.take(now)
                self.accepted += 1
                return Json({"ok": True})
            self.in_pause += now < self.paused_until
            if self.pause_s and now >= self.paused_until:
                self.paused_until, wait = now + self.pause_s, self.pause_s
            self.refused += 1
            headers = {"retry-after-ms": f"{wait * 1000:.3f}"}
            return Json({"error": {"message": "slow down"}}, 429, headers=headers)


async def until_answered(transport, url, line):
    while True:
        async with line.slot() as slot:
            call = HttpCall(
                method="POST", url=url, headers={"content-type": "application/json"},
                body=BODY, timeout_s=10.0,
            )  # fmt: skip
            reply = await transport.send(call)
            if reply.status == 200:
                slot.succeeded(reply.headers)
                return
            slot.limited(parse_retry_after(reply.headers, now=time.time()))


def serve(keeper, *, line, tasks, calls):
    """`calls` calls by `tasks` tasks; each task waits its own way when `line` is a factory."""

    async def main(url):
        transport = HttpxTransport()
        share = iter(range(calls))

        async def worker():
            own = line()
            for _ in share:
                await until_answered(transport, url, own)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(tasks):
                    group.start_soon(worker)
        await transport.aclose()

    with FaultyServer() as server:
        server.route(CHAT_PATH, keeper)
        anyio.run(main, server.base_url + "/chat/completions")


def test_sharing_a_limiter_of_the_right_rate_removes_nearly_all_refusals():
    """64 tasks, 300 calls, a bucket of 100/s: at most 3 of 100 requests are refused."""
    keeper = Gatekeeper(rate=100.0, burst=20)
    shared = Limiter(Rates(rpm=6000, burst=10))
    serve(keeper, line=lambda: shared, tasks=64, calls=300)

    assert keeper.accepted == 300
    assert keeper.refused <= 9


def test_sharing_removes_most_refusals_even_when_no_rate_is_known():
    """The first herd of 64 cannot be called back; after it, at most one call in ten is refused."""
    alone, together = Gatekeeper(rate=100.0, burst=20), Gatekeeper(rate=100.0, burst=20)
    shared = Limiter()
    serve(alone, line=Limiter, tasks=64, calls=200)
    serve(together, line=lambda: shared, tasks=64, calls=200)

    assert together.accepted == 200
    assert together.refused <= 64 + 20
    assert together.refused < alone.refused / 2


@pytest.mark.parametrize("room", [4, 8])
def test_200_calls_that_hit_one_refusal_send_a_handful_more(room):
    """Only what is in the air reaches the server during the pause it announced."""
    keeper = Gatekeeper(rate=1000.0, burst=20, pause_s=1.0)
    shared = Limiter(Rates(max_concurrency=room))
    serve(keeper, line=lambda: shared, tasks=200, calls=200)

    assert keeper.accepted == 200
    assert keeper.in_pause <= (room - 1) * (keeper.refused - keeper.in_pause)
