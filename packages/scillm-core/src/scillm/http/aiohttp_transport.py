"""The fast Transport, on aiohttp (its door): the extra `aiohttp`, on asyncio only."""

from __future__ import annotations

import math
import socket
import threading
from asyncio import AbstractEventLoop, get_running_loop  # noqa: TID251 - aiohttp has no other loop
from asyncio import TimeoutError as SlowError  # noqa: TID251 - before 3.11 not the built-in one
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NoReturn, TypeAlias
from weakref import WeakSet, ref

import aiohttp
import anyio
from yarl import URL

from scillm.errors import UsageError
from scillm.http.exchange import streamed, untimed
from scillm.http.loops import PerLoop
from scillm.http.outcomes import (
    MAX_REPLY_BYTES,
    broken,
    connected_too_slowly,
    not_connected,
    refuse_unless_ascii,
    timed_out,
    unusable_call,
    unusable_url,
    why,
)
from scillm.http.tls import client_context

if TYPE_CHECKING:
    import ssl
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from scillm.http.proxies import ProxyRules
    from scillm.records import HttpCall, HttpReply, HttpStream

Headers: TypeAlias = Mapping[str, str]

KEEPALIVE_S = 30.0
GOODBYE_S = 0.25
"""So long a closed TLS connection may wait for the other side's goodbye when a session ends."""
POLL_S = 0.005
MAX_HEAD_BYTES = 64 * 1024
"""Longest line and longest header of a reply."""
OWN_HEADERS = ("accept", "accept-encoding", "content-type", "user-agent")
"""Headers aiohttp would add; a call says itself what it sends."""


class Session:
    """The aiohttp session of one event loop. Remembers it, and its sockets, until it is closed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def get(self) -> aiohttp.ClientSession:
        """The open session, made when there is none."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEPALIVE_S, socket_factory=self._socket
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=OWN_HEADERS,
                auto_decompress=False,
                max_line_size=MAX_HEAD_BYTES,
                max_field_size=MAX_HEAD_BYTES,
            )
            # aiohttp would send a GET a second time by itself; whether that is right, and whether
            # the budget allows it, is the Router's decision. There is no public switch.
            self._session._retry_connection = False
        return self._session

    async def aclose(self) -> None:
        """Close the session and its connections; the next call makes a new one."""
        session, self._session = self._session, None
        sockets, self._sockets = self._sockets, WeakSet()
        if session is not None:
            await session.close()
            await _all_closed(sockets)

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        made = socket.socket(address[0], address[1], address[2])
        self._sockets.add(made)
        return made


async def _all_closed(sockets: Iterable[socket.socket]) -> None:
    # Over TLS a closed connection waits for the other side's goodbye, of which aiohttp knows
    # nothing any more. If the event loop ended before, its socket would be left open.
    for _ in range(2):
        with anyio.move_on_after(GOODBYE_S, shield=True):
            while any(one.fileno() >= 0 for one in sockets):  # noqa: ASYNC110 - nobody tells us
                await anyio.sleep(POLL_S)
            return
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class AiohttpTransport:
    """The fast Transport. Remembers one aiohttp session for every event loop.

    It does what `HttpxTransport` does, several times as fast, on asyncio only; elsewhere every
    call is a `UsageError`. Of several idle connections the oldest is used first: aiohttp's choice.
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
        self._proxies = proxies
        self._ca_bundle = ca_bundle
        self._sessions: PerLoop[Session] = PerLoop(Session)
        self._latest: tuple[ref[AbstractEventLoop], Session] | None = None
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    async def send(self, call: HttpCall, /) -> HttpReply:
        """Send `call` and read the whole reply within `call.timeout_s`.

        Raises `APIConnectionError` (refused, reset, cut off), `APITimeoutError`,
        `MalformedReplyError` (a body that cannot be decoded or is too large).
        """
        # aiohttp's own clock costs half of what a cancel scope does.
        open_timed = partial(self._open, total_s=call.timeout_s)
        try:
            return await untimed(open_timed, call, self._max_reply_bytes)
        except (TimeoutError, SlowError) as error:
            raise timed_out(call.url, call.timeout_s) from error

    def stream(self, call: HttpCall, /) -> AbstractAsyncContextManager[HttpStream]:
        """Send `call` and hand over the body as it arrives.

        `call.timeout_s` bounds every silence. Raises what `send` raises, on entering or while the
        chunks are read; leaving before the end closes the connection.
        """
        return streamed(self._open, call)

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop."""
        await self._sessions.aclose()

    async def _open(self, call: HttpCall, *, total_s: float | None = None) -> Reply:
        url = url_of(call.url)
        session = (await self._session()).get()
        tls = self._context() if url.scheme == "https" else True
        refuse_unless_ascii(call.url, call.headers)
        headers, proxy, proxy_headers = self._routed(url, call.headers)
        try:
            response = await session.request(
                call.method,
                url,
                headers=headers,
                data=aiohttp.BytesPayload(call.body) if call.body else None,
                allow_redirects=False,
                timeout=timeouts(min(self._connect_timeout_s, call.timeout_s), total_s),
                ssl=tls,
                proxy=proxy,
                proxy_headers=proxy_headers,
            )
        except aiohttp.ClientError as error:
            raise_ours(error, call)
        except (TimeoutError, SlowError):
            raise
        except OSError as error:
            raise_ours(error, call)
        except ValueError as error:
            raise unusable_call(call.url, str(error)) from error
        return Reply(call, response)

    async def _session(self) -> Session:
        try:
            loop = get_running_loop()
        except RuntimeError as error:
            raise UsageError(
                "The aiohttp transport works on asyncio only, and another event loop (trio) is "
                "running. Use the default transport there: SCILLM_TRANSPORT=httpx, or "
                "transport=HttpxTransport()."
            ) from error
        # Nearly always it is the loop of the last call, and known at a tenth of the price.
        latest = self._latest
        if latest is None or latest[0]() is not loop:
            latest = self._latest = (ref(loop), await self._sessions.get())
        return latest[1]

    def _routed(self, url: URL, headers: Headers) -> tuple[Headers, URL | None, Headers | None]:
        """The headers of the call, the proxy, and the headers for the proxy alone."""
        if self._proxies is None:
            return headers, None, None
        proxy = self._proxies.proxy_for(url.scheme, url.host or "", url.port or 0)
        if proxy is None:
            return headers, None, None
        if proxy.authorization is None:
            return headers, URL(proxy.url), None
        ours = {"proxy-authorization": proxy.authorization}
        if url.scheme == "https":  # the tunnel is asked for before the call is sent through it
            return headers, URL(proxy.url), ours
        return {**headers, **ours}, URL(proxy.url), None

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = client_context(self._ca_bundle)
            return self._tls


class Reply:
    """A reply whose head is here. Remembers nothing of its own."""

    def __init__(self, call: HttpCall, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }
        self._call = call
        self._response = response

    async def read(self, silence_s: float | None) -> bytes:
        """The next piece; empty at the end."""
        content = self._response.content
        try:
            if content.at_eof():
                return b""
            if piece := content.read_nowait():
                return piece
            if silence_s is None:
                return await content.readany()
            with anyio.fail_after(silence_s):
                return await content.readany()
        except aiohttp.ClientError as error:
            raise_ours(error, self._call)
        except (TimeoutError, SlowError):
            raise
        except OSError as error:
            raise_ours(error, self._call)

    async def aclose(self) -> None:
        """Close the connection; after the end of the body aiohttp has already taken it back."""
        self._response.close()


@lru_cache(maxsize=256)
def url_of(text: str) -> URL:
    """`text` as a URL, without user and password; `UsageError` unless it is http with a host."""
    try:
        url = URL(text)
        usable = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
    except ValueError as error:
        raise unusable_url(text, str(error)) from error
    if not usable:
        raise unusable_url(text)
    return url.with_user(None)


@lru_cache(maxsize=64)
def timeouts(connect_s: float, total_s: float | None) -> aiohttp.ClientTimeout:
    """Connecting, and the whole of a call that is no stream, are left to aiohttp.

    Without the threshold it would round long ones up to a full second of its clock.
    """
    return aiohttp.ClientTimeout(total=total_s, connect=connect_s, ceil_threshold=math.inf)


def raise_ours(error: Exception, call: HttpCall) -> NoReturn:
    """Say in our words what aiohttp said; its texts hold no header and no body."""
    if isinstance(error, aiohttp.InvalidURL):
        raise unusable_url(call.url, str(error)) from error
    if isinstance(error, aiohttp.ServerTimeoutError):
        raise connected_too_slowly(call.url) from error
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ClientSSLError)):
        raise not_connected(call.url, why(error)) from error
    if isinstance(error, aiohttp.ClientHttpProxyError):
        raise not_connected(call.url, f"the proxy said {error.status} {error.message}") from error
    raise broken(call.url, why(error)) from error
