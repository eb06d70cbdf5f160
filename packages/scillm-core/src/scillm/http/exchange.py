"""One exchange, the same for every HTTP library: time limits, decoding, sizes, early leaving."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol, TypeAlias

import anyio

from scillm.http.decoding import Chain, Undecodable, decoder_for
from scillm.http.outcomes import MAX_REPLY_BYTES, fell_silent, timed_out, too_large, undecodable
from scillm.records import HttpCall, HttpReply, HttpStream


class Opened(Protocol):
    """A reply whose head is here. Its methods raise `ProviderError`, and what they say."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""

    async def read(self, silence_s: float | None) -> bytes:
        """The next piece of the body as it was sent; empty at its end, and ever after.

        `TimeoutError` when nothing comes for `silence_s`. What is here already costs no timer.
        """
        ...

    async def aclose(self) -> None:
        """Keep the connection when the body was read to its end, else close it.

        Called once, perhaps by a cancelled task; it does its work all the same, and soon.
        """
        ...


Open: TypeAlias = Callable[[HttpCall], Awaitable[Opened]]
"""Sends a call and waits for the head of its reply; raises `ProviderError` or `UsageError`."""


async def whole(open_reply: Open, call: HttpCall, max_bytes: int = MAX_REPLY_BYTES) -> HttpReply:
    """The reply to `call`, all of it within `call.timeout_s`, at most `max_bytes` decoded."""
    # `fail_after` would do, at twice the price.
    with anyio.move_on_after(call.timeout_s):
        return await untimed(open_reply, call, max_bytes)
    raise timed_out(call.url, call.timeout_s)


async def untimed(open_reply: Open, call: HttpCall, max_bytes: int) -> HttpReply:
    """The same where the library that opens the reply bounds all of its time."""
    opened = await open_reply(call)
    try:
        body = await _read(opened, call, max_bytes)
    finally:
        await opened.aclose()
    return HttpReply(status=opened.status, headers=opened.headers, body=body)


@asynccontextmanager
async def streamed(open_reply: Open, call: HttpCall) -> AsyncIterator[HttpStream]:
    """The reply to `call` as it arrives; no silence is longer than `call.timeout_s`."""
    try:
        with anyio.fail_after(call.timeout_s):
            opened = await open_reply(call)
    except TimeoutError as error:
        raise timed_out(call.url, call.timeout_s) from error
    try:
        pieces = Pieces(opened, call)
        yield HttpStream(status=opened.status, headers=opened.headers, chunks=pieces)
    finally:
        await opened.aclose()


class Pieces:
    """The decoded pieces of a body. Remembers the decoder and whether the end was seen."""

    def __init__(self, opened: Opened, call: HttpCall) -> None:
        self._opened = opened
        self._call = call
        self._decoder = _decoder(opened, call)
        self._ended = False

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            try:
                piece = await self._opened.read(self._call.timeout_s)
            except TimeoutError as error:
                raise fell_silent(self._call.url, self._call.timeout_s) from error
            self._ended = not piece
            if self._decoder is not None:
                piece = _decoded(self._decoder, piece, self._call)
            if piece:
                return piece
        raise StopAsyncIteration


async def _read(opened: Opened, call: HttpCall, max_bytes: int) -> bytes:
    decoder = _decoder(opened, call)
    parts: list[bytes] = []
    size = 0
    while piece := await opened.read(None):
        if decoder is not None:
            piece = _decoded(decoder, piece, call)
        size += len(piece)
        if size > max_bytes:
            raise too_large(call.url, max_bytes)
        parts.append(piece)
    if decoder is not None:
        _decoded(decoder, b"", call)
    return b"".join(parts)


def _decoder(opened: Opened, call: HttpCall) -> Chain | None:
    coding = opened.headers.get("content-encoding")
    if coding is None:
        return None
    try:
        return decoder_for(coding)
    except Undecodable as error:
        raise undecodable(call.url, str(error)) from error


def _decoded(decoder: Chain, piece: bytes, call: HttpCall) -> bytes:
    try:
        return decoder.feed(piece) if piece else decoder.finish()
    except Undecodable as error:
        raise undecodable(call.url, str(error)) from error
