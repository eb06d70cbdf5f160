"""Chat on the wire: request JSON to a ChatRequest, answers to exactly what OpenAI's API sends.

Shape: the Chat Completions API reference. What clients check is always there: `refusal`,
`logprobs`, `finish_reason` of the known words, one id, model and time in every chunk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm.errors import UnsupportedParamError
from scillm.records import ChatRequest

if TYPE_CHECKING:
    from scillm.models import Completion, CompletionChunk, Usage
    from scillm.records import Json

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
OWN = frozenset({"model", "messages", "stream", "stream_options"})


@frozen(kw_only=True)
class Asked:
    """A request that was read."""

    request: ChatRequest
    usage_wanted: bool = False
    """The last chunk of the stream shall carry the usage."""


@frozen(kw_only=True)
class Stamp:
    """What every piece of one answer has in common."""

    id: str
    created: int
    model: str
    usage_wanted: bool = field(default=True)


def read_chat(document: Json, *, timeout_s: float) -> Asked:
    """The question in a request; `UnsupportedParamError` names the field that is wrong."""
    if not isinstance(document, Mapping):
        raise _wrong("", "The body must be a JSON object with model and messages.")
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong("model", "'model' must be the name of a model.")
    stream = document.get("stream")
    if stream not in (None, True, False):
        raise _wrong("stream", "'stream' must be true or false.")
    wanted = _usage_wanted(document.get("stream_options"), stream=bool(stream))
    params = {key: value for key, value in document.items() if key not in OWN}
    if wanted:
        params["stream_options"] = {"include_usage": True}
    request = ChatRequest(
        model=model,
        requested_model=model,
        messages=_messages(document.get("messages")),
        params=params,
        stream=bool(stream),
        timeout_s=timeout_s,
    )
    return Asked(request=request, usage_wanted=wanted)


def _usage_wanted(options: Json, *, stream: bool) -> bool:
    if options is None:
        return False
    if not stream or not isinstance(options, Mapping):
        raise _wrong("stream_options", "'stream_options' is an object, for stream=true only.")
    wanted = options.get("include_usage", False)
    if not isinstance(wanted, bool):
        raise _wrong("stream_options", "'include_usage' must be true or false.")
    return wanted


def _messages(given: Json) -> list[Mapping[str, Json]]:
    if not isinstance(given, list) or not given:
        raise _wrong("messages", "'messages' must be a list of at least one message.")
    for place, message in enumerate(given):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ROLES:
            raise _wrong(
                f"messages[{place}].role",
                f"'messages[{place}]' must be an object whose role is one of {', '.join(ROLES)}.",
            )
    return given


def _wrong(param: str, message: str) -> UnsupportedParamError:
    return UnsupportedParamError(message, param=param)


def whole_answer(completion: Completion, stamp: Stamp) -> dict[str, Json]:
    """A completion as a `chat.completion`."""
    document = completion.to_dict()
    document |= {"id": stamp.id, "object": "chat.completion", "created": stamp.created}
    document["model"] = completion.model or stamp.model
    document["choices"] = [_choice(choice) for choice in document.get("choices", [])]
    return _with_usage(document, completion.usage)


def piece_of_answer(
    chunk: CompletionChunk, stamp: Stamp, *, begun: Collection[int]
) -> dict[str, Json] | None:
    """A chunk as a `chat.completion.chunk`, without its usage; None when nothing is left.

    The first piece of a choice says the role; `begun` are the choices that had theirs.
    """
    document = chunk.to_dict()
    document.pop("usage", None)
    choices = [
        _piece(choice, first=choice["index"] not in begun) for choice in document.get("choices", [])
    ]
    if not choices:
        return None
    document |= {
        "id": stamp.id,
        "object": "chat.completion.chunk",
        "created": stamp.created,
        "model": stamp.model,
        "choices": choices,
    }
    if stamp.usage_wanted:
        document["usage"] = None
    return document


def usage_piece(usage: Usage, stamp: Stamp) -> dict[str, Json] | None:
    """The chunk with the usage that ends a stream; None when the counts are not all there."""
    document: dict[str, Json] = {
        "id": stamp.id,
        "object": "chat.completion.chunk",
        "created": stamp.created,
        "model": stamp.model,
        "choices": [],
    }
    document = _with_usage(document, usage)
    return document if "usage" in document else None


def pieces_of_whole(document: Mapping[str, Json], stamp: Stamp) -> list[dict[str, Json]]:
    """A `chat.completion` of one that cannot stream, as chunks: the messages, then the ends."""
    head = {
        "id": stamp.id,
        "object": "chat.completion.chunk",
        "created": stamp.created,
        "model": document["model"],
    }
    none = {"usage": None} if stamp.usage_wanted else {}
    said, ended = [], []
    for choice in document["choices"]:
        delta = dict(choice["message"])
        calls = delta.get("tool_calls")
        if calls:
            delta["tool_calls"] = [
                {"index": place, **call} for place, call in enumerate(delta["tool_calls"])
            ]
        row = {"index": choice["index"], "delta": delta, "finish_reason": None, "logprobs": None}
        said.append(row | {"logprobs": choice["logprobs"]})
        ended.append(row | {"delta": {}, "finish_reason": choice["finish_reason"]})
    pieces = [head | {"choices": rows} | none for rows in (said, ended) if rows]
    if stamp.usage_wanted and "usage" in document:
        pieces.append(head | {"choices": [], "usage": document["usage"]})
    return pieces


def _choice(choice: dict[str, Json]) -> dict[str, Json]:
    message = choice.get("message", {})
    message.setdefault("refusal", None)
    message.setdefault("content", None)
    message["role"] = "assistant"
    calls = message.get("tool_calls")
    if calls is not None and not calls:
        del message["tool_calls"]
    for call in calls or ():
        call.pop("index", None)
        call.setdefault("type", "function")
    choice.setdefault("logprobs", None)
    return _finished(choice) | {"message": message}


def _piece(choice: dict[str, Json], *, first: bool) -> dict[str, Json]:
    delta = {key: value for key, value in choice.get("delta", {}).items() if value is not None}
    delta.pop("role", None)
    if first:
        delta = {"role": "assistant", "content": "", **delta}
        if "tool_calls" in delta and not delta["content"]:
            delta["content"] = None
    for place, call in enumerate(delta.get("tool_calls", ())):
        call.setdefault("index", place)
    choice.setdefault("logprobs", None)
    if choice.get("finish_reason") is None:
        return choice | {"delta": delta, "finish_reason": None}
    return _finished(choice) | {"delta": delta}


def _finished(choice: dict[str, Json]) -> dict[str, Json]:
    """A choice whose finish reason is one of OpenAI's words; another is kept beside it."""
    reason = choice.get("finish_reason")
    if reason in FINISH_REASONS:
        return choice
    called = "message" in choice and choice["message"].get("tool_calls")
    shown = choice | {"finish_reason": "tool_calls" if called else "stop"}
    return shown if reason is None else shown | {"native_finish_reason": reason}


def _with_usage(document: dict[str, Json], usage: Usage | None) -> dict[str, Json]:
    """`document` with the usage where all three counts are known, else without it."""
    document.pop("usage", None)
    counts = {} if usage is None else usage.to_dict()
    if all(isinstance(counts.get(name), int) for name in COUNTS):
        document["usage"] = counts
    return document
