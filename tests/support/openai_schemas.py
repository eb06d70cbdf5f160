"""OpenAI's own description of its API, as far as our servers speak it, to check answers against.

`openai_schemas.json` was taken from `openapi.json` of github.com/openai/openai-openapi (commit
f85dbe2, version 2.3.0, MIT, Copyright (c) OpenAI) by `python tests/support/openai_schemas.py
openapi.json`: what the names below lead to, without descriptions.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

WANTED = (
    "CreateChatCompletionResponse",
    "CreateChatCompletionStreamResponse",
    "ErrorResponse",
    "ListModelsResponse",
    "Model",
    "Response",
    "ResponseStreamEvent",
)
KEPT = Path(__file__).with_name("openai_schemas.json")
PREFIX = "#/components/schemas/"
WORDS = frozenset({"description", "example", "examples", "title", "deprecated", "externalDocs"})


def misfits(document: Any, name: str) -> list[str]:
    """Why `document` is not what OpenAI's schema `name` describes; empty when it is."""
    schema = {"$ref": f"{PREFIX}{name}", "components": {"schemas": _schemas()}}
    return told(document, schema)


def misfits_of_served(
    document: Any, described: Any, *, method: str, path: str, status: int
) -> list[str]:
    """Why an answer is not what a server's own /openapi.json says of this call."""
    answers = described["paths"][path][method]["responses"]
    if str(status) not in answers:
        return [f"{method} {path} does not say that it may answer {status}"]
    schema = answers[str(status)]["content"]["application/json"]["schema"]
    return told(document, {**schema, "components": described["components"]})


def told(document: Any, schema: Any) -> list[str]:
    """What is wrong, with its place."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in found]


@cache
def _schemas() -> dict[str, Any]:
    schemas: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    # Where the description's words, and OpenAI's own servers, have null, its types have not.
    chunk = schemas["CreateChatCompletionStreamResponse"]["properties"]
    choice = chunk["choices"]["items"]["properties"]
    for place, field in ((choice, "finish_reason"), (choice, "logprobs"), (chunk, "usage")):
        place[field] = {"anyOf": [place[field], {"type": "null"}]}
    return schemas


def _closure(schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    left = list(WANTED)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = _bare(schemas[name])
            left += _referred(found[name])
    return found


def _referred(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for part in schema for name in _referred(part)]
    if not isinstance(schema, dict):
        return []
    own = schema.get("$ref")
    names = [own.removeprefix(PREFIX)] if isinstance(own, str) else []
    return names + _referred(list(schema.values()))


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _bare(value)
        for key, value in schema.items()
        # A property may have one of these names; then its value is a schema.
        if not key.startswith("x-") and (key not in WORDS or isinstance(value, dict))
    }


if __name__ == "__main__":
    whole = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rows = _closure(whole["components"]["schemas"])
    lines = [f"{json.dumps(name)}: {json.dumps(rows[name])}" for name in sorted(rows)]
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
