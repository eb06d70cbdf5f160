"""The pools of this process: on SciLLM's background loop, shared by every caller and every loop."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar
from attrs import frozen
from scillm import portal
from scillm.errors import UsageError

from scillm_certainly.backends.choose import choose
from scillm_certainly.errors import LeanMissingError
from scillm_certainly.pool.pool import Pool, Size
from scillm_certainly.records import CheckRequest, Facts, Lean, ProofVerdict

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_certainly.backends.records import Backend

WORKER_MB = 2_000
"""A Lean with a few import sets, and half of the one that judges for two of them."""
CALLERS = 4_096


@frozen
class _Key:
    backend: Backend
    size: Size

    def __hash__(self) -> int:
        return hash((self.backend.name, tuple(self.backend.command), self.size))


_pools: dict[_Key, Pool] = {}
"""Only touched on the background loop."""
_left_behind: list[object] = []
_limiters: RunVar[anyio.CapacityLimiter] = RunVar("certainly-callers")
Result = TypeVar("Result")


def _forget() -> None:
    """In a forked child: the workers are the parent's, and must not be ended from here."""
    _left_behind.append(dict(_pools))
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Resident:
    """A `Checker` that uses this process's pool for these settings."""

    def __init__(self, settings: Mapping[str, Json]) -> None:
        self._settings = dict(settings)
        self._key: _Key | None = None

    async def check(self, request: CheckRequest, /) -> ProofVerdict:
        """The verdict on one request; `unavailable` when there is no Lean."""
        from scillm_certainly.ladder import decide

        try:
            key = self.key()
        except LeanMissingError as error:
            facts = Facts(fault=error.message, fault_kind="unavailable")
            return decide(request, facts, Lean(backend="none"))
        return await there(_check, key, request)

    async def warm_up(self) -> Lean:
        """Have one worker ready; `LeanMissingError` or `ProverError` when that cannot be."""
        return await there(_warm_up, self.key())

    async def stats(self) -> Mapping[str, Json]:
        """Counts of the pool."""
        return await there(_stats, self.key())

    def numbers(self) -> Mapping[str, Json]:
        """Counts of the pool as it is, read from any thread; nothing before the first check."""
        pool = None if self._key is None else _pools.get(self._key)
        return {} if pool is None else pool.stats()

    async def close(self) -> None:
        """End this pool's processes; a later check starts new ones."""
        if self._key is not None:
            await there(_close, self._key)

    def key(self) -> _Key:
        """Backend and size; a Lean that is installed later is found by the next call."""
        if self._key is None:
            self._key = _Key(choose(self._settings), size_of(self._settings))
        return self._key


def size_of(settings: Mapping[str, Json]) -> Size:
    """The pool's size from settings; by default a worker per core, as far as memory goes.

    Raises `UsageError` for a number below 1.
    """
    workers = _counted(settings, "certainly_workers")
    spare = settings.get("certainly_spare")
    queue = _counted(settings, "certainly_queue")
    return Size(
        workers=default_workers() if workers is None else workers,
        spare=True if spare is None else spare,
        queue=Size().queue if queue is None else queue,
        one_caller=bool(settings.get("certainly_one_caller")),
    )


def _counted(settings: Mapping[str, Json], name: str) -> int | None:
    given: int | None = settings.get(name)
    if given is not None and given < 1:
        raise UsageError(f"SCILLM_{name.upper()} must be 1 or more, but is {given}.")
    return given


def default_workers() -> int:
    """One per usable core, but no more than fit into half of the free memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, free_mb() // 2 // WORKER_MB))


def free_mb() -> int:
    """Memory that is free for use, 0 where the system does not tell."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0
    rows = [line for line in text.splitlines() if line.startswith("MemAvailable:")]
    return int(rows[0].split()[1]) // 1024 if rows else 0


async def there(function: Callable[..., Awaitable[Result]], *args: Any) -> Result:
    """Run `function(*args)` on the background loop, from whatever loop this is."""
    if portal.is_here():
        return await function(*args)
    future = portal.start(function, *args)
    try:
        return await anyio.to_thread.run_sync(
            future.result, abandon_on_cancel=True, limiter=_limiter()
        )
    finally:
        future.cancel()  # does nothing to one that is done


def _limiter() -> anyio.CapacityLimiter:
    try:
        return _limiters.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(CALLERS)
        _limiters.set(limiter)
        return limiter


async def _check(key: _Key, request: CheckRequest) -> ProofVerdict:
    return await _pool(key).check(request)


async def _warm_up(key: _Key) -> Lean:
    return await _pool(key).warm_up()


async def _stats(key: _Key) -> Mapping[str, Json]:
    return _pool(key).stats()


async def _close(key: _Key) -> None:
    pool = _pools.pop(key, None)
    if pool is not None:
        await pool.aclose()


def _pool(key: _Key) -> Pool:
    pool = _pools.get(key)
    if pool is None:
        pool = _pools[key] = Pool(key.backend, key.size)
    return pool
