"""Streamed answers as callers hold them: async, and sync over the background loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from scillm import portal
from scillm.errors import (
    APIConnectionError,
    ProviderError,
    ScillmError,
    StreamInterruptedError,
    UsageError,
)
from scillm.http.folding import Fold
from scillm.records import evolve
from scillm.routing.stamps import CallRecord, stamped

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

    from scillm.models import Completion, CompletionChunk
    from scillm.routing.opened import OpenStream

CLOSE_S = 5.0

GoOn: TypeAlias = (
    "Callable[[ScillmError, Completion], Awaitable[tuple[CallRecord, OpenStream] | None]]"
)
"""Finds the rest of a stream that broke with an error after so much."""


class AsyncCompletionStream:
    """Chunks as they arrive. Remembers what has arrived, in `completion`.

    Iterate it, or use it as a context manager; leaving early closes the upstream. What breaks
    after the first chunk is raised as `StreamInterruptedError` with the partial completion, unless
    `go_on` finds somebody who goes on from there, which is tried once.
    """

    def __init__(self, record: CallRecord, source: OpenStream, go_on: GoOn | None = None) -> None:
        self._go_on = go_on
        self._record = record
        self._source: OpenStream | None = source
        self._fold = Fold()
        self._finish = source.finish
        source.usage = self._fold.usage

    @property
    def completion(self) -> Completion:
        """The answer so far; whole once the iteration has ended."""
        return self.stamped(self._fold.completion())

    def stamped(self, sofar: Completion) -> Completion:
        """`sofar` with what is known about this call in its additional_kwargs."""
        return stamped(self._finish(sofar), self._record)

    def __aiter__(self) -> AsyncCompletionStream:
        return self

    async def __anext__(self) -> CompletionChunk:
        source = self._source
        if source is None:
            raise StopAsyncIteration
        try:
            chunk, source.first = source.first, None
            if chunk is None:
                chunk = await anext(source.chunks)
        except StopAsyncIteration:
            await self.aclose()
            raise
        except ScillmError as error:
            await self.aclose()
            if await self._went_on(error):
                return await self.__anext__()
            raise self._interrupted(error) from error
        except BaseException:
            await self.aclose()
            raise
        self._fold.add(chunk)
        return chunk

    async def aclose(self) -> None:
        """Close the upstream; a second call does nothing."""
        source, self._source = self._source, None
        if source is not None:
            with anyio.move_on_after(CLOSE_S, shield=True):
                await source.aclose()

    async def __aenter__(self) -> AsyncCompletionStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _went_on(self, error: ScillmError) -> bool:
        go_on, self._go_on = self._go_on, None
        if go_on is None:
            return False
        sofar = self._fold.completion()
        found = await go_on(error, sofar)
        if found is None:
            return False
        record, source = found
        seam = {
            "from": self._record.endpoint,
            "to": record.endpoint,
            "error": type(error).__name__,
            "after_chars": len(sofar.text),
        }
        self._record = evolve(record, continued=seam)
        self._source, self._finish = source, source.finish
        source.usage = self._fold.usage
        return True

    def _interrupted(self, error: ScillmError) -> StreamInterruptedError:
        details: dict[str, Any] = {}
        if isinstance(error, ProviderError):
            details = {
                "provider": error.provider,
                "model": error.model,
                "status_code": error.status_code,
                "retry_after": error.retry_after,
                "body": error.body,
                "request_id": error.request_id,
            }
        broken = StreamInterruptedError(
            f"The stream broke after its first chunk: {error.message}",
            partial=self.completion,
            **details,
        )
        broken.attempts = tuple(self._record.attempts)
        return broken


class CompletionStream:
    """Chunks as they arrive, for synchronous callers. Remembers what was handed out.

    Iterate it, or use it as a context manager; leaving early, or forgetting it, closes the
    upstream. `completion` is the answer so far.
    """

    def __init__(self, opened: Callable[[], Awaitable[AsyncCompletionStream]]) -> None:
        self._belt = _Belt()
        self._fold = Fold()
        self._ended = False
        # The task holds the belt, not this object, so that forgetting the stream ends the task.
        self._task: Future[None] = portal.start(_pump, opened, self._belt)
        self._task.add_done_callback(self._belt.stop)
        try:
            opening = self._belt.opening.get()
        except BaseException:
            self.close()
            raise
        if isinstance(opening, BaseException):
            self._ended = True
            raise opening
        self._stream = opening

    @property
    def completion(self) -> Completion:
        """The answer so far; whole once the iteration has ended."""
        return self._stream.stamped(self._fold.completion())

    def __iter__(self) -> CompletionStream:
        return self

    def __next__(self) -> CompletionChunk:
        if self._ended:
            raise StopIteration
        item = self._belt.chunks.get()
        if item is None:
            self._ended = True
            raise StopIteration
        if isinstance(item, BaseException):
            self._ended = True
            raise item
        self._fold.add(item)
        return item

    def close(self) -> None:
        """Close the upstream and wait until it is closed; a second call does nothing."""
        self._ended = True
        self._task.cancel()
        if not self._belt.closed.wait(2 * CLOSE_S):
            raise APIConnectionError(f"The upstream was not closed within {2 * CLOSE_S:g} s.")

    def __enter__(self) -> CompletionStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is not None:
            task.cancel()


class _Belt:
    """What the background task hands to the caller's thread: the opening, chunks, the closing."""

    def __init__(self) -> None:
        self.opening: SimpleQueue[AsyncCompletionStream | BaseException] = SimpleQueue()
        self.chunks: SimpleQueue[CompletionChunk | BaseException | None] = SimpleQueue()
        self.closed = Event()

    def stop(self, _task: object) -> None:
        """Wake whoever waits: a cancelled task says nothing more itself."""
        self.opening.put(UsageError("The stream was closed before it was opened."))
        self.chunks.put(None)


async def _pump(opened: Callable[[], Awaitable[AsyncCompletionStream]], belt: _Belt) -> None:
    try:
        stream = await opened()
        belt.opening.put(stream)
        async with stream:
            async for chunk in stream:
                belt.chunks.put(chunk)
    except Exception as error:  # handed to the caller's thread, which raises it
        belt.opening.put(error)
        belt.chunks.put(error)
    finally:
        belt.closed.set()
