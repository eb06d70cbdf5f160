"""A real HTTP server on loopback, strict by default and as broken as a test asks for.

with FaultyServer() as server:
    server.queue(CHAT_PATH, Json({"error": {"message": "busy"}}, 429), Html())
    ... a client of server.base_url ...
    assert len(server.requests) == 3
"""

from __future__ import annotations

import asyncio
import threading
import time
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

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

START_S = 5.0
STOP_S = 5.0


class FaultyServer:
    """Remembers every request and connection; answers as scripted, else as a strict chat server."""

    def __init__(self, *, api_key: str | None = None) -> None:
        self.api_key = api_key
        """Wanted as a bearer token by the default behaviour; None wants nothing."""
        self.port = 0
        self._changed = threading.Condition()
        self._routes: dict[str, Behaviour] = {CHAT_PATH: answer, MODELS_PATH: models}
        self._queues: defaultdict[str, deque[Behaviour]] = defaultdict(deque)
        self._scripted: set[str] = set()
        self._requests: list[Request] = []
        self._disconnects: list[Disconnect] = []
        self._malformed: list[BadRequest] = []
        self._failures: list[BaseException] = []
        self._connections: set[Connection] = set()
        self._opened = 0
        self._refusing = 0
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

    def refuse_connections(self, count: int) -> None:
        """Close the next `count` connections as soon as they are accepted."""
        with self._changed:
            self._refusing = count

    # -- facts ---------------------------------------------------------------------------------

    @property
    def root_url(self) -> str:
        """Where the server listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self.root_url}/v1"

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in order of arrival."""
        with self._changed:
            return list(self._requests)

    @property
    def disconnects(self) -> list[Disconnect]:
        """Clients that went away before their reply was complete."""
        with self._changed:
            return list(self._disconnects)

    @property
    def malformed(self) -> list[BadRequest]:
        """What was wrong with requests that were no HTTP/1.1."""
        with self._changed:
            return list(self._malformed)

    @property
    def connections(self) -> int:
        """Connections opened so far."""
        with self._changed:
            return self._opened

    @property
    def open_connections(self) -> int:
        """Connections open now."""
        with self._changed:
            return len(self._connections)

    def wait_until(self, predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
        """Return when `predicate()` is true; TimeoutError with the server's facts otherwise."""
        end_s = time.monotonic() + timeout_s
        while not predicate():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"Not true after {timeout_s} s; the server saw {self!r}")
            with self._changed:
                # Short, because the predicate may look at things the server knows nothing of.
                self._changed.wait(min(left_s, 0.01))

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
        server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0, backlog=1024)
        with self._changed:
            self.port = server.sockets[0].getsockname()[1]
            self._changed.notify_all()
        await self._stop.wait()
        server.close()
        tasks = [one.task for one in self._connections if one.task is not None]
        for connection in list(self._connections):
            connection.drop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets the transports close their sockets

    # -- what connections report, on the server's thread ----------------------------------------

    def opened(self, connection: Connection) -> int:
        """Count a new connection; its number, or 0 when it is to be refused."""
        with self._changed:
            self._opened += 1
            self._connections.add(connection)
            refused = self._refusing > 0
            self._refusing -= refused
            self._changed.notify_all()
            return 0 if refused else self._opened

    def closed(self, connection: Connection) -> None:
        """Count a connection that is no more."""
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()

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

    def misheard(self, error: BadRequest) -> None:
        """Note bytes that were no request."""
        with self._changed:
            self._malformed.append(error)
            self._changed.notify_all()

    def left(self, disconnect: Disconnect) -> None:
        """Note a client that went away before its reply was complete."""
        with self._changed:
            self._disconnects.append(disconnect)
            self._changed.notify_all()

    def failed(self, error: BaseException) -> None:
        """Note a mistake in the test's own script; raised when the server stops."""
        with self._changed:
            self._failures.append(error)
            self._changed.notify_all()


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
