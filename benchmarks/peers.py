"""The clients that are compared: how each asks, asks synchronously, and streams."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import TYPE_CHECKING, Any, TypeAlias

import aiohttp
import httpx
import scillm
from scillm.http.aiohttp_transport import AiohttpTransport

if TYPE_CHECKING:
    from scillm.protocols import Transport

MESSAGES: list[Any] = [{"role": "user", "content": "What is six times seven?"}]
BODY = {"model": "bench", "messages": MESSAGES}
KEY = "bench-key"
HEADERS = {"authorization": f"Bearer {KEY}"}
POOL = httpx.Limits(max_connections=2048, max_keepalive_connections=2048)
TIMEOUT_S = 60.0

Ask: TypeAlias = Callable[[], Awaitable[str]]
"""One call; the text of the answer."""
AskNow: TypeAlias = Callable[[], str]
Stream: TypeAlias = Callable[[int], AsyncIterator[str]]
"""The text pieces of a streamed answer of so many pieces."""
Opened: TypeAlias = tuple[Ask, Stream]
Opener: TypeAlias = Callable[[str], AbstractAsyncContextManager[Opened]]
OpenerNow: TypeAlias = Callable[[str], AbstractContextManager[AskNow]]


def text_of(document: Any) -> str:
    """The text of an answer in JSON."""
    return str(document["choices"][0]["message"]["content"])


async def pieces_of(lines: AsyncIterable[Any]) -> AsyncIterator[str]:
    """The text pieces in the lines of an event stream, bytes or text."""
    async for raw in lines:
        line = raw.decode() if isinstance(raw, bytes) else raw
        if line.startswith("data: {"):
            piece = json.loads(line[6:])["choices"][0]["delta"].get("content")
            if piece:
                yield piece


# -- async -------------------------------------------------------------------------------------


@asynccontextmanager
async def raw_httpx(base: str) -> AsyncIterator[Opened]:
    """One shared AsyncClient whose pool is large enough for every call at once."""
    async with httpx.AsyncClient(limits=POOL, timeout=TIMEOUT_S, headers=HEADERS) as client:

        async def ask() -> str:
            return text_of((await client.post(f"{base}/chat/completions", json=BODY)).json())

        async def stream(count: int) -> AsyncIterator[str]:
            body = {**BODY, "stream": True, "max_tokens": count}
            async with client.stream("POST", f"{base}/chat/completions", json=body) as reply:
                async for piece in pieces_of(reply.aiter_lines()):
                    yield piece

        yield ask, stream


@asynccontextmanager
async def raw_aiohttp(base: str) -> AsyncIterator[Opened]:
    """One shared ClientSession without a limit of connections."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(TIMEOUT_S),
        headers=HEADERS,
    ) as session:

        async def ask() -> str:
            async with session.post(f"{base}/chat/completions", json=BODY) as reply:
                return text_of(await reply.json())

        async def stream(count: int) -> AsyncIterator[str]:
            body = {**BODY, "stream": True, "max_tokens": count}
            async with session.post(f"{base}/chat/completions", json=body) as reply:
                async for piece in pieces_of(reply.content):
                    yield piece

        yield ask, stream


@asynccontextmanager
async def openai_client(base: str) -> AsyncIterator[Opened]:
    """The openai client with its own default pool (1,000 connections)."""
    import openai

    async with openai.AsyncOpenAI(
        base_url=base, api_key=KEY, max_retries=0, timeout=TIMEOUT_S
    ) as client:

        async def ask() -> str:
            reply = await client.chat.completions.create(model="bench", messages=MESSAGES)
            return reply.choices[0].message.content or ""

        async def stream(count: int) -> AsyncIterator[str]:
            async for chunk in await client.chat.completions.create(
                model="bench", messages=MESSAGES, stream=True, max_tokens=count
            ):
                if piece := chunk.choices[0].delta.content:
                    yield piece

        yield ask, stream


@asynccontextmanager
async def litellm_router(base: str) -> AsyncIterator[Opened]:
    """A `litellm.Router` with one deployment and no retries."""
    router = made_litellm_router(base, num_retries=0)

    async def ask() -> str:
        reply = await router.acompletion(model="bench", messages=MESSAGES)
        return str(reply.choices[0].message.content)

    async def stream(count: int) -> AsyncIterator[str]:
        async for chunk in await router.acompletion(
            model="bench", messages=MESSAGES, stream=True, max_tokens=count
        ):
            if piece := chunk.choices[0].delta.content:
                yield piece

    yield ask, stream


def made_litellm_router(base: str, *, deployments: int = 1, **options: Any) -> Any:
    """A `litellm.Router`. It is kept from asking for its table of prices over the network."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    # It takes a hundred equal chunks for a model gone mad; ours are all equal.
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = 10**9
    params = {"model": "openai/bench", "api_base": base, "api_key": KEY, "timeout": TIMEOUT_S}
    rows = [
        {"model_name": "bench", "litellm_params": params, "model_info": {"id": f"d{number}"}}
        for number in range(deployments)
    ]
    return litellm.Router(model_list=rows, **options)


@asynccontextmanager
async def scillm_acompletion(base: str) -> AsyncIterator[Opened]:
    """`scillm.acompletion`, naming its endpoint in every call."""
    target: dict[str, Any] = {"model": "openai/bench", "api_base": base, "api_key": KEY}

    async def ask() -> str:
        reply = await scillm.acompletion(messages=MESSAGES, timeout=TIMEOUT_S, **target)
        return str(reply.choices[0].message.content)

    async def stream(count: int) -> AsyncIterator[str]:
        async for chunk in await scillm.acompletion(
            messages=MESSAGES, stream=True, max_tokens=count, timeout=TIMEOUT_S, **target
        ):
            if piece := chunk.choices[0].delta.content:
                yield piece

    yield ask, stream


@asynccontextmanager
async def scillm_router(base: str) -> AsyncIterator[Opened]:
    """A `scillm.Router` with one deployment."""
    async with _routed(base, None) as opened:
        yield opened


@asynccontextmanager
async def scillm_router_aiohttp(base: str) -> AsyncIterator[Opened]:
    """The same on the aiohttp transport."""
    async with _routed(base, AiohttpTransport()) as opened:
        yield opened


@asynccontextmanager
async def _routed(base: str, transport: Transport | None) -> AsyncIterator[Opened]:
    params = {"model": "openai/bench", "api_base": base, "api_key": KEY, "timeout": TIMEOUT_S}
    rows = [{"model_name": "bench", "litellm_params": params}]
    router = scillm.Router(model_list=rows, transport=transport)

    async def ask() -> str:
        reply = await router.acompletion(model="bench", messages=MESSAGES)
        return str(reply.choices[0].message.content)

    async def stream(count: int) -> AsyncIterator[str]:
        async for chunk in await router.acompletion(
            model="bench", messages=MESSAGES, stream=True, max_tokens=count
        ):
            if piece := chunk.choices[0].delta.content:
                yield piece

    yield ask, stream


@asynccontextmanager
async def floor(base: str) -> AsyncIterator[Opened]:
    """Bytes over asyncio streams, nothing parsed but the length: what server and machine allow."""
    host, _, port = base.removeprefix("http://").partition("/")[0].partition(":")
    body = json.dumps(BODY).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n"
    request = head.encode() + b"\r\n" + body
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask() -> str:
        reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
        writer.write(request)
        reply = await reader.readuntil(b"\r\n\r\n")
        size = int(reply.rpartition(b"content-length: ")[2])
        answer = await reader.readexactly(size)
        idle.append((reader, writer))
        return answer.partition(b'"content": "')[2].partition(b'"')[0].decode()

    def stream(_count: int) -> AsyncIterator[str]:
        raise NotImplementedError("the floor is only measured for whole answers")

    try:
        yield ask, stream
    finally:
        for _, writer in idle:
            writer.close()


# -- sync --------------------------------------------------------------------------------------


@contextmanager
def httpx_now(base: str) -> Iterator[AskNow]:
    """One shared `httpx.Client`."""
    with httpx.Client(timeout=TIMEOUT_S, headers=HEADERS) as client:
        yield lambda: text_of(client.post(f"{base}/chat/completions", json=BODY).json())


@contextmanager
def openai_now(base: str) -> Iterator[AskNow]:
    """The openai client."""
    import openai

    with openai.OpenAI(base_url=base, api_key=KEY, max_retries=0, timeout=TIMEOUT_S) as client:

        def ask() -> str:
            reply = client.chat.completions.create(model="bench", messages=MESSAGES)
            return reply.choices[0].message.content or ""

        yield ask


@contextmanager
def scillm_now(base: str) -> Iterator[AskNow]:
    """`scillm.completion`."""
    target: dict[str, Any] = {"model": "openai/bench", "api_base": base, "api_key": KEY}

    def ask() -> str:
        reply = scillm.completion(messages=MESSAGES, timeout=TIMEOUT_S, **target)
        return str(reply.choices[0].message.content)

    yield ask


NEEDS = {"openai": "openai", "openai (sync)": "openai", "litellm.Router": "litellm"}
"""Clients that may be missing, and the package each needs."""


def missing(name: str) -> str:
    """Why a client cannot be measured here; empty when it can."""
    package = NEEDS.get(name)
    if package is None or importlib.util.find_spec(package) is not None:
        return ""
    return f"{package} is not installed in this Python (see README.md)"


HTTPX, AIOHTTP = "raw httpx", "raw aiohttp"
SCILLM, SCILLM_AIOHTTP, LITELLM = "scillm.Router", "scillm.Router, aiohttp", "litellm.Router"
ALL: dict[str, Opener] = {
    HTTPX: raw_httpx,
    AIOHTTP: raw_aiohttp,
    "openai": openai_client,
    LITELLM: litellm_router,
    "scillm.acompletion": scillm_acompletion,
    SCILLM: scillm_router,
    SCILLM_AIOHTTP: scillm_router_aiohttp,
}
FLOOR = "asyncio floor (bytes only)"
ALL_SYNC: dict[str, OpenerNow] = {
    "raw httpx.Client": httpx_now,
    "openai (sync)": openai_now,
    "scillm.completion (sync)": scillm_now,
}
ASYNC = {name: opener for name, opener in ALL.items() if not missing(name)}
SYNC = {name: opener for name, opener in ALL_SYNC.items() if not missing(name)}
MISSING = {name: missing(name) for name in (*ALL, *ALL_SYNC) if missing(name)}
