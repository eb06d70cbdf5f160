"""A provider's stream, opened: its first chunk is here, so the attempt has succeeded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from scillm.errors import UsageError
from scillm.protocols import Streams

if TYPE_CHECKING:
    from scillm.models import CompletionChunk
    from scillm.routing.legs import Leg


class OpenStream:
    """A stream whose first chunk is here. Remembers the provider's context until it is closed."""

    def __init__(
        self,
        context: AbstractAsyncContextManager[AsyncIterator[CompletionChunk]],
        chunks: AsyncIterator[CompletionChunk],
        first: CompletionChunk | None,
    ) -> None:
        self.first = first
        self.chunks = chunks
        self.at_close: list[Callable[[], None]] = []
        self._context: AbstractAsyncContextManager[AsyncIterator[CompletionChunk]] | None = context

    @classmethod
    async def begin(cls, leg: Leg) -> OpenStream:
        """Open the stream of `leg` and wait for its first chunk."""
        provider = leg.provider()
        if not isinstance(provider, Streams):
            raise UsageError(f"The provider {leg.endpoint.provider!r} cannot stream.")
        context = provider.stream(leg.request)
        chunks = await context.__aenter__()
        try:
            first = await anext(chunks, None)
        except BaseException as error:
            await context.__aexit__(type(error), error, error.__traceback__)
            raise
        return cls(context, chunks, first)

    async def aclose(self) -> None:
        """Close the upstream; a second call does nothing."""
        context, self._context = self._context, None
        if context is None:
            return
        try:
            await context.__aexit__(None, None, None)
        finally:
            for function in self.at_close:
                function()
