"""What a test server saw: requests, connections, clients that went away, mistakes of the script."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.connection import Connection, Disconnect
    from support.http1 import BadRequest, Request


class Witness:
    """Remembers everything. Written on the server's thread, read on the test's."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._disconnects: list[Disconnect] = []
        self._malformed: list[BadRequest] = []
        self._failures: list[BaseException] = []
        self._connections: set[Connection] = set()
        self._opened = 0
        self._refusing = 0

    def refuse_connections(self, count: int) -> None:
        """Close the next `count` connections as soon as they are accepted."""
        with self._changed:
            self._refusing = count

    # -- read by the test ----------------------------------------------------------------------

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

    # -- told by the connections ---------------------------------------------------------------

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
