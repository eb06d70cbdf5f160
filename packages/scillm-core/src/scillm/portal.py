"""One background event loop for all synchronous callers of this process."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from scillm.errors import UsageError

if TYPE_CHECKING:
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from anyio import CancelScope
    from anyio.from_thread import BlockingPortal

Result = TypeVar("Result")


class _Running:
    """The portal of this process: started at first use, stopped at exit, left behind by a fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.portal: BlockingPortal | None = None
        self.context: AbstractContextManager[BlockingPortal] | None = None
        self.thread_id: int | None = None
        # A context manager of the parent must never be collected in the child: its clean-up
        # joins a thread that does not exist there and waits for ever.
        self.left_behind: list[object] = []

    def get(self) -> BlockingPortal:
        if self.portal is not None:
            return self.portal
        with self.lock:
            if self.portal is None:
                from anyio.from_thread import start_blocking_portal

                self.context = start_blocking_portal(name="scillm-portal")
                self.portal = self.context.__enter__()
                self.thread_id = self.portal.call(threading.get_ident)
            return self.portal

    def stop(self) -> None:
        with self.lock:
            portal, self.portal = self.portal, None
            context, self.context = self.context, None
            self.thread_id = None
        if portal is not None and context is not None:
            # What still runs belongs to nobody any more: the program is ending.
            portal.call(partial(portal.stop, cancel_remaining=True))
            context.__exit__(None, None, None)

    def forget(self) -> None:
        self.left_behind += [self.portal, self.context]
        self.lock = threading.Lock()
        self.portal = None
        self.context = None
        self.thread_id = None


_running = _Running()
atexit.register(_running.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.forget)


def is_here() -> bool:
    """Whether this is the background loop's own thread, where a synchronous call would hang."""
    return threading.get_ident() == _running.thread_id


def start(function: Callable[..., Awaitable[Result]], *args: Any) -> Future[Result]:
    """Start `function(*args)` on the background loop; cancelling the future cancels it there.

    Raises `UsageError` when called from the background loop itself, which would wait for itself.
    """
    if is_here():
        raise UsageError(
            "A synchronous SciLLM call was made from SciLLM's own event loop (a hook, a provider "
            "or a callback). Use the async form there, for example `await acompletion(…)`."
        )
    return _running.get().start_task_soon(function, *args)


class _Work(Generic[Result]):
    """A call on the background loop that can be cancelled from anywhere, at any moment.

    Ctrl-C may come while the call is still being handed over, when there is no future yet.
    """

    def __init__(self, function: Callable[..., Awaitable[Result]], args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args
        self.scope: CancelScope | None = None
        self.given_up = False
        self.ended = False

    async def run(self) -> Result:
        from anyio import CancelScope

        try:
            with CancelScope() as self.scope:
                if self.given_up:
                    self.scope.cancel()
                return await self.function(*self.args)
            raise UsageError("The call was cancelled.")
        finally:
            self.ended = True

    def give_up(self) -> None:
        self.given_up = True
        scope, portal = self.scope, _running.portal
        if not self.ended and scope is not None and portal is not None:
            portal.start_task_soon(scope.cancel)


def call(function: Callable[..., Awaitable[Result]], *args: Any) -> Result:
    """Run `function(*args)` on the background loop and wait; Ctrl-C cancels it there."""
    work = _Work(function, args)
    try:
        return start(work.run).result()
    except BaseException:
        work.give_up()
        raise
