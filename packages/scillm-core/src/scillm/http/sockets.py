"""Sockets for httpcore over anyio: head and body leave in one write, no timer where none is needed.

httpcore writes a request's head and body one by one and guards every read and write with a scope
of its own; both cost as much as the rest of an exchange. Here only connecting, and the silences of
a stream, have a time limit of their own: around everything else stands that of the exchange.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import anyio
import httpcore
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

MAX_HELD_BYTES = 64 * 1024
"""Bytes to send that wait for more to come along."""
BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError)


class Sockets(httpcore.AsyncNetworkBackend):
    """Connects over TCP."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """A connection, without TLS; raises httpcore's `ConnectTimeout` and `ConnectError`."""
        try:
            with anyio.fail_after(timeout):
                stream = await anyio.connect_tcp(host, port, local_host=local_address)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(_innermost(error)) from error
        return Joined(stream)


class Joined(httpcore.AsyncNetworkStream):
    """A connection that sends before it reads. Remembers what it was told to write."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._socket: Any = stream.extra(SocketAttribute.raw_socket, None)  # noqa: S610 - anyio's

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - see the module's docstring
    ) -> None:
        """Hold `buffer` back until the next read, or until there is enough of it."""
        if buffer:
            self._held.append(buffer)
            self._held_bytes += len(buffer)
            if self._held_bytes >= MAX_HELD_BYTES:
                await self._send()

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bytes:
        """Send what is held, then wait for bytes; none means the end of the connection."""
        if self._held:
            # A server may refuse a request before it has read all of it; its reply is wanted.
            with suppress(httpcore.WriteError):
                await self._send()
        try:
            if timeout is None:
                return await self._stream.receive(max_bytes)
            with anyio.fail_after(timeout):
                return await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except BROKEN as error:
            raise httpcore.ReadError(_innermost(error)) from error

    async def aclose(self) -> None:
        """Close; what is held is dropped."""
        self._held = []
        with suppress(*BROKEN):
            await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """The same connection with TLS; raises httpcore's `ConnectTimeout` and `ConnectError`."""
        try:
            with anyio.fail_after(timeout):
                secured = await TLSStream.wrap(
                    self._stream,
                    ssl_context=ssl_context,
                    hostname=server_hostname,
                    standard_compatible=False,
                    server_side=False,
                )
        except BaseException as error:
            # Whatever becomes of the caller, nobody else knows this socket.
            with anyio.CancelScope(shield=True):
                await self.aclose()
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout(str(error)) from error
            if isinstance(error, (*BROKEN, anyio.EndOfStream, OSError)):
                raise httpcore.ConnectError(_innermost(error)) from error
            raise
        return Joined(secured)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for: `is_readable` and `ssl_object`."""
        if info == "is_readable":
            return self._goodbye_was_read() or _readable(self._socket)
        if info == "ssl_object":
            return self._stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610 - anyio's
        return None

    def _goodbye_was_read(self) -> bool:
        # A server's end of TLS may have come along with its last reply; the socket is then silent.
        tls = self._stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610 - anyio's
        if tls is None:
            return False
        try:
            tls.read(1)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True
        return True

    async def _send(self) -> None:
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held = []
        self._held_bytes = 0
        try:
            await self._stream.send(data)
        except BROKEN as error:
            raise httpcore.WriteError(_innermost(error)) from error


def _readable(socket: Any) -> bool:
    # An idle connection that can be read has been closed by the server, or is out of step.
    number = -1 if socket is None else socket.fileno()
    if number < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([number], [], [], 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def _innermost(error: BaseException) -> str:
    # anyio says "All connection attempts failed"; what failed is one or two levels below.
    while not isinstance(error, ssl.SSLError) and error.__cause__ is not None:
        error = error.__cause__
    nested = getattr(error, "exceptions", ())
    return _innermost(nested[0]) if nested else str(error) or type(error).__name__
