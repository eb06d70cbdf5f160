"""One client connection of the test server: reads requests, plays the steps of the replies."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Protocol

from attrs import evolve, frozen

from support.behaviours import Close, Gate, Pause, Reset, Step
from support.http1 import BadRequest, Request, take_request
from support.strict_chat import error_reply

if TYPE_CHECKING:
    from collections.abc import Sequence

GATE_POLL_S = 0.005
DELIVERY_S = 0.02
NO_REQUEST = Request(method="", target="/")


@frozen(kw_only=True)
class Disconnect:
    """A client that went away before its reply was complete."""

    request: Request
    after_s: float
    """Seconds from the request's last byte."""
    sent_bytes: int


class Owner(Protocol):
    """The server, as a connection sees it. Called on the server's thread only."""

    def opened(self, connection: Connection) -> int:
        """Count a new connection; its number, or 0 when it is to be refused."""
        ...

    def closed(self, connection: Connection) -> None:
        """Count a connection that is no more."""
        ...

    def arrived(self, request: Request) -> Sequence[Step]:
        """Note a request; the steps of its reply."""
        ...

    def misheard(self, error: BadRequest) -> None:
        """Note bytes that were no request."""
        ...

    def left(self, disconnect: Disconnect) -> None:
        """Note a client that went away before its reply was complete."""
        ...

    def failed(self, error: BaseException) -> None:
        """Note a mistake in the test's own script."""
        ...


class Connection(asyncio.Protocol):
    """Remembers what arrived and was not read yet, and whether the client is still there."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.buffer = bytearray()
        self.more = asyncio.Event()
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None
        self.number = 0

    # -- what the event loop calls -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if transport.get_extra_info("sslcontext") is None:
            # A mark at 0 makes `writable` mean: everything is in the kernel's hands. (asyncio's
            # TLS never resumes writing with such a mark.)
            transport.set_write_buffer_limits(high=0)
        self.transport = transport
        self.number = self.owner.opened(self)
        if self.number == 0:
            transport.close()
            return
        self.task = asyncio.get_running_loop().create_task(self._serve(transport))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.more.set()

    def eof_received(self) -> bool:
        self.gone.set()
        self.more.set()
        # TLS cannot be half closed; asyncio complains when it is told to be.
        return self.transport is None or self.transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self.more.set()
        self.owner.closed(self)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def drop(self) -> None:
        """Give up the connection at once; the client sees a reset or an end."""
        if self.transport is not None:
            self.transport.abort()

    # -- requests and replies ------------------------------------------------------------------

    async def _serve(self, transport: asyncio.Transport) -> None:
        try:
            while (request := await self._next_request()) is not None:
                steps = self.owner.arrived(request)
                if not await self._play(transport, request, steps) or not request.keep_alive:
                    break
        except BadRequest as exc:
            self.owner.misheard(exc)
            refusal = error_reply(400, f"Not an HTTP/1.1 request: {exc}")
            await self._play(transport, NO_REQUEST, refusal.steps(NO_REQUEST))
        except Exception as exc:  # noqa: BLE001 - kept, and raised in the test when the server stops
            self.owner.failed(exc)
        finally:
            transport.close()

    async def _next_request(self) -> Request | None:
        while True:
            taken = take_request(self.buffer)
            if taken is not None:
                request, size = taken
                del self.buffer[:size]
                return evolve(request, at_s=time.monotonic(), connection=self.number)
            if self.gone.is_set():
                return None
            self.more.clear()
            await self.more.wait()

    async def _play(
        self, transport: asyncio.Transport, request: Request, steps: Sequence[Step]
    ) -> bool:
        """Whether the connection can carry another request."""
        sent = 0
        last = max((i for i, step in enumerate(steps) if not isinstance(step, Close)), default=-1)
        for place, step in enumerate(steps):
            if isinstance(step, Close):
                return False
            if isinstance(step, Reset):
                await self._reset(transport)
                return False
            if isinstance(step, bytes):
                transport.write(step)
                sent += len(step)
                await asyncio.sleep(0)  # lets the loop notice a client that went away
                await self._until(self.writable)
            elif isinstance(step, Pause):
                await self._until(self.gone, step.seconds)
            else:
                await self._wait_for(step)
            if self.gone.is_set() and (place < last or not self.writable.is_set()):
                after_s = time.monotonic() - request.at_s
                self.owner.left(Disconnect(request=request, after_s=after_s, sent_bytes=sent))
                return False
        return True

    async def _until(self, event: asyncio.Event, limit_s: float | None = None) -> None:
        """Until `event`, the client's going or the limit, whichever is first."""
        if event.is_set() or self.gone.is_set():
            return
        waits = [asyncio.ensure_future(one.wait()) for one in (event, self.gone)]
        try:
            await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _wait_for(self, gate: Gate) -> None:
        until_s = time.monotonic() + gate.limit_s
        while not gate.is_open and not self.gone.is_set():
            if time.monotonic() > until_s:
                raise TimeoutError(f"A gate of the test server was not opened in {gate.limit_s} s.")
            await asyncio.sleep(GATE_POLL_S)

    async def _reset(self, transport: asyncio.Transport) -> None:
        # A reset overtakes bytes that the client has not been given yet.
        await asyncio.sleep(DELIVERY_S)
        if transport.is_closing():
            return
        sock = transport.get_extra_info("socket")
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
