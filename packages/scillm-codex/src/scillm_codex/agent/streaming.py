"""A run as a stream: chunks while it goes on, and its end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import evolve
from scillm.models import ChunkChoice, CompletionChunk, Delta

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from scillm.models import Completion

Say: TypeAlias = "Callable[[Delta], Awaitable[None]]"


class RunStream:
    """The chunks of one run, as a context manager. Holds its task; leaving ends the run.

    `work` makes the run and tells it. Entered and left in one task.
    """

    def __init__(self, work: Callable[[Say], Awaitable[Completion]], *, model: str) -> None:
        self._work = work
        self._head = CompletionChunk(created=int(time.time()), model=model)
        self._group = anyio.create_task_group()
        self._failures: list[Exception] = []

    async def __aenter__(self) -> AsyncIterator[CompletionChunk]:
        send, receive = anyio.create_memory_object_stream[CompletionChunk](0)
        await self._group.__aenter__()
        self._group.start_soon(self._run, send)
        return self._chunks(receive)

    async def __aexit__(self, *_error: object) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    async def _run(self, send: MemoryObjectSendStream[CompletionChunk]) -> None:
        async def say(delta: Delta) -> None:
            await send.send(evolve(self._head, choices=[ChunkChoice(delta=delta)]))

        with send:
            try:
                answer = await self._work(say)
            except Exception as error:  # noqa: BLE001  (raised where the chunks are read)
                self._failures.append(error)
                return
            (choice,) = answer.choices
            end = ChunkChoice(delta=Delta(), finish_reason=choice.finish_reason)
            await send.send(evolve(self._head, choices=[end], usage=answer.usage))

    async def _chunks(
        self, receive: MemoryObjectReceiveStream[CompletionChunk]
    ) -> AsyncIterator[CompletionChunk]:
        with receive:
            async for chunk in receive:
                yield chunk
        for failure in self._failures:
            raise failure
