"""`/agent/run`: the request and answer that clients of the earlier mini-agent know; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from attrs import frozen
from scillm.errors import UnsupportedParamError

from scillm_codex.agent.records import (
    MAX_COST,
    MAX_SECONDS,
    MAX_TOKENS,
    SUCCESS,
    TRUNCATED,
    UNKNOWN_COST,
)

if TYPE_CHECKING:
    from scillm.records import Json, Message

    from scillm_codex.agent.outcome import Outcome

FIELDS: Mapping[str, tuple[type, ...]] = {
    "messages": (list,),
    "model": (str,),
    "tool_backend": (str,),
    "tool_http_base_url": (str,),
    "tool_http_headers": (dict,),
    "use_tools": (bool,),
    "auto_run_code_on_code_block": (bool,),
    "max_iterations": (int,),
    "max_total_seconds": (int, float),
    "escalate_on_budget_exceeded": (bool,),
    "escalate_model": (str,),
    "enable_repair": (bool,),
    "temperature": (int, float),
    "max_tokens": (int,),
}
BACKENDS = ("local", "http", "echo")
BUDGETS = {MAX_SECONDS, MAX_TOKENS, MAX_COST, UNKNOWN_COST}
PREVIEW_CHARS = 200


@frozen(kw_only=True)
class AgentRequest:
    """A request that was read."""

    messages: list[Message]
    model: str | None
    backend: str
    """`local`: the server's own tools; `http`: those of a service; `echo`: none."""
    http_base: str | None
    http_headers: Mapping[str, str]
    use_tools: bool
    run_code_blocks: bool
    max_iterations: int | None
    max_seconds: float | None
    escalate: bool
    escalate_model: str | None
    repair: bool
    params: Mapping[str, Json]


def read_request(document: Json, *, bases: Collection[str]) -> AgentRequest:
    """What a request asks for; `UnsupportedParamError` names the field that is wrong.

    `bases` are the tool services this server may talk to: a client cannot send it elsewhere.
    """
    if not isinstance(document, Mapping):
        raise _wrong("", "The body must be a JSON object with messages.")
    given = {name: value for name, value in document.items() if value is not None}
    for name, value in given.items():
        if name not in FIELDS:
            raise _wrong(name, f"There is no field {name!r}; there are {', '.join(FIELDS)}.")
        kinds = FIELDS[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise _wrong(name, f"{name!r} has the wrong type: {type(value).__name__}.")
    backend = given.get("tool_backend", "local")
    if backend not in BACKENDS:
        raise _wrong("tool_backend", f"'tool_backend' is one of {', '.join(BACKENDS)}.")
    return AgentRequest(
        messages=_messages(given.get("messages")),
        model=given.get("model"),
        backend=backend,
        http_base=_base(given.get("tool_http_base_url"), backend, bases),
        http_headers=_headers(given.get("tool_http_headers") or {}),
        use_tools=given.get("use_tools", False),
        run_code_blocks=given.get("auto_run_code_on_code_block", False),
        max_iterations=given.get("max_iterations"),
        max_seconds=given.get("max_total_seconds"),
        escalate=given.get("escalate_on_budget_exceeded", False),
        escalate_model=given.get("escalate_model"),
        repair=given.get("enable_repair", True),
        params={name: given[name] for name in ("temperature", "max_tokens") if name in given},
    )


def _messages(given: Json) -> list[Message]:
    if not isinstance(given, list) or not given:
        raise _wrong("messages", "'messages' must be a list of at least one message.")
    for place, message in enumerate(given):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise _wrong(f"messages[{place}]", f"'messages[{place}]' must be an object with role.")
    return given


def _base(given: str | None, backend: str, bases: Collection[str]) -> str | None:
    if backend != "http":
        return None
    if given is None:
        raise _wrong("tool_http_base_url", "tool_backend 'http' needs 'tool_http_base_url'.")
    base = given.rstrip("/")
    if base not in {known.rstrip("/") for known in bases}:
        raise _wrong(
            "tool_http_base_url",
            "This server was not started for that tool service; start it with --tool-base URL.",
        )
    return base


def _headers(given: Mapping[str, Json]) -> dict[str, str]:
    if not all(isinstance(value, str) for value in given.values()):
        raise _wrong("tool_http_headers", "'tool_http_headers' must be texts by name.")
    return dict(given)


def _wrong(param: str, message: str) -> UnsupportedParamError:
    return UnsupportedParamError(message, param=param)


def answer_of(outcome: Outcome) -> dict[str, Json]:
    """The answer to `/agent/run`. `ok` says whether the model meant its answer as the last."""
    calls = [call.to_dict(n) for n, call in enumerate(outcome.invocations)]
    document: dict[str, Json] = {
        "ok": outcome.stopped_reason == SUCCESS,
        "final_answer": outcome.final_answer or None,
        "final_answer_preview": outcome.final_answer[:PREVIEW_CHARS],
        "stopped_reason": "budget" if outcome.stopped_reason in BUDGETS else outcome.stopped_reason,
        "stopped_by": outcome.stopped_reason,
        "truncated": outcome.stopped_reason == TRUNCATED,
        "messages": [dict(message) for message in outcome.messages],
        "iterations": outcome.iterations,
        "tool_invocations": calls,
        "usage": None if outcome.usage is None else dict(outcome.usage),
        "metrics": {
            "iterations": outcome.iterations,
            "ttotal_ms": round(outcome.elapsed_s * 1000, 3),
            "escalated": outcome.escalated,
            "used_model": outcome.used_model,
        },
        "run_id": outcome.run_id,
    }
    if calls:
        document["last_tool_invocation"] = calls[-1]
    return document
