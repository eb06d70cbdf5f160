"""The provider `markov`: answers whole, or word by word."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from scillm.models import ChunkChoice, CompletionChunk, Delta

from scillm_markov.answer import answer_to

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from scillm.models import Completion
    from scillm.protocols import Host
    from scillm.records import ChatRequest, Endpoint


class Markov:
    """Talks like the conversation it was given. Remembers only its name."""

    def __init__(self, endpoint: Endpoint, _host: Host) -> None:
        self._name = endpoint.provider

    async def complete(self, request: ChatRequest, /) -> Completion:
        """The whole answer."""
        return answer_to(request, provider=self._name)

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, /
    ) -> AsyncIterator[AsyncIterator[CompletionChunk]]:
        """The same answer, one word per chunk."""
        async with aclosing(chunks_of(answer_to(request, provider=self._name))) as chunks:
            yield chunks


async def chunks_of(answer: Completion) -> AsyncGenerator[CompletionChunk, None]:
    """A chunk per word, then one that says why the answer ended and what it cost."""
    for number, word in enumerate(answer.text.split()):
        delta = Delta(role="assistant", content=f" {word}" if number else word)
        yield CompletionChunk(model=answer.model, choices=[ChunkChoice(delta=delta)])
    end = ChunkChoice(delta=Delta(), finish_reason=answer.choices[0].finish_reason)
    yield CompletionChunk(model=answer.model, choices=[end], usage=answer.usage)
