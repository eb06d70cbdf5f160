"""Whether a call wants its answer as checked JSON, and with how much help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json

JSON_ARGUMENTS = ("response_mode", "json_schema", "repair_rounds", "auto_json_sanitize")
"""Arguments that ask for more than passing `response_format` on."""

SCHEMA_FIRST = "schema_first"
PLAIN = "plain"
"""Pass the format on and take what comes; the answer carries its verdict."""
MIME = "response_mime_type"
"""Gemini's name; `application/json` is response_format json_object."""


@frozen(kw_only=True)
class JsonMode:
    """How an answer is to be got: the format or type, repair turns, and mending of its text."""

    response_format: Any
    repair_rounds: int = 0
    sanitize: bool | None = None


def json_mode(given: Mapping[str, Any]) -> JsonMode | None:
    """The mode that `given` (arguments without None) asks for, or None to pass them on as they are.

    A Python type or a schema as `response_format`, `response_mode="schema_first"` with
    `json_schema`, `repair_rounds`, or `auto_json_sanitize` ask for it. json_object alone does not,
    nor does a schema with `response_mode="plain"`, in a stream, or with several answers at once.
    """
    response_format = given.get("response_format")
    mode, schema = given.get("response_mode"), given.get("json_schema")
    if mode not in (None, SCHEMA_FIRST, PLAIN):
        raise UsageError(f"response_mode must be {SCHEMA_FIRST!r} or {PLAIN!r}, but is {mode!r}.")
    if (mode == SCHEMA_FIRST) != (schema is not None):
        raise UsageError('response_mode="schema_first" and json_schema={…} go together.')
    if schema is not None:
        if response_format is not None:
            raise UsageError("json_schema and response_format say the same; pass one of them.")
        response_format = {"type": "json_schema", "json_schema": named_schema(schema)}
    rounds, sanitize = given.get("repair_rounds"), given.get("auto_json_sanitize")
    helped = mode == SCHEMA_FIRST or rounds is not None or sanitize is not None
    if mode == PLAIN and (helped or not isinstance(response_format, Mapping)):
        raise UsageError(
            "response_mode='plain' takes what comes: it needs a response_format that the server "
            "knows, and goes without repair_rounds and auto_json_sanitize."
        )
    if not (helped or _asks(response_format, given)) or mode == PLAIN:
        return None
    if response_format is None:
        raise UsageError("repair_rounds and auto_json_sanitize need a response_format.")
    if sanitize is not None and not isinstance(sanitize, bool):
        raise UsageError(f"auto_json_sanitize must be True or False, but is {sanitize!r}.")
    return JsonMode(response_format=response_format, repair_rounds=rounds or 0, sanitize=sanitize)


def _asks(response_format: Any, given: Mapping[str, Any]) -> bool:
    if response_format is None:
        return False
    if not isinstance(response_format, Mapping):
        return True
    whole = not given.get("stream") and given.get("n") in (None, 1)
    return response_format.get("type") == "json_schema" and whole


def named_schema(schema: Any) -> Any:
    """A bare JSON Schema with the name that goes with it; OpenAI's `{"name", "schema"}` as it is.

    In a bare schema `schema` is no keyword, so that one cannot be taken for the other.
    """
    if not isinstance(schema, Mapping) or "schema" in schema:
        return schema
    return {"name": str(schema.get("title") or "answer"), "schema": schema}


def with_format(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with its response_mime_type as the response_format that says the same."""
    mime = given[MIME]
    rest = {name: value for name, value in given.items() if name != MIME}
    if mime != "application/json":
        raise UsageError(f"{MIME} must be 'application/json', but is {mime!r}.")
    return {"response_format": {"type": "json_object"}, **rest}


def with_setting(mode: JsonMode, settings: Mapping[str, Json]) -> JsonMode:
    """`mode` with the setting's word about mending where the call said nothing."""
    if mode.sanitize is not None or not settings.get("json_sanitize"):
        return mode
    return JsonMode(
        response_format=mode.response_format, repair_rounds=mode.repair_rounds, sanitize=True
    )
