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

from scillm.errors import UsageError
from scillm.serve.guard import refuse_open_host

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

AsgiApp: TypeAlias = Callable[..., Any]
GRACE_S = 10
"""Seconds that calls under way get after the first SIGTERM or SIGINT."""


def serve(
    app: AsgiApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    name: str = "scillm",
    grace_s: int = GRACE_S,
    say: Callable[[str], None] | None = None,
) -> None:
    """Serve `app` until SIGINT or SIGTERM; a second signal ends it at once.

    `say` gets one line, `NAME ready on http://HOST:PORT`, once the port is open (default: stdout).
    `token` is what the app was made with: without one, a host beyond loopback is refused with
    `UsageError`, as is an address that is taken.
    """
    listener = bound(host, port, token=token)
    anyio.run(_until_signalled, app, listener, name, grace_s, say or _print)


async def serve_async(
    app: AsgiApp,
    listener: socket.socket,
    *,
    grace_s: int = GRACE_S,
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on a bound socket until cancelled, then end within `grace_s`.

    Tells its base URL through `task_status` once it answers.
    """
    server = _Server(_config(app, grace_s))
    await _run(server, listener, partial(task_status.started, url_of(listener)), signals=False)


def bound(host: str, port: int, *, token: str | None) -> socket.socket:
    """A socket that will listen there; port 0 takes a free one. Raises `UsageError`."""
    refuse_open_host(host, token=token)
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise UsageError(f"The host {host!r} cannot be bound: {error}.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


def _config(app: AsgiApp, grace_s: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=grace_s,
    )


async def _until_signalled(
    app: AsgiApp, listener: socket.socket, name: str, grace_s: int, say: Callable[[str], None]
) -> None:
    server = _Server(_config(app, grace_s))
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
