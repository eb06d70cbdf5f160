"""1,000 calls through one Router while 30 % of the answers are 429 with Retry-After, in real time.

What "inside an announced pause" means: a call that is in the air when another one is refused cannot
be called back. So the transport is asked when each request left and what this process had been told
by then; both are moments of one clock, in one thread.
"""

from __future__ import annotations

import time
from collections import Counter
from random import Random

import anyio
import scillm
from attrs import frozen
from scillm.fanout import each
from scillm.http.transport import HttpxTransport
from support.faulty import CHAT_PATH, FaultyServer, Json
from support.strict_chat import completion_object

CALLS, WIDTH, SHARE = 1000, 64, 0.3
PAUSE_S = 0.1
GRAIN_S = 0.002
"""A timer may ring this much early."""


class Refusing:
    """Refuses `SHARE` of all requests at random. Remembers how many, and by whose calls."""

    def __init__(self, seed: int) -> None:
        self._luck = Random(seed)
        self.refused: Counter[str] = Counter()

    def __call__(self, request):
        if self._luck.random() >= SHARE:
            return Json(completion_object("ok"))
        self.refused[request.json["messages"][0]["content"]] += 1
        error = {"error": {"message": "slow down"}}
        return Json(error, 429, {"retry-after": f"{PAUSE_S}"})


@frozen(kw_only=True)
class Sent:
    """A request as the client's own process saw it."""

    name: str
    left: float
    was_paused_s: float
    """Seconds of a pause this process had been told of and had not waited for."""


class Watching:
    """The default transport. Remembers when requests left, and the pauses it was told of."""

    def __init__(self) -> None:
        self._inner = HttpxTransport()
        self._paused_until = 0.0
        self.sent: list[Sent] = []

    async def send(self, call, /):
        now = time.monotonic()
        name = call.body.split(b'"content":')[1].split(b'"')[1].decode()
        paused_s = max(0.0, self._paused_until - now)
        self.sent.append(Sent(name=name, left=now, was_paused_s=paused_s))
        reply = await self._inner.send(call)
        if reply.status == 429:
            pause_s = float(reply.headers["retry-after"])
            self._paused_until = max(self._paused_until, time.monotonic() + pause_s)
        return reply

    def stream(self, call, /):
        return self._inner.stream(call)

    async def aclose(self):
        await self._inner.aclose()


def test_a_thousand_calls_under_429s_all_succeed_and_no_call_leaves_in_a_pause(
    faulty_server: FaultyServer,
) -> None:
    """30 % refusals, 64 at once: every call is answered, none leaves inside a pause that was
    announced to this process, and requests stay within 10 % of the least possible.

    The least possible is a request for each answer and one for each refusal; what refuses at
    random refuses 0.3 / 0.7 times per answer, 429 here, whatever the client does.
    """
    server, transport = Refusing(seed=429), Watching()
    faulty_server.route(CHAT_PATH, server)
    answers = []

    async def one(router, number):
        answers.append(
            await router.acompletion(
                "openai/m", [{"role": "user", "content": f"q{number}"}],
                api_base=faulty_server.base_url, retry_enabled=True, retry_max_attempts=50,
            )
        )  # fmt: skip

    async def main():
        async with scillm.Router(settings={"timeout_s": 60.0}, transport=transport) as router:
            with anyio.fail_after(120):
                await each(lambda number: one(router, number), range(CALLS), limit=WIDTH)

    anyio.run(main)
    early = [sent for sent in transport.sent if sent.was_paused_s > GRAIN_S]
    least = CALLS / (1 - SHARE)
    assert [answer.text for answer in answers] == ["ok"] * CALLS
    assert early == []
    assert len(faulty_server.requests) == CALLS + server.refused.total()
    assert len(faulty_server.requests) <= 1.1 * least
    assert Counter(sent.name for sent in transport.sent) == Counter(
        {f"q{n}": 1 + server.refused[f"q{n}"] for n in range(CALLS)}
    )
