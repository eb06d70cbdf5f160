"""What a well-formed answer is: the checks of every provider's completions, chunks and errors."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from typing import TYPE_CHECKING

import pytest

from scillm.errors import ProviderError, ScillmError
from scillm.http.wire import read_completion
from scillm.models import (
    ChatMessage,
    Choice,
    Completion,
    CompletionChunk,
    OpenAIRecord,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.records import Json


def check_completion(answer: object) -> Completion:
    """Return `answer` if it is a whole, finished, OpenAI-shaped completion that says something."""
    completion = check_shape(answer)
    for choice in completion.choices:
        message = choice.message
        said = (message.content, message.tool_calls, message.function_call, message.refusal)
        assert choice.finish_reason != "stop" or any(part is not None for part in said), (
            "An answer that ended by itself says something: content (perhaps an empty text), "
            "tool_calls, function_call or refusal."
        )
    return completion


def check_shape(answer: object) -> Completion:
    """Return `answer` if it is a finished, OpenAI-shaped completion; fail otherwise."""
    assert isinstance(answer, Completion), (
        f"An answer is a scillm.models.Completion, but {_kind(answer)} came. "
        "scillm.http.wire.read_completion makes one from an OpenAI-shaped document."
    )
    assert answer.choices, "A completion has at least one choice; this one has none."
    for choice in answer.choices:
        _check_choice(choice)
    indices = [choice.index for choice in answer.choices]
    assert indices == list(range(len(indices))), (
        f"Choices are numbered 0, 1, … in order, but came as {indices}."
    )
    if answer.usage is not None:
        check_usage(answer.usage)
    check_both_ways(answer)
    return answer


def _check_choice(choice: object) -> None:
    assert isinstance(choice, Choice), f"A choice is a models.Choice, not {_kind(choice)}."
    assert isinstance(choice.message, ChatMessage), (
        f"A choice's message is a models.ChatMessage, not {_kind(choice.message)}."
    )
    assert choice.message.role, "The message of a choice has a role, usually `assistant`."
    assert choice.finish_reason, (
        "A finished choice says why it ended: finish_reason is `stop`, `length`, `tool_calls` or "
        f"`content_filter`, but here it is {choice.finish_reason!r}."
    )


def check_usage(usage: object) -> None:
    """Fail unless token counts are whole numbers from 0 that add up."""
    assert isinstance(usage, Usage), f"usage is a models.Usage or None, not {_kind(usage)}."
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    for count in counts:
        assert count is None or (type(count) is int and count >= 0), (
            f"A token count is a whole number from 0, or None when unknown, not {count!r}."
        )
    if None not in counts:
        assert usage.total_tokens == (usage.prompt_tokens or 0) + (usage.completion_tokens or 0), (
            f"total_tokens is prompt_tokens + completion_tokens, but the counts are {counts}."
        )


def check_both_ways(record: OpenAIRecord) -> None:
    """Fail unless every field, at any depth, reads the same by attribute and by key."""
    for key in record:
        value = record[key]
        assert getattr(record, key) is value or getattr(record, key) == value, (
            f"{type(record).__name__}.{key} and [{key!r}] differ: "
            f"{getattr(record, key)!r} and {value!r}."
        )
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, OpenAIRecord):
                check_both_ways(part)


def check_keeps(answer: Completion) -> None:
    """Fail unless `answer` survives plain JSON, pickling and deep copying unchanged."""
    document = answer.to_dict()
    assert check_plain_json(document, "Completion.to_dict()") == document
    assert read_completion(document).to_dict() == document, (
        "A completion read back from its own JSON must be the same completion."
    )
    check_plain_json(answer.additional_kwargs, "Completion.additional_kwargs")
    assert pickled(answer) == answer, "A pickled completion must come back equal."
    assert copy.deepcopy(answer) == answer, "A deep copy of a completion must be equal to it."


def pickled(value: object) -> object:
    """`value` after a trip through pickle."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes, made here


def check_plain_json(value: Json, what: str) -> Json:
    """`value` after a trip through JSON text; fails when it cannot take that trip."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"{what} must be plain JSON (null, true, numbers, text, lists, objects), "
            f"but json.dumps says: {error}"
        ) from error


def check_chunks(chunks: Sequence[object]) -> None:
    """Fail unless these are all the chunks of one finished answer."""
    assert chunks, "A stream has at least one chunk; this one had none."
    ended: dict[int, str] = {}
    for chunk in chunks:
        assert isinstance(chunk, CompletionChunk), (
            f"A stream yields models.CompletionChunk, not {_kind(chunk)}."
        )
        for choice in chunk.choices:
            assert not (choice.index in ended and choice.delta.content), (
                f"Choice {choice.index} said more after its finish_reason."
            )
            if choice.finish_reason:
                ended[choice.index] = choice.finish_reason
        if chunk.usage is not None:
            check_usage(chunk.usage)
    begun = {
        choice.index
        for chunk in chunks
        if isinstance(chunk, CompletionChunk)
        for choice in chunk.choices
    }
    assert begun, "A stream has at least one choice; this one had none."
    assert begun == set(ended), (
        f"The last chunk of each choice has a finish_reason; choices {sorted(begun - set(ended))} "
        "ended without one, which means that the answer was cut off."
    )


def check_error(error: ScillmError, secrets: Sequence[str]) -> None:
    """Fail unless `error` says who failed, can be pickled, and shows none of `secrets`."""
    again = pickled(error)

    assert error.message, "An error says what was wanted, what came and what to do."
    assert (type(again), str(again)) == (type(error), str(error)), "Errors must pickle."
    if isinstance(error, ProviderError):
        assert error.provider, "A ProviderError names its `provider`."
        assert error.model, "A ProviderError names its `model`."
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    check_secrets_absent("the error's traceback", shown, secrets)
    check_secrets_absent("the error", pickle.dumps(error), secrets)


def check_secrets_absent(where: str, text: str | bytes, secrets: Sequence[str]) -> None:
    """Fail when one of `secrets` can be read in `text`; the secret itself is not repeated."""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if any(secret.encode() in raw for secret in secrets):
        # No traceback: it would print `raw`, and the secret with it.
        pytest.fail(f"A secret of the endpoint can be read in {where}.", pytrace=False)


def _kind(value: object) -> str:
    return type(value).__name__
