"""Answers given beforehand: `mock_response` and `mock_timeout` of a call or a row, no network."""

from __future__ import annotations

import copy
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from attrs import frozen

from scillm.errors import APITimeoutError, ScillmError, UsageError
from scillm.models import ChatMessage, Choice, ChunkChoice, Completion, CompletionChunk, Delta
from scillm.providers.echo import answer_id
from scillm.providers.replyhead import with_side
from scillm.providers.vectors import answer_with, in_order, is_vector

if TYPE_CHECKING:
    from scillm.models import EmbeddingResponse
    from scillm.records import ChatRequest, EmbeddingRequest

MARK = {"mock": True}


@frozen(kw_only=True)
class MockReply:
    """What to answer: a text, a vector, an answer's JSON, an error; or no answer in time."""

    response: str | Sequence[float] | Mapping[str, Any] | ScillmError = ""
    timeout: bool = False

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> MockReply | None:
        """The mock in a call's or a row's arguments, or None; `UsageError` for anything else."""
        response, timeout = given.get("mock_response"), given.get("mock_timeout")
        if response is None and not timeout:
            return None
        if timeout is not None and not isinstance(timeout, bool):
            raise UsageError(f"mock_timeout must be True or False, but is {timeout!r}.")
        known = isinstance(response, (str, Mapping, ScillmError)) or is_vector(response)
        if response is not None and not known:
            raise UsageError(
                "mock_response must be a text, an answer as JSON, an error of scillm.errors, or "
                f"for an embedding a list of numbers, but is {type(response).__name__}."
            )
        return cls(response="" if response is None else response, timeout=bool(timeout))


class Mock:
    """A provider that knows its answer. Every answer is marked as a mock, and has no usage."""

    def __init__(self, reply: MockReply) -> None:
        self._reply = reply

    async def complete(self, request: ChatRequest, /) -> Completion:
        """The answer, `n` times when the request asks for that; or the error."""
        response = await self._due(request)
        if isinstance(response, Mapping):
            from scillm.http.wire import read_completion

            return _marked(read_completion(response))
        if not isinstance(response, str):
            raise UsageError("A vector as mock_response answers embedding, not completion.")
        count = request.params.get("n")
        choices = [
            Choice(index=index, message=ChatMessage(content=response), finish_reason="stop")
            for index in range(count if isinstance(count, int) and count > 0 else 1)
        ]
        return _marked(Completion(id=answer_id(request), model=request.model, choices=choices))

    async def embed(self, request: EmbeddingRequest, /) -> EmbeddingResponse:
        """The vector for every piece of the input, or the answer's JSON; or the error."""
        response = await self._due(request)
        if isinstance(response, Mapping):
            from scillm.http.wire import read_embeddings

            return with_side(in_order(read_embeddings(response), request), MARK)
        if isinstance(response, str):
            raise UsageError(
                "mock_response of an embedding must be a list of numbers, an answer as JSON, or an "
                f"error, but is the text {response[:40]!r}."
            )
        return with_side(answer_with([response for _ in request.pieces], request), MARK)

    async def _due(
        self, request: ChatRequest | EmbeddingRequest
    ) -> str | Sequence[float] | Mapping[str, Any]:
        """What is to be answered; raises what is to be raised."""
        response = self._reply.response
        if self._reply.timeout:
            await anyio.sleep(request.timeout_s)
            raise APITimeoutError(
                f"mock_timeout: no answer within {request.timeout_s:g} s.",
                provider="mock",
                model=request.model,
            )
        if isinstance(response, ScillmError):
            raise copy.copy(response)  # each call writes its own attempts into its error
        return response

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, /
    ) -> AsyncIterator[AsyncIterator[CompletionChunk]]:
        """The same, word by word."""
        chunks = _Chunks(_chunks_of(await self.complete(request)))
        yield chunks


class _Chunks:
    """Chunks from a list. Remembers which come next, and that they are a mock's."""

    def __init__(self, chunks: list[CompletionChunk]) -> None:
        self._next = iter(chunks)
        self.side = dict(MARK)

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> CompletionChunk:
        chunk = next(self._next, None)
        if chunk is None:
            raise StopAsyncIteration
        return chunk


def _chunks_of(answer: Completion) -> list[CompletionChunk]:
    def chunk(choice: ChunkChoice) -> CompletionChunk:
        return CompletionChunk(id=answer.id, model=answer.model, choices=[choice])

    pieces = []
    for choice in answer.choices:
        message, content = choice.message, choice.message.content
        for word in re.findall(r"\s*\S+|\s+$", content) if isinstance(content, str) else []:
            delta = Delta(role="assistant", content=word)
            pieces.append(chunk(ChunkChoice(index=choice.index, delta=delta)))
        last = Delta(tool_calls=message.tool_calls, function_call=message.function_call)
        reason = choice.finish_reason or "stop"
        pieces.append(chunk(ChunkChoice(index=choice.index, delta=last, finish_reason=reason)))
    return pieces


def _marked(answer: Completion) -> Completion:
    return with_side(answer, MARK)
