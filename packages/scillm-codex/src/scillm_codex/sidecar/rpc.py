"""JSON-RPC with a Codex app-server: calls with a time limit, notifications sorted by thread."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import define, field
from scillm.errors import APIConnectionError, APITimeoutError, ScillmError

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from scillm.records import Json

log = logging.getLogger("scillm.codex")

RPC_S = 30.0
"""How long Codex may take to take note of something; a turn itself may take longer."""
GONE = "The Codex process has ended{why}. Another try starts a new one."
REFUSED = {"code": -32601, "message": "This client does not answer that."}

Notes: TypeAlias = "MemoryObjectReceiveStream[Mapping[str, Json]]"


class RpcError(ScillmError):
    """Codex refused a call. `.code` is JSON-RPC's, `.data` what came with it."""

    def __init__(self, message: str, *, code: int = 0, data: Json = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


@define
class _Pending:
    """A call on its way. Remembers the reply, and what shall happen the moment it is read."""

    done: anyio.Event = field(factory=anyio.Event)
    reply: Mapping[str, Json] | None = None
    heard: Callable[[Json], None] | None = None


class Rpc:
    """One connection. Remembers calls on their way and who listens to which thread."""

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._write = write
        self._lock = anyio.Lock()
        self._next = 0
        self._pending: dict[int, _Pending] = {}
        self._threads: dict[str, MemoryObjectSendStream[Mapping[str, Json]]] = {}
        self._closed: str | None = None

    @property
    def waiting(self) -> int:
        """Calls on their way."""
        return len(self._pending)

    async def call(
        self,
        method: str,
        params: Json,
        *,
        within_s: float = RPC_S,
        heard: Callable[[Json], None] | None = None,
    ) -> Json:
        """The result; `RpcError`, `APITimeoutError`, or `APIConnectionError` after the end."""
        if self._closed is not None:
            raise self.gone()
        self._next += 1
        number, pending = self._next, _Pending(heard=heard)
        self._pending[number] = pending
        try:
            with anyio.move_on_after(within_s):
                await self._send({"method": method, "id": number, "params": params})
                await pending.done.wait()
        finally:
            self._pending.pop(number, None)
        if pending.reply is None:
            if self._closed is not None:
                raise self.gone()
            raise APITimeoutError(f"Codex did not answer {method} within {within_s:g} s.")
        if "error" in pending.reply:
            error = pending.reply["error"]
            raise RpcError(
                str(error.get("message", error)),
                code=int(error.get("code", 0)),
                data=error.get("data"),
            )
        return pending.reply.get("result")

    async def settle(
        self, method: str, params: Json, *, heard: Callable[[Json], None] | None = None
    ) -> Json:
        """`call`, whose answer is waited for even where the caller is cancelled meanwhile."""
        results: list[Json] = []
        with anyio.CancelScope(shield=True):
            results.append(await self.call(method, params, heard=heard))
        return results[0]

    async def open(self, params: Json) -> tuple[str, Notes]:
        """Start a thread: its id and its notifications, which end with the connection.

        It is listened to from the moment its id is read. Threads that Codex starts by itself, for
        agents of its own, are nobody's here.
        """
        streams: list[Notes] = []

        def listen(started: Json) -> None:
            send, receive = anyio.create_memory_object_stream[Mapping[str, "Json"]](math.inf)
            self._threads[started["thread"]["id"]] = send
            streams.append(receive)

        # A thread whose id nobody heard could never be let go.
        started = await self.settle("thread/start", params, heard=listen)
        return started["thread"]["id"], streams[0]

    async def notify(self, method: str) -> None:
        """Say something that has no answer."""
        await self._send({"method": method})

    async def post(self, method: str, params: Json) -> None:
        """Call without waiting for the result, which is left out."""
        self._next += 1
        await self._send({"method": method, "id": self._next, "params": params})

    def forget(self, thread: str) -> None:
        """Listen to a thread no more."""
        stream = self._threads.pop(thread, None)
        if stream is not None:
            stream.close()

    async def take(self, line: bytes) -> None:
        """Sort one line of Codex's."""
        try:
            message = json.loads(line)
        except ValueError:
            log.warning("Codex wrote a line that is not JSON; it was left out: %r", line[:200])
            return
        if not isinstance(message, dict):
            return
        if "method" not in message:
            self._answered(message)
            return
        self._sort(message)
        if "id" in message and message["method"] != "item/tool/call":
            # Approvals and questions to a person: nobody is here, so the answer is no. A tool call
            # stays open; the client answers it in its next request.
            await self._send({"id": message["id"], "error": REFUSED})

    def close(self, why: str = "") -> None:
        """End: every call on its way and every listener is told."""
        self._closed = why
        for pending in self._pending.values():
            pending.done.set()
        for stream in self._threads.values():
            stream.close()
        self._threads.clear()

    def gone(self) -> APIConnectionError:
        """What to raise once the connection has ended."""
        return APIConnectionError(GONE.format(why=f": {self._closed}" if self._closed else ""))

    def _answered(self, message: Mapping[str, Json]) -> None:
        number = message.get("id")
        pending = self._pending.get(number) if isinstance(number, int) else None
        if pending is not None:
            pending.reply = message
            if pending.heard is not None and "error" not in message:
                pending.heard(message.get("result"))
            pending.done.set()

    def _sort(self, message: Mapping[str, Json]) -> None:
        params = message.get("params")
        if not isinstance(params, dict):
            return
        thread = params.get("threadId")
        if isinstance(thread, str) and thread in self._threads:
            self._threads[thread].send_nowait(message)

    async def _send(self, message: Mapping[str, Json]) -> None:
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        # Half a line would break every later one.
        with anyio.CancelScope(shield=True):
            async with self._lock:
                try:
                    with anyio.fail_after(RPC_S):
                        await self._write(line)
                except TimeoutError:
                    self.close("it takes nothing in any more")
                    raise self.gone() from None
                except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                    raise self.gone() from None
