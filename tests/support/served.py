"""An ASGI app on a real loopback port, served by our own server in a thread."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.from_thread import start_blocking_portal
from scillm.serve.run import HEAD_S, TAKE_S, bound, serve_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def served(
    app: Callable[..., Any], *, grace_s: int = 2, head_s: float = HEAD_S, take_s: float = TAKE_S
) -> Iterator[str]:
    """The base URL of `app`; leaving ends the server and waits for its thread."""
    listener = bound("127.0.0.1", 0, token=None, take_s=take_s)
    with start_blocking_portal(name="served") as portal:
        over = portal.call(anyio.Event)
        future, url = portal.start_task(partial(_serve, app, listener, grace_s, head_s), over)
        try:
            yield url
        finally:
            future.cancel()
            portal.call(over.wait)


async def _serve(
    app: Callable[..., Any],
    listener: Any,
    grace_s: int,
    head_s: float,
    over: anyio.Event,
    *,
    task_status: anyio.abc.TaskStatus[str],
) -> None:
    try:
        await serve_async(app, listener, grace_s=grace_s, head_s=head_s, task_status=task_status)
    finally:
        over.set()
