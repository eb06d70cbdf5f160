"""Keeps one Codex process running: restarts it after a death, renews it before it grows old."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from attrs import frozen
from scillm.errors import EngineError, UsageError

from scillm_codex.sidecar.child import Child, run_child

if TYPE_CHECKING:
    from anyio.abc import TaskGroup, TaskStatus

    from scillm_codex.sidecar.child import Command


@frozen(kw_only=True)
class Renewal:
    """When a process is replaced by a new one."""

    threads: int = 2000
    rss_bytes: int = 1024 * 1024 * 1024
    look_every: int = 50
    """Threads between two looks at its memory."""
    backoff_s: float = 0.5
    """Least time between two starts after a death; doubles up to `most_s`."""
    most_s: float = 30.0


def wait_s(deaths: int, since_start_s: float, renewal: Renewal) -> float:
    """Seconds to wait before the next start, after `deaths` in a row."""
    if not deaths:
        return 0.0
    wanted = min(renewal.most_s, renewal.backoff_s * 2.0 ** min(deaths - 1, 20))
    return max(0.0, wanted - since_start_s)


class Keeper:
    """The process and its successors; works inside `async with`. Remembers their number."""

    def __init__(self, command: Command, *, renewal: Renewal | None = None) -> None:
        self.command = command
        self._renewal = renewal or Renewal()
        self._group: TaskGroup | None = None
        self._child: Child | None = None
        self._lock = anyio.Lock()
        self._started = 0.0
        self._row = 0
        self.starts = self.deaths = self.renewals = 0

    @property
    def child(self) -> Child | None:
        """The process that takes requests now, if there is one."""
        child = self._child
        return child if child is not None and child.alive else None

    async def __aenter__(self) -> Keeper:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)
        self._group = None

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Child]:
        """A process for one request; it lives until the request is done, unless it dies."""
        child = await self.ready()
        child.enter()
        try:
            yield child
        finally:
            child.leave()

    async def ready(self) -> Child:
        """The process, started if need be; raises `EngineError` when it does not start."""
        async with self._lock:
            child = self._child
            if child is not None and child.alive and self._is_old(child):
                self.renewals += 1
                child.retire()
                child = None
            elif child is not None and not child.alive:
                self.deaths += 1
                self._row += 1
                child = None
            if child is None:
                child = await self._start()
            return child

    def note_answer(self) -> None:
        """A request went well: the process is not in a row of deaths."""
        self._row = 0

    def _is_old(self, child: Child) -> bool:
        if child.threads >= self._renewal.threads:
            return True
        if not child.threads or child.threads % self._renewal.look_every:
            return False
        rss = child.rss_bytes()
        return rss is not None and rss >= self._renewal.rss_bytes

    async def _start(self) -> Child:
        self._child = None
        if self._group is None:
            raise UsageError("A Keeper works inside `async with` only.")
        await anyio.sleep(wait_s(self._row, time.monotonic() - self._started, self._renewal))
        self._started = time.monotonic()
        self.starts += 1
        failures: list[EngineError] = []
        # A start must not be cut off by one client that leaves: others wait for the same process.
        child: Child | None = None
        with anyio.CancelScope(shield=True):
            child = await self._group.start(self._run, failures)
        if child is None:
            self._row += 1
            raise failures[0]
        self._child = child
        return child

    async def _run(
        self,
        failures: list[EngineError],
        *,
        task_status: TaskStatus[Child | None],
    ) -> None:
        try:
            await run_child(self.command, task_status=task_status)
        except EngineError as error:
            failures.append(error)
            task_status.started(None)
