"""Work that goes on while the client does something else, and its results, kept for a while."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import define, field, frozen

from scillm.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup

    from scillm.records import Json

RUNNING = "running"
DONE = "done"
CANCELLED = "cancelled"


@frozen(kw_only=True)
class Answer:
    """What is answered once the work has ended."""

    status: int
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(factory=dict)


@define(kw_only=True)
class Kept:
    """One piece of work. Remembers its state, its progress and, at the end, its answer."""

    id: str
    scope: anyio.CancelScope
    over: anyio.Event
    state: str = RUNNING
    progress: dict[str, Json] = field(factory=dict)
    answer: Answer | None = None
    ended: float | None = None


Work: TypeAlias = Callable[[], Awaitable[Answer]]


class Jobs:
    """Remembers running work, and the last `max_kept` ended ones for `ttl_s` seconds."""

    def __init__(
        self, *, max_kept: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_kept = max_kept
        self.ttl_s = ttl_s
        self._clock = clock
        self._kept: dict[str, Kept] = {}
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Jobs:
        """From here on work can be started."""
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel what still runs, and wait for its end."""
        group, self._group = self._group, None
        if group is not None:
            group.cancel_scope.cancel()
            await group.__aexit__(kind, error, trace)

    def start(self, id: str, work: Callable[[Kept], Work]) -> Kept:
        """Begin `work(kept)()` in the background."""
        if self._group is None:
            raise UsageError(
                "Background work needs the app's lifespan, but the server did not run it: mount "
                "the bridge at the root of a server, or start it with scillm.serve.run.serve."
            )
        self.forget_old()
        kept = Kept(id=id, scope=anyio.CancelScope(), over=anyio.Event())
        self._kept[id] = kept
        self._group.start_soon(self._run, kept, work(kept))
        return kept

    def get(self, id: str) -> Kept | None:
        """The work of that name, if it is still known."""
        self.forget_old()
        return self._kept.get(id)

    def forget(self, id: str) -> None:
        """Cancel the work of that name when it runs, and forget it."""
        kept = self._kept.pop(id, None)
        if kept is not None:
            kept.scope.cancel()

    def __len__(self) -> int:
        return len(self._kept)

    async def _run(self, kept: Kept, work: Work) -> None:
        try:
            with kept.scope:
                kept.answer = await work()
        finally:
            kept.state = CANCELLED if kept.answer is None else DONE
            kept.ended = self._clock()
            kept.over.set()

    def forget_old(self) -> None:
        """Drop answers that nobody fetched in time, and the oldest when there are too many."""
        now = self._clock()
        ended = sorted((row.ended, row.id) for row in self._kept.values() if row.ended is not None)
        surplus = max(0, len(ended) - self.max_kept)
        for place, (moment, name) in enumerate(ended):
            if place < surplus or now - moment > self.ttl_s:
                del self._kept[name]
