"""Answers given beforehand: `mock_response` and `mock_timeout` of a call or a row, no network."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from attrs import frozen

from scillm.errors import APITimeoutError, ScillmError, UsageError
from scillm.models import ChatMessage, Choice, ChunkChoice, Completion, CompletionChunk, Delta
from scillm.providers.echo import answer_id
from scillm.providers.replyhead import with_side

if TYPE_CHECKING:
    from scillm.records import ChatRequest

MARK = {"mock": True}


@frozen(kw_only=True)
class MockReply:
    """What to answer: a text, a completion's JSON, or an error; or nothing until the timeout."""

    response: str | Mapping[str, Any] | ScillmError = ""
    timeout: bool = False

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> MockReply | None:
        """The mock in a call's or a row's arguments, or None; `UsageError` for anything else."""
        response, timeout = given.get("mock_response"), given.get("mock_timeout")
        if response is None and not timeout:
            return None
        if timeout is not None and not isinstance(timeout, bool):
            raise UsageError(f"mock_timeout must be True or False, but is {timeout!r}.")
        if response is not None and not isinstance(response, (str, Mapping, ScillmError)):
            raise UsageError(
                "mock_response must be a text, a completion as JSON, or an error of scillm.errors, "
                f"but is {type(response).__name__}."
            )
        return cls(response="" if response is None else response, timeout=bool(timeout))


class Mock:
    """A provider that knows its answer. Every answer is marked as a mock, and has no usage."""

    def __init__(self, reply: MockReply) -> None:
        self._reply = reply

    async def complete(self, request: ChatRequest, /) -> Completion:
        """The answer, `n` times when the request asks for that; or the error."""
        response = self._reply.response
        if self._reply.timeout:
            await anyio.sleep(request.timeout_s)
            raise APITimeoutError(
                f"mock_timeout: no answer within {request.timeout_s:g} s.",
                provider="mock",
                model=request.model,
            )
        if isinstance(response, ScillmError):
            raise response
        if isinstance(response, Mapping):
            from scillm.http.wire import read_completion

            return _marked(read_completion(response))
        count = request.params.get("n")
        choices = [
            Choice(index=index, message=ChatMessage(content=response), finish_reason="stop")
            for index in range(count if isinstance(count, int) and count > 0 else 1)
        ]
        return _marked(Completion(id=answer_id(request), model=request.model, choices=choices))

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
