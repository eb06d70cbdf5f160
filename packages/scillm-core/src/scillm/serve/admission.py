"""Admission: so many pieces of work at a time, so many waiting in turn, the rest are refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from scillm.serve.problems import Problem, Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

LONGEST_ADVICE_S = 120.0
NEW_SHARE = 0.2
"""Weight of the newest duration in the running mean."""


class Admission:
    """The way in. Remembers how much runs, how much waits, and how long work takes."""

    def __init__(
        self,
        *,
        width: int,
        queue: int,
        queue_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if width < 1 or queue < 0 or queue_s <= 0:
            raise ValueError(
                "Admission needs width >= 1, queue >= 0 and queue_s > 0, but got "
                f"width={width}, queue={queue}, queue_s={queue_s:g}."
            )
        self.width = width
        self.queue = queue
        self.queue_s = queue_s
        self.running = 0
        self.waiting = 0
        self.usual_s = 1.0
        self._clock = clock
        self._free: anyio.Semaphore | None = None

    def enter(self) -> Ticket:
        """A place in the queue, to be used with `async with`; raises `Refused` (429) when full."""
        if self.running + self.waiting >= self.width + self.queue:
            raise Refused(self._too_busy(f"{self.running} running and {self.waiting} waiting"))
        self.waiting += 1
        return Ticket(self, self._clock)

    def leave(self) -> None:
        """Give back a place in the queue that was not used."""
        self.waiting -= 1

    async def begin(self) -> None:
        """Wait for a free slot, in turn; raises `Refused` (429) after `queue_s`."""
        if self._free is None:
            # Not before: an app may be made on another event loop than it is served on.
            self._free = anyio.Semaphore(self.width)
        try:
            with anyio.move_on_after(self.queue_s) as scope:
                await self._free.acquire()
        finally:
            self.waiting -= 1
        if scope.cancelled_caught:
            raise Refused(self._too_busy(f"no slot became free within {self.queue_s:g} s"))
        self.running += 1

    def end(self, took_s: float) -> None:
        """Give the slot back."""
        self.running -= 1
        self.usual_s += NEW_SHARE * (took_s - self.usual_s)
        if self._free is not None:
            self._free.release()

    def _too_busy(self, how: str) -> Problem:
        rounds = 1 + self.waiting // self.width
        return Problem(
            status=429,
            message=f"The server is busy ({how}; at most {self.width} at a time and {self.queue} "
            "waiting). Nothing was started; try again later.",
            code="queue_full",
            retry_after_s=min(LONGEST_ADVICE_S, rounds * self.usual_s),
        )


class Ticket:
    """One place in the queue, later one slot. Remembers when its work began."""

    def __init__(self, admission: Admission, clock: Callable[[], float]) -> None:
        self._admission = admission
        self._clock = clock
        self._began = 0.0

    async def __aenter__(self) -> Ticket:
        await self._admission.begin()
        self._began = self._clock()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._admission.end(self._clock() - self._began)
