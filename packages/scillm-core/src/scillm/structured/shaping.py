"""What is asked for structured output: the response_format, its fallback, the repair turn."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import ChatRequest, Json, Message
    from scillm.structured.jsontext import Root

JSON_OBJECT: Mapping[str, Json] = {"type": "json_object"}
WRAPPED = "value"
"""The only member of the object around an answer whose type is not an object."""
VERDICT = (
    "schema_validation",
    "response_format_used",
    "fallback_used",
    "json_valid",
    "json_sanitized",
)
"""What `report` says about the answer, without its rounds and their cost."""
_UNSTRICT = frozenset(
    {"uniqueItems", "prefixItems", "patternProperties", "oneOf", "allOf", "not", "if", "default"}
)


@frozen(kw_only=True)
class Wanted:
    """The structure an answer must have. `schema` is None when any JSON object will do."""

    first: Mapping[str, Json]
    """The response_format of the first request."""
    schema: Mapping[str, Json] | None = None
    wrapped: bool = False
    """The answer is the member `value` of an object: servers give objects only."""
    kind: Any = field(default=None, repr=False)
    """The Python type the answer becomes, or None."""

    @property
    def first_name(self) -> str:
        """`json_schema` or `json_object`."""
        return str(self.first["type"])

    @property
    def has_fallback(self) -> bool:
        """Whether something simpler can be asked for."""
        return self.first_name == "json_schema"

    @property
    def root(self) -> Root:
        """What the document in the answer must be."""
        if self.schema is None or self.schema.get("type") == "object":
            return "object"
        return "array" if self.schema.get("type") == "array" else "any"


def wanted_format(response_format: Mapping[str, Json]) -> Wanted:
    """What a `response_format` asks for: json_object (with or without `schema`) or json_schema.

    It is sent as it is. Raises `UsageError` for anything else.
    """
    kind = response_format.get("type")
    if kind == "json_object":
        schema = response_format.get("schema")
        return Wanted(first=response_format, schema=_checked(schema) if schema else None)
    described = response_format.get("json_schema")
    if kind == "json_schema" and isinstance(described, Mapping) and "schema" in described:
        return Wanted(first=response_format, schema=_checked(described["schema"]))
    raise UsageError(
        'response_format must be {"type": "json_object"}, {"type": "json_schema", "json_schema": '
        f'{{"name": …, "schema": {{…}}}}}} or a Python type, but is {_shown(response_format)}.'
    )


def wanted_type(kind: Any, name: str, schema: Mapping[str, Json]) -> Wanted:
    """What a Python type asks for, whose JSON Schema is `schema`."""
    wrapped = schema.get("type") != "object"
    if wrapped:
        definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
        inner = {key: value for key, value in schema.items() if key != "$defs"}
        schema = {
            "type": "object",
            "properties": {WRAPPED: inner},
            "required": [WRAPPED],
            "additionalProperties": False,
            **definitions,
        }
    described = {
        "name": re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:64].strip("_") or "answer",
        "schema": schema,
        "strict": is_strict(schema),
    }
    first = {"type": "json_schema", "json_schema": described}
    return Wanted(first=first, schema=schema, wrapped=wrapped, kind=kind)


def is_strict(schema: Json) -> bool:
    """Whether a schema keeps to the subset that OpenAI's `strict: true` allows.

    Source: OpenAI's guide to structured outputs, "supported schemas".
    """
    if isinstance(schema, Mapping):
        if _UNSTRICT & set(schema) or schema == {}:
            return False
        if schema.get("type") == "object":
            members = schema.get("properties", {})
            closed = schema.get("additionalProperties") is False
            if not closed or set(members) != set(schema.get("required", ())):
                return False
        if schema.get("type") == "array" and "items" not in schema:
            return False
        inner = [schema["items"]] if "items" in schema else []
        inner += schema.get("anyOf", [])
        for group in ("properties", "$defs"):
            inner += schema.get(group, {}).values()
        return all(is_strict(part) for part in inner)
    return False


# -- requests ----------------------------------------------------------------------------------


def first_request(request: ChatRequest, wanted: Wanted) -> ChatRequest:
    """`request`, asking for the structure in the server's own way."""
    return _formatted(request, wanted.first)


def fallback_request(request: ChatRequest, wanted: Wanted) -> ChatRequest:
    """`request`, asking for any JSON object, and telling the model the schema in words.

    The words go to the end of the last user message: some servers allow no other place.
    """
    schema = json.dumps(wanted.schema, ensure_ascii=False)
    told = f"Answer with one JSON object only, which fits this JSON Schema:\n{schema}"
    messages = _told(request.messages, told)
    return _formatted(evolve(request, messages=messages), JSON_OBJECT)


def repair_request(asked: ChatRequest, answer: str, problems: Sequence[str]) -> ChatRequest:
    """`asked` once more, showing the model its answer and what is wrong with it."""
    found = "\n".join(f"- {problem}" for problem in problems)
    told = (
        "This answer cannot be used:\n"
        f"{found}\n"
        "Answer again with the whole corrected JSON document and nothing else."
    )
    if not answer.strip():
        return evolve(asked, messages=_told(asked.messages, told))
    turn: list[Message] = [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": told},
    ]
    return evolve(asked, messages=[*asked.messages, *turn])


def _formatted(request: ChatRequest, response_format: Mapping[str, Json]) -> ChatRequest:
    return evolve(request, params={**request.params, "response_format": dict(response_format)})


def _told(messages: Sequence[Message], words: str) -> list[Message]:
    last = messages[-1] if messages else {}
    content = last.get("content")
    if last.get("role") != "user" or not isinstance(content, (str, list)):
        return [*messages, {"role": "user", "content": words}]
    if isinstance(content, str):
        return [*messages[:-1], {**last, "content": f"{content}\n\n{words}"}]
    return [*messages[:-1], {**last, "content": [*content, {"type": "text", "text": words}]}]


def _checked(schema: Json) -> Mapping[str, Json]:
    if not isinstance(schema, Mapping):
        raise UsageError(f"A JSON Schema is an object, but a {type(schema).__name__} came.")
    return schema


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"


# -- what is reported --------------------------------------------------------------------------


def report(
    wanted: Wanted, rounds: Sequence[Mapping[str, Json]], *, sanitized: bool
) -> dict[str, Json]:
    """What `additional_kwargs["scillm"]` says about structure, given the rounds so far.

    `schema_validation` is `passed`, or `none` where there was no schema, or tool calls instead of
    an answer.
    """
    last = rounds[-1]
    passed = wanted.schema is not None and last["outcome"] == "ok"
    return {
        "schema_validation": "passed" if passed else "none",
        "response_format_used": last["response_format"],
        "fallback_used": any(entry["kind"] == "fallback" for entry in rounds),
        "json_valid": last["json_valid"],
        "json_sanitized": sanitized,
        "rounds": [dict(entry) for entry in rounds],
        **totals(rounds),
    }


def totals(rounds: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Tokens and cost of all rounds; None where an answered round did not say."""
    answered = [entry for entry in rounds if entry["answered"]]
    usages = [entry["usage"] or {} for entry in answered]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {
        "usage_total": {name: _sum([usage.get(name) for usage in usages]) for name in names},
        "cost_usd_total": _sum([entry["cost_usd"] for entry in answered]),
    }


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
