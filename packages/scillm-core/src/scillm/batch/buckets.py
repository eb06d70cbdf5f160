"""Token buckets in the seeds' call forms: `TokenBucket` for threads, `AsyncTokenBucket` for tasks.

Both really limit: no call goes on without its token, and calls go on in the order they came.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

import anyio
from attrs import define

from scillm.errors import UsageError
from scillm.plugins.settings import read
from scillm.resilience.limiter import Limiter
from scillm.resilience.limits import Bucket, Rates

if TYPE_CHECKING:
    from types import TracebackType

    from scillm.records import Json


@define
class _Tally:
    """What `stats()` reports. Remembers sums; every method is called under a lock."""

    name: str | None
    max_sleep_s: float
    acquired: int = 0
    slept_s_total: float = 0.0
    rejects: int = 0
    last_sleep_s: float = 0.0

    def add(self, waited_s: float) -> None:
        self.acquired += 1
        self.slept_s_total += waited_s
        self.last_sleep_s = waited_s
        self.rejects += int(waited_s / self.max_sleep_s)

    def report(self) -> dict[str, Json]:
        return {
            "name": self.name,
            "acquired": self.acquired,
            "slept_s_total": self.slept_s_total,
            "rejects": self.rejects,
            "last_sleep_s": self.last_sleep_s,
        }


class _Once:
    """A token in the hand. Remembers whether a `with` has used it."""

    __slots__ = ("_is_used",)

    def __init__(self) -> None:
        self._is_used = False

    def use(self) -> None:
        if self._is_used:
            raise UsageError(
                "This token was used by an earlier `with`. Call `bucket.acquire()` once for each."
            )
        self._is_used = True


class Acquired(_Once):
    """What `TokenBucket.acquire` returns: the token is taken, the body may run."""

    __slots__ = ()

    def __enter__(self) -> Acquired:
        self.use()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is given back: a token is spent, not lent."""


class TokenBucket:
    """At most `capacity` + `rate_per_sec`·t calls in any time t, over all threads.

    `with bucket.acquire(): call()`. `max_sleep_s` is the longest single sleep: a longer wait is
    slept in parts, each part that ended without a token counts as one of `rejects`, and the call
    still waits for its token. The lock is not held while the body runs, so acquiring again inside
    takes another token.
    """

    def __init__(
        self,
        rate_per_sec: float,
        capacity: float,
        max_sleep_s: float = 2.0,
        name: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        _check(rate_per_sec, capacity, max_sleep_s)
        self._bucket = Bucket(rate=rate_per_sec, burst=capacity)
        self._tally = _Tally(name, max_sleep_s)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._line: deque[threading.Event] = deque()

    def acquire(self) -> Acquired:
        """Wait for a token and take it; usable with or without `with`."""
        entered = self._clock()
        mine = threading.Event()
        with self._lock:
            self._line.append(mine)
            if self._line[0] is mine:
                mine.set()
        try:
            mine.wait()
            while wait := self._try(entered):
                self._sleep(min(wait, self._tally.max_sleep_s))
        finally:
            # Also after Ctrl-C: whoever gives up leaves the line to those behind.
            with self._lock:
                self._line.remove(mine)
                if self._line:
                    self._line[0].set()
        return Acquired()

    def stats(self) -> dict[str, Json]:
        """`name, acquired, slept_s_total, rejects, last_sleep_s`; seconds include the line."""
        with self._lock:
            return self._tally.report()

    def _try(self, entered: float) -> float:
        with self._lock:
            now = self._clock()
            wait = self._bucket.wait_s(now)
            if not wait:
                self._bucket.take(now)
                self._tally.add(now - entered)
            return wait


class AsyncAcquired(_Once):
    """What `AsyncTokenBucket.acquire` returns: awaiting or entering it waits for the token."""

    __slots__ = ("_bucket", "_is_held")

    def __init__(self, bucket: AsyncTokenBucket) -> None:
        super().__init__()
        self._bucket = bucket
        self._is_held = False

    def __await__(self) -> Generator[Any, Any, AsyncAcquired]:
        return self._held().__await__()

    async def __aenter__(self) -> AsyncAcquired:
        self.use()
        return await self._held()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is given back: a token is spent, not lent."""

    async def _held(self) -> AsyncAcquired:
        if not self._is_held:
            await self._bucket.take()
            self._is_held = True
        return self


class AsyncTokenBucket:
    """`TokenBucket` for tasks, of one event loop or several.

    `async with (await bucket.acquire()): …` and `async with bucket.acquire(): …` are the same. A
    task that is cancelled while it waits leaves the line and takes no token.
    """

    def __init__(
        self,
        rate_per_sec: float,
        capacity: float,
        max_sleep_s: float = 2.0,
        name: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        _check(rate_per_sec, capacity, max_sleep_s)
        rates = Rates(rpm=rate_per_sec * 60.0, burst=capacity, adaptive=False)

        async def in_parts(wait_s: float) -> None:
            await sleep(min(wait_s, max_sleep_s))

        self._limiter = Limiter(rates, name=name or "", clock=clock, sleep=in_parts)
        self._tally = _Tally(name, max_sleep_s)
        self._lock = threading.Lock()

    def acquire(self) -> AsyncAcquired:
        """A token to be awaited or entered; nothing is taken before that."""
        return AsyncAcquired(self)

    async def take(self) -> None:
        """Wait for a token and take it."""
        async with self._limiter.slot() as slot:
            with self._lock:
                self._tally.add(slot.waited_s)

    def stats(self) -> dict[str, Json]:
        """`name, acquired, slept_s_total, rejects, last_sleep_s`; seconds include the line."""
        with self._lock:
            return self._tally.report()


def token_bucket_from_env(
    rate_per_sec: float = 3.0,
    capacity: float = 6,
    max_sleep_s: float = 2.0,
    *,
    name: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> TokenBucket:
    """A `TokenBucket` of SCILLM_BUCKET_RATE, _CAPACITY and _MAX_SLEEP_S; arguments are defaults."""
    return TokenBucket(
        read("bucket_rate", environ, default=rate_per_sec),
        read("bucket_capacity", environ, default=capacity),
        read("bucket_max_sleep_s", environ, default=max_sleep_s),
        name,
    )


def _check(rate_per_sec: float, capacity: float, max_sleep_s: float) -> None:
    if not (_is_number(rate_per_sec) and rate_per_sec > 0):
        raise UsageError(
            f"rate_per_sec must be a number above 0, but is {rate_per_sec!r}. A bucket that never "
            "fills would stop every call; to stop calls, do not make them."
        )
    if not (_is_number(capacity) and capacity >= 1):
        raise UsageError(f"capacity must be at least 1 token, but is {capacity!r}.")
    if not (_is_number(max_sleep_s) and max_sleep_s > 0):
        raise UsageError(f"max_sleep_s must be a number above 0, but is {max_sleep_s!r}.")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isfinite(value)
