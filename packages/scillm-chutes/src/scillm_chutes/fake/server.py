"""The fake's sockets: one thread per connection, so that each can stall, reset or be watched."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any

from scillm_chutes.fake.accounts import FakeAccount
from scillm_chutes.fake.connection import Connection
from scillm_chutes.fake.models import FakeModel, default_models
from scillm_chutes.fake.site import Site

if TYPE_CHECKING:
    from scillm_chutes.fake.replies import Seen

NOTICE_S = 10.0


class FakeChutes:
    """A fake Chutes on loopback: `with FakeChutes() as fake: … fake.api_base, fake.key`.

    `models` and `accounts` replace the defaults. `clock` (Unix time) drives limits, bans, warm-ups
    and quotas; answers take real time. Remembers every request (`seen`), answer and disconnect.
    """

    def __init__(
        self,
        models: Iterable[FakeModel] | None = None,
        *,
        accounts: Iterable[FakeAccount] | None = None,
        clock: Callable[[], float] = time.time,
        port: int = 0,
        on_request: Callable[[Seen], None] | None = None,
    ) -> None:
        known = list(accounts) if accounts is not None else [FakeAccount()]
        self.site = Site(default_models() if models is None else models, known, clock=clock)
        self.account = known[0]
        self.served: list[str] = []
        self.disconnects: list[str] = []
        self.on_request = on_request
        self._server = Server(("127.0.0.1", port), Connection)
        self._server.fake = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="fake-chutes", daemon=True
        )

    @property
    def url(self) -> str:
        """The root; `/_llm`, `/_api`, `/_embed`, `/_slug/<slug>` are its hosts."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def api_base(self) -> str:
        """What CHUTES_API_BASE would be."""
        return f"{self.url}/_llm/v1"

    @property
    def key(self) -> str:
        """The first account's key."""
        return self.account.key

    @property
    def models(self) -> dict[str, FakeModel]:
        """The models by id, to be changed at will."""
        return self.site.models

    @property
    def seen(self) -> list[Seen]:
        """Every request so far."""
        return list(self.site.seen)

    @property
    def chats(self) -> list[Seen]:
        """Every inference request so far."""
        return [seen for seen in self.seen if seen.method == "POST" and seen.host != "api"]

    @property
    def wrong(self) -> list[str]:
        """Everything that a good client would not have done."""
        return [wrong for seen in self.seen for wrong in seen.wrong]

    def __enter__(self) -> FakeChutes:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and end every connection."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.end_connections()
        self._server.server_close()


class Server(ThreadingHTTPServer):
    """Connections with their threads. Remembers which are open."""

    # A program that fails before `close` must not wait for idle connections to time out.
    daemon_threads = True
    request_queue_size = 256
    fake: FakeChutes

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ending = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()

    def opened(self, connection: socket.socket) -> None:
        """A connection has its thread."""
        with self._lock:
            self._open[connection] = threading.current_thread()
            if self.ending.is_set():
                _hang_up(connection)

    def closed(self, connection: socket.socket) -> None:
        """Its thread is done with it."""
        with self._lock:
            self._open.pop(connection, None)

    def end_connections(self) -> None:
        """Hang up everywhere, and wait until the threads have noticed."""
        self.ending.set()
        with self._lock:
            serving = dict(self._open)
        for connection in serving:
            _hang_up(connection)
        for thread in serving.values():
            thread.join(NOTICE_S)
        stuck = [thread.name for thread in serving.values() if thread.is_alive()]
        if stuck:
            raise RuntimeError(f"These connections of the fake should end, but do not: {stuck}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error of the server."""


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
