"""HTTP on lanes: one connection per call in flight, the last one used first (httpx's door).

httpx's shared pool looks at every connection for every request, so its cost grows with the square
of the concurrency, and its client layer costs more than the exchange itself. A lane is an httpx
transport that holds a single connection; calls take an idle lane or open a new one.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

import anyio
import httpx
from anyio.lowlevel import RunVar

from scillm.errors import APIConnectionError, APITimeoutError, MalformedReplyError, UsageError
from scillm.records import HttpCall, HttpReply, HttpStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

MAX_REPLY_BYTES = 256 * 1024 * 1024
MAX_IDLE_LANES = 128
"""Idle lanes kept per origin; further ones are closed after their call."""
KEEPALIVE_S = 30.0
CLOSE_S = 5.0
"""Seconds a connection may take to close before it is dropped."""

SINGLE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_S)


class _Lanes:
    """The lanes of one event loop. Remembers the idle ones by origin."""

    def __init__(self) -> None:
        self.idle: dict[str, list[httpx.AsyncHTTPTransport]] = {}
        self.guard: AsyncGenerator[None, None] | None = None

    async def aclose(self) -> None:
        idle, self.idle = self.idle, {}
        for lane in (lane for lanes in idle.values() for lane in lanes):
            await _close(lane)

    async def until_loop_ends(self) -> AsyncGenerator[None, None]:
        # An event loop closes started async generators when it ends; that is the only moment at
        # which connections kept for a next call can still be closed without the caller's help.
        try:
            yield
        finally:
            await self.aclose()


class HttpxTransport:
    """The default Transport. Remembers idle connections, separately for every event loop.

    Redirects are not followed, cookies not kept, and nothing is retried: all of these are the
    caller's decisions. `connect_timeout_s` bounds name resolution, connecting and TLS.
    """

    def __init__(self, *, connect_timeout_s: float = 10.0) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._per_loop: RunVar[_Lanes] = RunVar("scillm-http-lanes")
        self._tls: ssl.SSLContext | None = None

    async def send(self, call: HttpCall, /) -> HttpReply:
        """Send `call` and read the whole reply within `call.timeout_s`.

        Raises `APIConnectionError` (refused, reset, cut off), `APITimeoutError`,
        `MalformedReplyError` (a body that cannot be decoded or is too large).
        """
        try:
            with anyio.fail_after(call.timeout_s):
                async with self._exchange(call) as response:
                    body = await _read(response)
        except TimeoutError as error:
            raise _timed_out(call) from error
        return HttpReply(status=response.status_code, headers=_headers(response), body=body)

    @asynccontextmanager
    async def stream(self, call: HttpCall, /) -> AsyncIterator[HttpStream]:
        """Send `call` and hand over the body as it arrives.

        `call.timeout_s` bounds every silence. Raises what `send` raises, on entering or while the
        chunks are read; leaving before the end closes the connection.
        """
        async with self._exchange(call) as response:
            chunks = _translated(response, call)
            try:
                yield HttpStream(
                    status=response.status_code, headers=_headers(response), chunks=chunks
                )
            finally:
                await chunks.aclose()

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop."""
        lanes = self._per_loop.get(None)
        if lanes is not None:
            await lanes.aclose()

    @asynccontextmanager
    async def _exchange(self, call: HttpCall) -> AsyncIterator[httpx.Response]:
        url = _url(call.url)
        lanes = await self._lanes()
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        idle = lanes.idle.setdefault(origin, [])
        lane = idle.pop() if idle else self._new_lane(url)
        reusable = False
        try:
            response = await _open(lane, url, call, connect_timeout_s=self._connect_timeout_s)
            try:
                yield response
                # httpx closes a response itself once its body is read to the end.
                reusable = response.is_closed
            finally:
                with anyio.move_on_after(CLOSE_S, shield=True):
                    await response.aclose()
        finally:
            if reusable and len(idle) < MAX_IDLE_LANES:
                idle.append(lane)
            else:
                await _close(lane)

    async def _lanes(self) -> _Lanes:
        lanes = self._per_loop.get(None)
        if lanes is None:
            lanes = _Lanes()
            self._per_loop.set(lanes)
            lanes.guard = lanes.until_loop_ends()
            await lanes.guard.__anext__()
        return lanes

    def _new_lane(self, url: httpx.URL) -> httpx.AsyncHTTPTransport:
        if url.scheme == "http":
            return httpx.AsyncHTTPTransport(verify=False, trust_env=False, limits=SINGLE)
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
        return httpx.AsyncHTTPTransport(verify=self._tls, limits=SINGLE)


@lru_cache(maxsize=256)
def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise UsageError(f"The URL {text!r} cannot be used: {error}.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(
            f"An http:// or https:// URL with a host is wanted, but {text!r} came; check api_base."
        )
    return url


async def _open(
    lane: httpx.AsyncHTTPTransport, url: httpx.URL, call: HttpCall, *, connect_timeout_s: float
) -> httpx.Response:
    request = httpx.Request(
        call.method,
        url,
        headers=dict(call.headers),
        content=call.body,
        extensions={
            "timeout": {
                "connect": min(connect_timeout_s, call.timeout_s),
                "read": call.timeout_s,
                "write": call.timeout_s,
                "pool": call.timeout_s,
            }
        },
    )
    try:
        return await lane.handle_async_request(request)
    except httpx.HTTPError as error:
        _raise_ours(error, call)


async def _read(response: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MAX_REPLY_BYTES:
                raise MalformedReplyError(
                    f"The reply is larger than {MAX_REPLY_BYTES} bytes; it was given up."
                )
            parts.append(part)
    except httpx.HTTPError as error:
        _raise_ours(error, None)
    return b"".join(parts)


async def _translated(response: httpx.Response, call: HttpCall) -> AsyncGenerator[bytes, None]:
    try:
        async for part in response.aiter_bytes():
            yield part
    except httpx.HTTPError as error:
        _raise_ours(error, call)


def _raise_ours(error: httpx.HTTPError, call: HttpCall | None) -> NoReturn:
    # The text of an httpx error holds no header and no body; the URL is named without its query.
    where = f" from {_shown(call.url)}" if call is not None else ""
    why = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, httpx.TimeoutException):
        raise APITimeoutError(f"No reply came in time{where} ({why}).") from error
    if isinstance(error, httpx.DecodingError):
        raise MalformedReplyError(f"The reply{where} cannot be decoded ({why}).") from error
    if isinstance(error, httpx.ConnectError):
        raise APIConnectionError(f"No connection could be made{where} ({why}).") from error
    raise APIConnectionError(
        f"The connection broke before the reply was whole{where} ({why})."
    ) from error


def _timed_out(call: HttpCall) -> APITimeoutError:
    return APITimeoutError(
        f"No complete reply came from {_shown(call.url)} within {call.timeout_s:g} s."
    )


def _shown(url: str) -> str:
    parsed = _url(url)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}{parsed.path}"


def _headers(response: httpx.Response) -> Mapping[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in response.headers.raw
    }


async def _close(lane: httpx.AsyncHTTPTransport) -> None:
    with anyio.move_on_after(CLOSE_S, shield=True):
        await lane.aclose()
