"""A strict OpenAI-like chat server without a model: it checks the request and echoes the user.

Tokens are words here: usage counts what white space separates. Shapes: the Chat Completions API
reference.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from support.behaviours import Json, Reply, Sse, event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support.http1 import Request

CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"
CREATED = 1_700_000_000
ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
Answer: TypeAlias = Json | Sse | Reply

_NUMBER = (int, float)
KNOWN: Mapping[str, type | tuple[type, ...]] = {
    "model": str, "messages": list, "stream": bool, "stream_options": dict, "n": int,
    "temperature": _NUMBER, "top_p": _NUMBER, "max_tokens": int, "max_completion_tokens": int,
    "stop": (str, list), "seed": int, "user": str, "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER, "logit_bias": dict, "logprobs": bool, "top_logprobs": int,
    "response_format": dict, "tools": list, "tool_choice": (str, dict),
    "parallel_tool_calls": bool, "reasoning_effort": str, "service_tier": str, "store": bool,
    "metadata": dict, "modalities": list, "prediction": dict, "audio": dict, "functions": list,
    "function_call": (str, dict), "prompt_cache_key": str, "safety_identifier": str,
    "verbosity": str, "web_search_options": dict,
}  # fmt: skip
"""Parameters of the API and the JSON types each may have (null is always allowed)."""

RANGES: Mapping[str, tuple[float, float]] = {
    "n": (1, 128), "max_tokens": (1, 1_000_000), "max_completion_tokens": (1, 1_000_000),
    "temperature": (0, 2), "top_p": (0, 1), "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2), "top_logprobs": (0, 20),
}  # fmt: skip


class Refused(Exception):
    """The request is not one the API allows; `param` names the field."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def error_reply(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> Json:
    """The API's error object."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Json({"error": error}, status)


# -- checking ----------------------------------------------------------------------------------


def check_body(body: Any) -> None:
    """Raise `Refused` for the first thing the API would refuse in a chat request."""
    if not isinstance(body, dict):
        raise Refused(f"The body must be a JSON object, not {type(body).__name__}.")
    for name in ("model", "messages"):
        if not body.get(name):
            raise Refused(f"Missing or empty required parameter: '{name}'.", param=name)
    for name, value in body.items():
        _check_param(name, value)
    for index, message in enumerate(body["messages"]):
        _check_message(f"messages[{index}]", message)
    if body.get("stream_options") is not None and not body.get("stream"):
        raise Refused(
            "'stream_options' is only allowed when 'stream' is true.", param="stream_options"
        )


def _check_param(name: str, value: Any) -> None:
    if name not in KNOWN:
        raise Refused(f"Unrecognized request argument supplied: {name}", param=name)
    wanted = KNOWN[name]
    wrong_bool = isinstance(value, bool) and wanted is not bool
    if value is not None and (wrong_bool or not isinstance(value, wanted)):
        raise Refused(f"Invalid type for '{name}': {type(value).__name__}.", param=name)
    if isinstance(value, _NUMBER) and name in RANGES:
        least, most = RANGES[name]
        if not least <= value <= most:
            raise Refused(f"'{name}' must be in {least}..{most}, not {value}.", param=name)


def _check_message(where: str, message: Any) -> None:
    if not isinstance(message, dict):
        raise Refused("A message must be an object.", param=where)
    role = message.get("role")
    if role not in ROLES:
        raise Refused(f"Invalid role: {role!r}.", param=f"{where}.role")
    content = message.get("content")
    calls = role == "assistant" and (message.get("tool_calls") or message.get("function_call"))
    if content is None and calls:
        return
    if isinstance(content, list) and content and all(isinstance(p, dict) for p in content):
        _check_parts(where, content)
    elif not isinstance(content, str):
        raise Refused("Content must be text or a list of parts.", param=f"{where}.content")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise Refused("A tool message needs its call's id.", param=f"{where}.tool_call_id")


def _check_parts(where: str, parts: Sequence[Mapping[str, Any]]) -> None:
    for index, part in enumerate(parts):
        kind = part.get("type")
        if kind not in {"text", "image_url", "input_audio", "file", "refusal"} or kind not in part:
            raise Refused(
                f"Invalid content part: {kind!r}.", param=f"{where}.content[{index}].type"
            )


# -- answering ---------------------------------------------------------------------------------


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message; text parts are joined."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(str(part["text"]) for part in content if part["type"] == "text")


def words(text: str) -> list[str]:
    """`text` cut before the white space that separates words; joins to `text` again."""
    return re.findall(r"\s*\S+(?:\s+\Z)?|\s+\Z", text)


def echo(body: Mapping[str, Any]) -> tuple[str, str, dict[str, int]]:
    """Text, finish reason and usage of the answer to `body`."""
    said = [text_of(message) for message in body["messages"] if message["role"] == "user"]
    pieces = words("echo:" + (said[-1] if said else ""))
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or len(pieces)
    shown = pieces[:limit]
    prompt = sum(len(text_of(message).split()) for message in body["messages"])
    answered = len("".join(shown).split()) * (body.get("n") or 1)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": answered,
        "total_tokens": prompt + answered,
    }
    return "".join(shown), "stop" if len(shown) == len(pieces) else "length", usage


def completion_object(
    text: str,
    *,
    model: str = "bench",
    id_: str = "chatcmpl-0",
    n: int = 1,
    finish_reason: str = "stop",
    usage: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """A `chat.completion` object."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choices = [
        {"index": i, "message": message, "logprobs": None, "finish_reason": finish_reason}
        for i in range(n)
    ]
    return {
        "id": id_, "object": "chat.completion", "created": CREATED, "model": model,
        "choices": choices, "usage": usage, "system_fingerprint": None,
    }  # fmt: skip


def chunk_objects(
    pieces: Sequence[str],
    *,
    model: str = "bench",
    id_: str = "chatcmpl-0",
    n: int = 1,
    finish_reason: str = "stop",
    usage: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """`chat.completion.chunk` objects: role, pieces, finish; then usage, when it is given."""
    top = {"id": id_, "object": "chat.completion.chunk", "created": CREATED, "model": model}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in pieces]
    null_usage = {} if usage is None else {"usage": None}

    def chunk(index: int, delta: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**top, "choices": [choice], **null_usage}

    chunks = [chunk(i, delta, None) for delta in deltas for i in range(n)]
    chunks += [chunk(i, {}, finish_reason) for i in range(n)]
    return chunks if usage is None else [*chunks, {**top, "choices": [], "usage": usage}]


def answer(request: Request) -> Answer:
    """What the server says to a chat request."""
    if request.method != "POST":
        return error_reply(405, f"Only POST is allowed here, not {request.method}.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return error_reply(415, f"The content type must be application/json, not {kind!r}.")
    try:
        body = request.json
    except ValueError as exc:
        return error_reply(400, f"The body is not JSON: {exc}")
    try:
        check_body(body)
    except Refused as exc:
        return error_reply(400, str(exc), param=exc.param)
    text, reason, usage = echo(body)
    id_ = "chatcmpl-" + hashlib.sha256(request.body).hexdigest()[:12]
    model, n = body["model"], body.get("n") or 1
    if not body.get("stream"):
        return Json(
            completion_object(text, model=model, id_=id_, n=n, finish_reason=reason, usage=usage)
        )
    wants_usage = (body.get("stream_options") or {}).get("include_usage")
    chunks = chunk_objects(
        words(text),
        model=model,
        id_=id_,
        n=n,
        finish_reason=reason,
        usage=usage if wants_usage else None,
    )
    return Sse([*(event(item) for item in chunks), event("[DONE]")])


def models(request: Request) -> Answer:
    """What the server says to a request for its models."""
    if request.method != "GET":
        return error_reply(405, f"Only GET is allowed here, not {request.method}.")
    names = ("echo-small", "echo-large")
    rows = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": "tests"} for name in names
    ]
    return Json({"object": "list", "data": rows})
