"""A finished answer in the form of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from attrs import evolve
from scillm.models import ChunkChoice, CompletionChunk, Delta

if TYPE_CHECKING:
    from scillm.models import Completion


async def chunks_of(answer: Completion) -> AsyncGenerator[CompletionChunk, None]:
    """The text, then why it ended with the usage and, in `extra`, what stands beside the answer."""
    (choice,) = answer.choices
    message = choice.message
    said = ChunkChoice(
        delta=Delta(
            role="assistant",
            content=message.content,
            reasoning_content=message.reasoning_content,
        )
    )
    first = CompletionChunk(
        id=answer.id, created=answer.created, model=answer.model, choices=[said]
    )
    yield first
    end = ChunkChoice(delta=Delta(), finish_reason=choice.finish_reason)
    yield evolve(first, choices=[end], usage=answer.usage, extra=dict(answer.additional_kwargs))
