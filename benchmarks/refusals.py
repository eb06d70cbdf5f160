"""The 429 scenarios: how long clients with retries take, and how often they ask, to be answered.

Every client tries again as it does by itself; the number of tries is raised for all, so that what
is compared is when they ask again, and not when they give up.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import scillm
from attrs import frozen
from peers import (
    KEY,
    LITELLM,
    MESSAGES,
    SCILLM,
    SCILLM_AIOHTTP,
    TIMEOUT_S,
    made_litellm_router,
    missing,
)
from scillm.http.aiohttp_transport import AiohttpTransport
from server import BUCKET_BURST, BUCKET_PER_S, PAUSE_S, REFUSED_SHARE, TEXT

TRIES = 50
Ask: TypeAlias = Callable[[], Awaitable[str]]
SCENES = {
    "random": f"{REFUSED_SHARE:.0%} refused at random, Retry-After {PAUSE_S:g} s",
    "bucket": f"the server's bucket: {BUCKET_PER_S:g}/s, burst {BUCKET_BURST:g}",
}
"""Path of the server, and what it does there."""


@frozen(kw_only=True)
class Ending:
    """How a scenario ended. `lost` calls raised an error."""

    took_s: float
    requests: int
    refused: int
    lost: int


@asynccontextmanager
async def _scillm(base: str, transport: Any = None) -> AsyncIterator[Ask]:
    params = {"model": "openai/bench", "api_base": base, "api_key": KEY, "timeout": TIMEOUT_S}
    rows = [{"model_name": "bench", "litellm_params": params}]
    async with scillm.Router(
        rows, transport=transport, retry_enabled=True, retry_max_attempts=TRIES
    ) as router:

        async def ask() -> str:
            return (await router.acompletion(model="bench", messages=MESSAGES)).text

        yield ask


@asynccontextmanager
async def _scillm_aiohttp(base: str) -> AsyncIterator[Ask]:
    async with _scillm(base, AiohttpTransport()) as ask:
        yield ask


@asynccontextmanager
async def _litellm(base: str) -> AsyncIterator[Ask]:
    router = made_litellm_router(base, num_retries=TRIES)

    async def ask() -> str:
        reply = await router.acompletion(model="bench", messages=MESSAGES)
        return str(reply.choices[0].message.content)

    yield ask


@asynccontextmanager
async def _openai(base: str) -> AsyncIterator[Ask]:
    import openai

    async with openai.AsyncOpenAI(
        base_url=base, api_key=KEY, max_retries=TRIES, timeout=TIMEOUT_S
    ) as client:

        async def ask() -> str:
            reply = await client.chat.completions.create(model="bench", messages=MESSAGES)
            return reply.choices[0].message.content or ""

        yield ask


ALL: dict[str, Callable[[str], AbstractAsyncContextManager[Ask]]] = {
    "openai": _openai,
    LITELLM: _litellm,
    SCILLM: _scillm,
    SCILLM_AIOHTTP: _scillm_aiohttp,
}
CLIENTS = {name: opener for name, opener in ALL.items() if not missing(name)}


def finish(root: str, scene: str, name: str, calls: int, concurrency: int) -> Ending:
    """Make so many calls, all of them tried until they are answered or given up."""

    async def run() -> tuple[float, int]:
        async with CLIENTS[name](f"{root}/{scene}/v1") as ask:
            left, lost = iter(range(calls)), 0

            async def work() -> None:
                nonlocal lost
                for _ in left:
                    try:
                        right = await ask() == TEXT
                    except Exception as error:
                        if "429" not in repr(error) and "RateLimit" not in repr(error):
                            raise
                        right = False
                    lost += not right

            start = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(concurrency)))
            return time.perf_counter() - start, lost

    _counts(root)
    took_s, lost = asyncio.run(run())
    counts = _counts(root)
    return Ending(took_s=took_s, requests=counts["asked"], refused=counts["refused"], lost=lost)


def _counts(root: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{root}/reset", timeout=TIMEOUT_S) as reply:
        counts: dict[str, int] = json.load(reply)
    return counts
