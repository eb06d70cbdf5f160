"""One place in a line that is woken from any event loop and any thread."""

from __future__ import annotations

import threading
from typing import Any

import anyio
from anyio.lowlevel import current_token


class Waiter:
    """One place in line. Remembers where the waiter sleeps."""

    __slots__ = ("deadline", "event", "native", "thread_id", "tokens")

    def __init__(self, tokens: float, deadline: float) -> None:
        self.tokens = tokens
        self.deadline = deadline
        self.event = anyio.Event()
        self.thread_id = threading.get_ident()
        self.native: Any = current_token().native_token

    def wake(self) -> bool:
        """Wake the waiter, on whatever loop it sleeps; False when that loop has ended."""
        if threading.get_ident() == self.thread_id:
            self.event.set()
            return True
        # The names of asyncio's loop and of trio's token for the same thing.
        call = getattr(self.native, "call_soon_threadsafe", None) or self.native.run_sync_soon
        try:
            call(self.event.set)
        except RuntimeError:  # trio.RunFinishedError is one too
            return False
        return True
