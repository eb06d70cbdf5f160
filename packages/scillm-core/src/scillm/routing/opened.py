"""A provider's stream, opened: its first chunk is here, so the attempt has succeeded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from scillm.errors import UsageError
from scillm.protocols import Streams
from scillm.records import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.models import Completion, CompletionChunk, Usage
    from scillm.records import Json
    from scillm.routing.legs import Leg


class OpenStream:
    """A stream whose first chunk is here. Remembers the provider's context until it is closed.

    `side` is what the provider says about the reply besides its chunks (the attribute `side` of
    what `stream` gives, where it has one).
    """

    def __init__(
        self,
        context: AbstractAsyncContextManager[AsyncIterator[CompletionChunk]],
        chunks: AsyncIterator[CompletionChunk],
        first: CompletionChunk | None,
    ) -> None:
        self.first = first
        self.chunks = chunks
        self.side: Mapping[str, Json] = getattr(chunks, "side", {})
        self.at_close: list[Callable[[], None]] = []
        self.usage: Callable[[], Usage | None] = _not_said
        """What the stream says it used; whoever adds up its chunks puts this here."""
        self.finish: Callable[[Completion], Completion] = _as_it_is
        """What is to be noted on the answer."""
        self._context: AbstractAsyncContextManager[AsyncIterator[CompletionChunk]] | None = context

    @classmethod
    async def begin(cls, leg: Leg) -> OpenStream:
        """Open the stream of `leg` and wait for its first chunk."""
        provider = leg.provider()
        assert isinstance(leg.request, ChatRequest)
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


def _not_said() -> None:
    return None


def _as_it_is(completion: Completion) -> Completion:
    return completion
