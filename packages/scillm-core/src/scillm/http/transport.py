"""HTTP on lanes: one connection per call in flight, the last one used first (the default).

httpx's shared pool looks at every connection for every request, so its cost grows with the square
of the concurrency, and its client layer costs more than the exchange itself. A lane is a single
connection of httpcore, the library below httpx; calls take an idle lane or open a new one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import anyio
import httpcore

from scillm.http.exchange import streamed, whole
from scillm.http.lanes import (
    CLOSE_S,
    KEEPALIVE_S,
    Connection,
    Lanes,
    Target,
    close,
    target_of,
)
from scillm.http.loops import PerLoop
from scillm.http.outcomes import (
    MAX_REPLY_BYTES,
    broken,
    connected_too_slowly,
    not_connected,
    refuse_unless_ascii,
    unusable_call,
    why,
)
from scillm.http.proxies import Proxy, ProxyRules
from scillm.http.sockets import Sockets
from scillm.http.tls import client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from scillm.records import HttpCall, HttpReply, HttpStream

FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError,
            httpcore.ProxyError, httpcore.ConnectionNotAvailable, OSError)  # fmt: skip


class HttpxTransport:
    """The default Transport. Remembers idle connections, separately for every event loop.

    Redirects are not followed, cookies not kept, and nothing is retried: all of these are the
    caller's decisions. `connect_timeout_s` bounds name resolution, connecting and TLS. `proxies`
    says which calls go through a proxy; `ca_bundle` is a PEM file or folder trusted instead of the
    authorities of `certifi`; a whole reply larger than `max_reply_bytes` is given up. No
    environment variable is read.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float = 10.0,
        proxies: ProxyRules | None = None,
        ca_bundle: str | Path | None = None,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        self._max_reply_bytes = max_reply_bytes
        self._connect_timeout_s = connect_timeout_s
        self._proxies = proxies or ProxyRules()
        self._ca_bundle = ca_bundle
        self._lanes: PerLoop[Lanes] = PerLoop(Lanes)
        self._sockets = Sockets()
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    async def send(self, call: HttpCall, /) -> HttpReply:
        """Send `call` and read the whole reply within `call.timeout_s`.

        Raises `APIConnectionError` (refused, reset, cut off), `APITimeoutError`,
        `MalformedReplyError` (a body that cannot be decoded or is too large).
        """
        return await whole(self._open, call, self._max_reply_bytes)

    def stream(self, call: HttpCall, /) -> AbstractAsyncContextManager[HttpStream]:
        """Send `call` and hand over the body as it arrives.

        `call.timeout_s` bounds every silence. Raises what `send` raises, on entering or while the
        chunks are read; leaving before the end closes the connection.
        """
        return streamed(self._open, call)

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop."""
        await self._lanes.aclose()

    async def _open(self, call: HttpCall) -> Reply:
        target = target_of(call.url)
        timeouts: dict[str, float | None] = {
            "connect": min(self._connect_timeout_s, call.timeout_s)
        }
        request = httpcore.Request(
            call.method,
            httpcore.URL(
                scheme=target.scheme, host=target.host, port=target.port, target=target.path
            ),
            headers=_header_list(call, target),
            content=Body(call.body),
            extensions={"timeout": timeouts},
        )
        lanes = await self._lanes.get()
        lane = await lanes.take(target.origin) or self._new_lane(target)
        try:
            response = await lane.handle_async_request(request)
        except BaseException as error:
            await close(lane)
            if isinstance(error, FAILURES):
                raise_ours(error, call)
            raise
        return Reply(call, partial(lanes.give, target.origin, lane), lane, response, timeouts)

    def _new_lane(self, target: Target) -> Connection:
        proxy = self._proxies.proxy_for(target.scheme.decode(), target.host.decode(), target.port)
        tls = self._context() if target.scheme == b"https" else None
        if proxy is not None:
            return self._through(proxy, tls)
        return httpcore.AsyncHTTPConnection(
            httpcore.Origin(target.scheme, target.host, target.port),
            ssl_context=tls,
            keepalive_expiry=KEEPALIVE_S,
            network_backend=self._sockets,
        )

    def _through(self, proxy: Proxy, tls: ssl.SSLContext | None) -> Connection:
        headers = [] if proxy.authorization is None else [
            (b"Proxy-Authorization", proxy.authorization.encode("ascii"))
        ]  # fmt: skip
        return httpcore.AsyncHTTPProxy(
            proxy.url,
            proxy_headers=headers,
            ssl_context=tls,
            max_connections=1,
            max_keepalive_connections=1,
            keepalive_expiry=KEEPALIVE_S,
            network_backend=self._sockets,
        )

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = client_context(self._ca_bundle)
            return self._tls


class Reply:
    """A reply whose head is here. Remembers how much of its body was read."""

    def __init__(
        self,
        call: HttpCall,
        keep: Callable[[float], Awaitable[None]],
        lane: Connection,
        response: httpcore.Response,
        timeouts: dict[str, float | None],
    ) -> None:
        self.status = response.status
        self.headers = headers_of(response)
        self._call = call
        self._keep = keep
        self._timeouts = timeouts
        self._lane = lane
        self._response = response
        self._pieces: AsyncIterator[bytes] = aiter(_asynchronous(response))
        self._ended = False

    async def read(self, silence_s: float | None) -> bytes:
        """The next piece; empty at the end."""
        while not self._ended:
            self._timeouts["read"] = silence_s
            try:
                piece = await anext(self._pieces, b"")
            except httpcore.ReadTimeout as error:
                raise TimeoutError from error
            except FAILURES as error:
                raise_ours(error, self._call)
            if piece:
                return piece
            self._ended = True
        return b""

    async def aclose(self) -> None:
        """Keep the lane, or close it."""
        with anyio.move_on_after(CLOSE_S, shield=True):
            await self._response.aclose()
            lane = self._lane
            if self._ended and (isinstance(lane, httpcore.AsyncHTTPProxy) or lane.is_idle()):
                await self._keep(time.monotonic())
                return
            if not self._ended:
                await self._unwind()
        await close(self._lane)

    async def _unwind(self) -> None:
        # httpcore nests generators; closing the outermost would leave the inner ones to the
        # garbage collector. With the connection closed, reading on ends each of them at once.
        with suppress(*FAILURES, RuntimeError):
            while await anext(self._pieces, b""):
                pass


class Body:
    """A request body in one piece. Remembers whether it was read.

    Not an async generator, which a call cancelled while sending would leave unfinished.
    """

    def __init__(self, content: bytes) -> None:
        self._left = [content] if content else []

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def _header_list(call: HttpCall, target: Target) -> list[tuple[bytes, bytes]]:
    refuse_unless_ascii(call.url, call.headers)
    headers = [(name.encode(), value.encode()) for name, value in call.headers.items()]
    if "host" not in call.headers:
        headers.insert(0, (b"host", target.authority))
    if "content-length" not in call.headers and (call.body or call.method not in ("GET", "HEAD")):
        headers.append((b"content-length", b"%d" % len(call.body)))
    return headers


def _asynchronous(response: httpcore.Response) -> AsyncIterable[bytes]:
    # The type also allows for the streams of httpcore's synchronous half.
    assert isinstance(response.stream, AsyncIterable)
    return response.stream


def headers_of(response: httpcore.Response) -> Mapping[str, str]:
    """Names in lower case; of a repeated one the last counts."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }


def raise_ours(error: BaseException, call: HttpCall) -> NoReturn:
    """Say in our words what httpcore said; its texts hold no header and no body."""
    if isinstance(error, httpcore.ConnectTimeout):
        raise connected_too_slowly(call.url) from error
    if isinstance(error, (httpcore.ConnectError, httpcore.ProxyError)):
        raise not_connected(call.url, why(error)) from error
    if isinstance(error, httpcore.LocalProtocolError):
        raise unusable_call(call.url, str(error)) from error
    raise broken(call.url, why(error)) from error
