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


@frozen(kw_only=True)
class JsonMode:
    """How an answer is to be got: the format or type, repair turns, and mending of its text."""

    response_format: Any
    repair_rounds: int = 0
    sanitize: bool | None = None


def json_mode(given: Mapping[str, Any]) -> JsonMode | None:
    """The mode that `given` (arguments without None) asks for, or None to pass them on as they are.

    A Python type as `response_format`, `response_mode="schema_first"` with `json_schema`,
    `repair_rounds`, or `auto_json_sanitize` ask for it; a plain `response_format` does not.
    """
    response_format = given.get("response_format")
    mode, schema = given.get("response_mode"), given.get("json_schema")
    if mode not in (None, SCHEMA_FIRST):
        raise UsageError(f"response_mode must be {SCHEMA_FIRST!r}, but is {mode!r}.")
    if (mode is None) != (schema is None):
        raise UsageError('response_mode="schema_first" and json_schema={…} go together.')
    if schema is not None:
        if response_format is not None:
            raise UsageError("json_schema and response_format say the same; pass one of them.")
        response_format = {"type": "json_schema", "json_schema": schema}
    rounds, sanitize = given.get("repair_rounds"), given.get("auto_json_sanitize")
    plain = response_format is None or isinstance(response_format, Mapping)
    if plain and mode is None and rounds is None and sanitize is None:
        return None
    if response_format is None:
        raise UsageError("repair_rounds and auto_json_sanitize need a response_format.")
    if sanitize is not None and not isinstance(sanitize, bool):
        raise UsageError(f"auto_json_sanitize must be True or False, but is {sanitize!r}.")
    return JsonMode(response_format=response_format, repair_rounds=rounds or 0, sanitize=sanitize)


def with_setting(mode: JsonMode, settings: Mapping[str, Json]) -> JsonMode:
    """`mode` with the setting's word about mending where the call said nothing."""
    if mode.sanitize is not None or not settings.get("json_sanitize"):
        return mode
    return JsonMode(
        response_format=mode.response_format, repair_rounds=mode.repair_rounds, sanitize=True
    )
