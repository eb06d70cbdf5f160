"""The verdict on a plain JSON answer: it stands on the answer, which is never refused for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve

from scillm.errors import JsonTextError, SchemaError, UsageError
from scillm.structured.reading import sanitized, tool_calls_only
from scillm.structured.strictjson import whole_document

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json

FORMATS = ("json_object", "json_schema")


def wants_json(wanted: Json) -> bool:
    """Whether a plain `response_format` asks for JSON."""
    return isinstance(wanted, Mapping) and wanted.get("type") in FORMATS


def judged(
    completion: Completion, response_format: Mapping[str, Json], *, sanitize: bool
) -> Completion:
    """`completion` with the verdict on its text; with `sanitize` the text is mended first.

    Mending takes the one JSON document out of fences and prose, and never invents: a text without
    one stays as it is, and `json_valid` is false. Of a schema, `schema_validation` says `passed`,
    `failed` (then `schema_error` says where), or `none` when there was nothing to check.
    """
    changed = False
    if sanitize and not tool_calls_only(completion):
        completion, changed = sanitized(completion)
    verdict: dict[str, Json] = {
        "schema_validation": "none",
        "response_format_used": response_format["type"],
        "fallback_used": False,
        "json_valid": False,
        "json_sanitized": changed,
    }
    try:
        value = whole_document(completion.text)
    except (ValueError, JsonTextError):
        pass
    else:
        verdict["json_valid"] = True
        verdict |= _checked(value, response_format)
    kept = completion.additional_kwargs
    sides = {name: {**kept.get(name, {}), **verdict} for name in ("scillm", "router")}
    judged: Completion = evolve(completion, additional_kwargs={**kept, **sides})
    return judged


def _checked(value: Json, response_format: Mapping[str, Any]) -> dict[str, Json]:
    inner = response_format.get("json_schema") or {}
    schema = response_format.get("schema") or (
        inner.get("schema") if isinstance(inner, Mapping) else None
    )
    if not isinstance(schema, Mapping):
        return {}
    from scillm.structured.schema import check

    try:
        check(value, schema)
    except SchemaError as error:
        return {"schema_validation": "failed", "schema_error": error.message}
    except UsageError:
        # The schema itself is wrong: the provider was asked with it, and its answer stands.
        return {}
    return {"schema_validation": "passed"}
