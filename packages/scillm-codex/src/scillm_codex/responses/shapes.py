"""Parts of the Responses API's objects that do not depend on the order of things."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm.models import Usage
    from scillm.records import Json


def free_input(arguments: str) -> str:
    """The input of a free-form tool in a function's arguments; the arguments where it is not."""
    try:
        document = json.loads(arguments)
    except ValueError:
        return arguments
    given = document.get("input") if isinstance(document, dict) else None
    return given if isinstance(given, str) else arguments


def text_part(text: str) -> dict[str, Json]:
    """A part of a message's content."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def usage_of(usage: Usage) -> dict[str, Json]:
    """The usage under the names of this API."""
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    cached = _detail(usage.prompt_tokens_details, "cached_tokens")
    thought = _detail(usage.completion_tokens_details, "reasoning_tokens")
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": prompt + completion,
    }


def _detail(details: Json, name: str) -> int:
    found = details.get(name) if isinstance(details, Mapping) else None
    return found if isinstance(found, int) else 0


def chunks_of(document: Mapping[str, Json]) -> Sequence[Mapping[str, Json]]:
    """A whole answer's document as the chunks that would have made it: one, and its usage."""
    choices = []
    for choice in document.get("choices") or ():
        message = dict(choice.get("message") or {})
        calls = message.get("tool_calls")
        if calls:
            message["tool_calls"] = [{**call, "index": at} for at, call in enumerate(calls)]
        choices.append(
            {
                "index": choice.get("index", 0),
                "delta": message,
                "finish_reason": choice.get("finish_reason"),
            }
        )
    head = {key: value for key, value in document.items() if key not in ("choices", "object")}
    return [{**head, "object": "chat.completion.chunk", "choices": choices}]
