"""A real HTTP server on loopback, strict by default and as broken as a test asks for.

with FaultyServer() as server:
    server.queue(CHAT_PATH, Json({"error": {"message": "busy"}}, 429), Html())
    ... a client of server.base_url ...
    assert len(server.requests) == 3
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from support.behaviours import (
    Behaviour,
    Close,
    Gate,
    Html,
    Json,
    Pause,
    Raw,
    RefuseAfterAccept,
    Reply,
    Reset,
    ResetMidBody,
    Sse,
    Stall,
    Step,
    Truncated,
    WrongLength,
    event,
    spread,
    steps_of,
)
from support.connection import Connection, Disconnect
from support.http1 import BadRequest, Request
from support.strict_chat import (
    CHAT_PATH,
    MODELS_PATH,
    answer,
    chunk_objects,
    completion_object,
    error_reply,
    models,
)
from support.witness import Witness

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from types import TracebackType

START_S = 5.0
STOP_S = 5.0
TLS_GOODBYE_S = 0.05
ACCEPT_TURNS = 5
"""Turns of the event loop between accepting a connection and knowing it, and some to spare."""


class FaultyServer(Witness):
    """Answers as scripted, else as a strict chat server. Remembers its script and what it saw."""

    def __init__(self, *, api_key: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.api_key = api_key
        """Wanted as a bearer token by the default behaviour; None wants nothing."""
        self.tls = tls
        """The server's certificate, see `support.certificates`; None speaks plain HTTP."""
        self.port = 0
        self._routes: dict[str, Behaviour] = {CHAT_PATH: answer, MODELS_PATH: models}
        self._queues: defaultdict[str, deque[Behaviour]] = defaultdict(deque)
        self._scripted: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="faulty-server", daemon=True)

    # -- scripting -----------------------------------------------------------------------------

    def route(self, path: str, behaviour: Behaviour) -> None:
        """From now on, requests to `path` get `behaviour`."""
        with self._changed:
            self._routes[path] = behaviour
            self._scripted.add(path)

    def queue(self, path: str, *behaviours: Behaviour) -> None:
        """The next requests to `path` get these, one each; then its route again."""
        with self._changed:
            self._queues[path].extend(behaviours)

    def queued(self, path: str) -> int:
        """How many queued behaviours of `path` were not used yet."""
        with self._changed:
            return len(self._queues[path])

    # -- where it is ---------------------------------------------------------------------------

    @property
    def root_url(self) -> str:
        """Where the server listens, without a path."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self.root_url}/v1"

    def __repr__(self) -> str:
        seen = [f"{request.method} {request.target}" for request in self.requests]
        return (
            f"<FaultyServer {self.root_url} connections={self.connections} "
            f"open={self.open_connections} disconnects={len(self.disconnects)} requests={seen}>"
        )

    # -- life ----------------------------------------------------------------------------------

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        self.wait_until(lambda: self.port or self._failures, START_S)
        self._raise_failures()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            raise TimeoutError(f"The test server did not stop within {STOP_S} s.")
        if error is None:
            self._raise_failures()

    def _raise_failures(self) -> None:
        if self._failures:
            raise RuntimeError("A behaviour of the test server failed.") from self._failures[0]

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as exc:  # noqa: BLE001 - handed to the test's thread, which raises it
            self.failed(exc)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop, self._stop = loop, asyncio.Event()
        server = await loop.create_server(
            lambda: Connection(self), "127.0.0.1", 0, backlog=1024, ssl=self.tls
        )
        with self._changed:
            self.port = server.sockets[0].getsockname()[1]
            self._changed.notify_all()
        await self._stop.wait()
        for _ in range(ACCEPT_TURNS):
            # A connection that was accepted just now is not yet one that could be dropped, and a
            # closed server would lose it half made.
            await asyncio.sleep(0)
        server.close()
        tasks = [one.task for one in self._connections if one.task is not None]
        for connection in list(self._connections):
            connection.drop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Lets the transports close their sockets; over TLS that takes a word from both sides, and a
        # handshake that has just failed is not in our list of connections.
        await asyncio.sleep(0 if self.tls is None else TLS_GOODBYE_S)

    # -- answering, on the server's thread -----------------------------------------------------

    def arrived(self, request: Request) -> Sequence[Step]:
        """Note a request; the steps of its reply."""
        with self._changed:
            self._requests.append(request)
            queue = self._queues[request.path]
            scripted = bool(queue) or request.path in self._scripted
            behaviour = queue.popleft() if queue else self._routes.get(request.path)
            self._changed.notify_all()
        if behaviour is None:
            behaviour = error_reply(404, f"Unknown request URL: {request.method} {request.target}")
        elif not scripted and not self._knows(request):
            behaviour = error_reply(401, "Incorrect API key provided.", code="invalid_api_key")
        return steps_of(behaviour, request)

    def _knows(self, request: Request) -> bool:
        return self.api_key is None or (
            request.headers.get("authorization") == f"Bearer {self.api_key}"
        )


__all__ = [
    "CHAT_PATH",
    "MODELS_PATH",
    "BadRequest",
    "Behaviour",
    "Close",
    "Disconnect",
    "FaultyServer",
    "Gate",
    "Html",
    "Json",
    "Pause",
    "Raw",
    "RefuseAfterAccept",
    "Reply",
    "Request",
    "Reset",
    "ResetMidBody",
    "Sse",
    "Stall",
    "Step",
    "Truncated",
    "WrongLength",
    "chunk_objects",
    "completion_object",
    "error_reply",
    "event",
    "spread",
]
