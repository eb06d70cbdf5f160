"""Running a server (uvicorn's door): loopback by default, one ready line, a bounded end."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from scillm.errors import UsageError
from scillm.serve.guard import refuse_open_host

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

AsgiApp: TypeAlias = Callable[..., Any]
GRACE_S = 10
"""Seconds that calls under way get after the first SIGTERM or SIGINT."""
HEAD_S = 15.0
"""Seconds in which the head of a request must have come; then the connection is closed."""
MOST_PORT = 65_535
TAKE_S = 60.0
"""Seconds for which a client may take nothing of what was sent to it; then it counts as gone."""


def serve(
    app: AsgiApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    name: str = "scillm",
    grace_s: int = GRACE_S,
    head_s: float = HEAD_S,
    take_s: float = TAKE_S,
    say: Callable[[str], None] | None = None,
) -> None:
    """Serve `app` until SIGINT or SIGTERM; a second signal ends it at once.

    `say` gets one line, `NAME ready on http://HOST:PORT`, once the port is open (default: stdout).
    `token` is what the app was made with: without one, a host beyond loopback is refused with
    `UsageError`, as is an address that is taken. `head_s` and `take_s` bound how long a client may
    hold a connection open without sending a request, and without taking its answer.
    """
    listener = bound(host, port, token=token, take_s=take_s)
    config = _config(app, grace_s, head_s)
    anyio.run(_until_signalled, config, listener, name, say or _print)


async def serve_async(
    app: AsgiApp,
    listener: socket.socket,
    *,
    grace_s: int = GRACE_S,
    head_s: float = HEAD_S,
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on a bound socket until cancelled, then end within `grace_s`.

    Tells its base URL through `task_status` once it answers.
    """
    server = _Server(_config(app, grace_s, head_s))
    await _run(server, listener, partial(task_status.started, url_of(listener)), signals=False)


def bound(host: str, port: int, *, token: str | None, take_s: float = TAKE_S) -> socket.socket:
    """A socket that will listen there; port 0 takes a free one. Raises `UsageError`.

    `take_s` is how long a client may take nothing of an answer (only where the system can watch
    that, which is on Linux).
    """
    refuse_open_host(host, token=token)
    if not 0 <= port <= MOST_PORT:  # the system would take the rest of the division
        raise UsageError(f"A port must be a number from 0 to {MOST_PORT}, but is {port}.")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise UsageError(f"The host {host!r} cannot be bound: {error}.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Handed on to every connection. Without it an answer that nobody reads is kept, and
            # the work behind a stream goes on waiting, for as long as the client likes.
            listener.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(take_s * 1000))
            )
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"{host}:{port} cannot be bound: {error.strerror}. Choose another port, or 0 for a "
            "free one."
        ) from error
    listener.set_inheritable(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a bound socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn, leaving signals to us: it would raise them again after a graceful end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.answers.set()


class _Connection(H11Protocol):
    """uvicorn's connection, closed when the head of a request does not come in time.

    uvicorn itself waits for ever for the rest of a head, so that a few bytes would hold each of a
    server's sockets.
    """

    def __init__(self, *, head_s: float, **given: Any) -> None:
        super().__init__(**given)
        self._head_s = head_s
        self._late: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late = self.loop.call_later(self._head_s, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._head_came()
        elif self._late is None:
            # The beginning of a later request ended uvicorn's wait for it.
            self._late = self.loop.call_later(self._head_s, self.transport.close)

    def on_response_complete(self) -> None:
        self._head_came()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def _head_came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def _config(app: AsgiApp, grace_s: int, head_s: float) -> uvicorn.Config:
    connection: Any = partial(_Connection, head_s=head_s)
    return uvicorn.Config(
        app,
        http=connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=grace_s,
    )


async def _until_signalled(
    config: uvicorn.Config, listener: socket.socket, name: str, say: Callable[[str], None]
) -> None:
    server = _Server(config)
    main = threading.current_thread() is threading.main_thread()
    await _run(server, listener, partial(say, f"{name} ready on {url_of(listener)}"), signals=main)


async def _run(
    server: _Server, listener: socket.socket, ready: Callable[[], None], *, signals: bool
) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_told, server, ready)
        group.start_soon(_stopping, server)
        if signals:
            group.start_soon(_obey_signals, server)
        # Cancelling uvicorn in its main loop would skip its shutdown; it is asked to end instead.
        with anyio.CancelScope(shield=True):
            # When its app fails to start, uvicorn exits, or returns, depending on its version.
            with contextlib.suppress(SystemExit):
                await server.serve(sockets=[listener])
        group.cancel_scope.cancel()
    listener.close()
    if not server.started:
        raise UsageError("The server could not start: its app failed; the log says how.")


async def _told(server: _Server, ready: Callable[[], None]) -> None:
    await server.answers.wait()
    ready()


async def _stopping(server: uvicorn.Server) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        server.should_exit = True


async def _obey_signals(server: uvicorn.Server) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _signal in signals:
            server.force_exit = server.should_exit
            server.should_exit = True


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
