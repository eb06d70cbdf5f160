"""Continuing: what another model is asked when a stream has broken in the middle of its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Message

GO_ON = (
    "Your answer was cut off here. Go on exactly where it ends, in the middle of a word if need "
    "be. Repeat nothing, and do not mention the interruption."
)


def text_so_far(partial: Completion) -> str | None:
    """The text to go on from; None where only the same model could: tool calls, several choices."""
    if not partial.choices:
        return ""
    choice, message = partial.choices[0], partial.choices[0].message
    if len(partial.choices) > 1 or choice.finish_reason:
        return None
    if message.tool_calls or message.function_call or message.refusal:
        return None
    content = message.content or ""
    return content if isinstance(content, str) else None


def asked_to_go_on(messages: Sequence[Message], text: str) -> Sequence[Message]:
    """The messages, the text as the assistant's, and the request to go on; without text as is."""
    if not text:
        return messages
    return [
        *messages,
        {"role": "assistant", "content": text},
        {"role": "user", "content": GO_ON},
    ]
