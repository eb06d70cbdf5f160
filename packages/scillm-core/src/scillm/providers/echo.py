"""The provider that says back what it was told: for trying things out with no key and no server."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from scillm.errors import BadRequestError
from scillm.models import ChatMessage, Choice, ChunkChoice, Completion, CompletionChunk, Delta
from scillm.providers.vectors import answer_with
from scillm.records import evolve
from scillm.runs.canonical import digest

if TYPE_CHECKING:
    from scillm.models import EmbeddingResponse
    from scillm.protocols import Host
    from scillm.records import ChatRequest, EmbeddingRequest, Endpoint

MARK = {"echo": True}
DIMENSIONS = 8
MOST_DIMENSIONS = 65_536
"""Numbers of an echo's vector where none are asked for, and at most."""


class Echo:
    """Answers with the text of the last user message. Every answer, also of vectors, is marked.

    Usage is left out: an echo has no tokens.
    """

    def __init__(self, endpoint: Endpoint, host: Host) -> None:
        self.endpoint = endpoint
        self.host = host

    async def complete(self, request: ChatRequest, /) -> Completion:
        """The last user message; `BadRequestError` when there is none."""
        message = ChatMessage(content=self._said(request))
        return Completion(
            id=answer_id(request),
            model=request.model,
            choices=[Choice(message=message, finish_reason="stop")],
            additional_kwargs={"echo": dict(MARK)},
        )

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, /
    ) -> AsyncIterator[AsyncIterator[CompletionChunk]]:
        """The same, word by word."""
        chunks = self._chunks(request)
        try:
            yield chunks
        finally:
            await chunks.aclose()

    async def embed(self, request: EmbeddingRequest, /) -> EmbeddingResponse:
        """A vector per piece, drawn from its digest: equal for equal pieces, without meaning."""
        wanted = request.params.get("dimensions", DIMENSIONS)
        if type(wanted) is not int or not 0 < wanted <= MOST_DIMENSIONS:
            raise BadRequestError(
                f"dimensions must be a whole number from 1 to {MOST_DIMENSIONS}, but is "
                f"{wanted!r}.",
                provider=self.endpoint.provider,
                model=request.model,
                status_code=400,
            )
        vectors = [_drawn(digest([request.model, piece]), wanted) for piece in request.pieces]
        answer = answer_with(vectors, request)
        return evolve(answer, additional_kwargs={"echo": dict(MARK)})

    async def _chunks(self, request: ChatRequest) -> AsyncGenerator[CompletionChunk, None]:
        name = answer_id(request)
        for word in re.findall(r"\s*\S+|\s+$", self._said(request)):
            choice = ChunkChoice(delta=Delta(role="assistant", content=word))
            yield CompletionChunk(id=name, model=request.model, choices=[choice])
        last = ChunkChoice(delta=Delta(), finish_reason="stop")
        yield CompletionChunk(id=name, model=request.model, choices=[last], extra=dict(MARK))

    def _said(self, request: ChatRequest) -> str:
        said = [m.get("content") for m in request.messages if m.get("role") == "user"]
        if not said:
            raise BadRequestError(
                "The echo provider says back the last user message, but there is none.",
                provider=self.endpoint.provider,
                model=request.model,
                status_code=400,
            )
        return text_of(said[-1])


def answer_id(request: ChatRequest) -> str:
    """An id that depends on the request alone."""
    return f"echo-{digest([request.model, [dict(m) for m in request.messages]])[7:23]}"


def _drawn(seed: str, dimensions: int) -> list[float]:
    drawn = hashlib.shake_256(seed.encode()).digest(2 * dimensions)
    return [number / 2**15 for number in struct.unpack(f"<{dimensions}h", drawn)]


def text_of(content: object) -> str:
    """The text in a message's content, which may be a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if isinstance(part, dict) and "text" in part)
