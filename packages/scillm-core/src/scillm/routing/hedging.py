"""Hedging: when the first request is slow, a second one beside it, and the first answer wins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from scillm.errors import ScillmError

Answer = TypeVar("Answer")
Runner = Callable[[], Awaitable[Answer]]
FIRST, HEDGE = "first", "hedge"
DROP_S = 5.0
"""So long an answer that came too late may take to be closed."""


class Race(Generic[Answer]):
    """Two requests for one answer. Remembers who has answered and who has failed.

    `first` runs at once. If it has no outcome after `after_s`, `second` is asked for another
    request; it says None when there is none to be had. The first answer cancels the other. An
    error of the first that no other deployment could mend ends the race; any other error waits for
    the request that is still in the air. When both fail, the first one's error is raised.
    `discard` is given an answer that came too late.
    """

    def __init__(
        self,
        first: Runner[Answer],
        second: Callable[[], Runner[Answer] | None],
        *,
        after_s: float,
        discard: Callable[[Answer], Awaitable[None]],
    ) -> None:
        self._first = first
        self._second = second
        self._after_s = after_s
        self._discard = discard
        self._answers: list[Answer] = []
        self._failures: dict[str, Exception] = {}
        self._hedged = False
        self._settled = anyio.Event()

    async def run(self) -> Answer:
        """The answer that came first; raises the first request's error when there is none."""
        try:
            await self._race()
        except BaseException:
            for answer in self._answers:  # the caller has left in the moment it came
                await self._drop(answer)
            raise
        if self._answers:
            return self._answers[0]
        raise self._failures.get(FIRST) or self._failures[HEDGE]

    async def _race(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._ask, FIRST, self._first)
            with anyio.move_on_after(self._after_s):
                await self._settled.wait()
            other = None if self._settled.is_set() else self._second()
            if other is not None:
                self._hedged = True
                group.start_soon(self._ask, HEDGE, other)
            await self._settled.wait()
            group.cancel_scope.cancel()

    async def _ask(self, who: str, request: Runner[Answer]) -> None:
        try:
            answer = await request()
        except Exception as error:  # noqa: BLE001 - raised by `run`, bare instead of in a group
            self._failures[who] = error
            if self._ends_race(who, error):
                self._settled.set()
            return
        if self._answers:
            await self._drop(answer)
            return
        self._answers.append(answer)
        self._settled.set()

    async def _drop(self, answer: Answer) -> None:
        with anyio.move_on_after(DROP_S, shield=True):
            await self._discard(answer)

    def _ends_race(self, who: str, error: Exception) -> bool:
        if not isinstance(error, ScillmError) or not self._hedged:
            return True
        return len(self._failures) == 2 or (who == FIRST and not error.try_elsewhere)
