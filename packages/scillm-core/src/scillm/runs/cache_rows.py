"""What a response cache stores: the key of a request, the row of its answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm.errors import MalformedReplyError
from scillm.records import evolve
from scillm.runs.canonical import canonical_json, digest

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json, Message

VERSION = 1
FINISHED = frozenset({"stop", "tool_calls", "function_call"})
"""How an answer must have ended to be kept: not cut off, not filtered."""
CREDENTIALS = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "x-goog-api-key"}
)
OF_THE_CALL = frozenset({"scillm", "router"})
"""Side information about one call; it is not part of an answer."""


class UnreadableRowError(ValueError):
    """A stored row is not what was stored."""


@frozen(kw_only=True)
class Kept:
    """A stored answer: when it was given (seconds since 1970), by whom, until when it counts."""

    completion: Completion
    at: float
    expires_at: float | None
    source: Mapping[str, Json] = field(factory=dict)


def key_of(
    *,
    model: str,
    identity: Json,
    messages: Sequence[Message],
    params: Mapping[str, Json],
    namespace: str = "",
) -> str | None:
    """The same for two requests exactly when they ask the same of the same; no secret is in it.

    None for a request that is not plain JSON: it cannot be compared.
    """
    asked = {
        "version": VERSION,
        "namespace": namespace,
        "model": model,
        "identity": identity,
        "messages": list(messages),
        "params": dict(params),
    }
    try:
        return digest(asked).removeprefix("sha256:")
    except (TypeError, ValueError, RecursionError):
        return None


def public_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that can change an answer, without those that say who asks."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name not in CREDENTIALS}


def is_whole(completion: Completion) -> bool:
    """Whether an answer is finished and says something, so that it may be kept."""
    if not completion.choices:
        return False
    for choice in completion.choices:
        message = choice.message
        says = message.content or message.tool_calls or message.function_call
        if choice.finish_reason not in FINISHED or not says:
            return False
    return True


def row_of(
    key: str,
    completion: Completion,
    *,
    at: float,
    expires_at: float | None,
    source: Mapping[str, Json],
) -> bytes | None:
    """An answer as it is stored; None when what the provider put beside it is not JSON."""
    side = {k: v for k, v in completion.additional_kwargs.items() if k not in OF_THE_CALL}
    body = {
        "completion": completion.to_dict(),
        "side": side,
        "at": at,
        "expires_at": expires_at,
        "source": dict(source),
    }
    try:
        row = {"version": VERSION, "key": key, "sum": digest(body), "body": body}
        return canonical_json(row).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError):
        return None


def read_row(key: str, row: bytes) -> Kept:
    """What `row_of` stored under `key`; `UnreadableRowError` when it is anything else."""
    from scillm.http.wire import read_completion

    try:
        document = json.loads(row.decode("utf-8", "surrogatepass"))
        body = document["body"]
        is_ours = document["version"] == VERSION and document["key"] == key
        completion = read_completion(body["completion"])
        kept = Kept(
            completion=evolve(completion, additional_kwargs=dict(body["side"])),
            at=float(body["at"]),
            expires_at=body["expires_at"],
            source=body["source"],
        )
        is_whole = document["sum"] == digest(body)
    except (KeyError, TypeError, ValueError, RecursionError, MalformedReplyError) as error:
        raise UnreadableRowError(f"{type(error).__name__}: {error}") from error
    if not is_ours:
        raise UnreadableRowError("it is another key's, or another version's")
    if not is_whole:
        raise UnreadableRowError("its checksum is wrong")
    return kept
