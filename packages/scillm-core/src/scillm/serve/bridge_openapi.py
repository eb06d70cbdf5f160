"""What a bridge says about itself at `/openapi.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scillm.serve.openapi import COMMON, JSON, Operation, document, problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.records import Json
    from scillm.serve.envelope import EnvelopeSpec

ITEMS: Json = {"type": "array", "items": {"type": "object"}}
RESULT: Json = {
    "type": "object",
    "required": ["summary", "results", "findings", "environment", "run_manifest"],
    "properties": {
        "summary": {"type": "object"},
        "statistics": {"type": "object"},
        "results": ITEMS,
        "findings": {
            "type": "array",
            "items": {"type": "object", "required": ["id", "value", "digest"]},
        },
        "environment": {"type": "object"},
        "stdout": {"type": "string"},
        "stderr": {"type": "string"},
        "duration_ms": {"type": "number"},
        "run_manifest": {"type": "object"},
        "signals": {"type": "object"},
        "warnings": {"type": "array", "items": {"type": "string"}},
    },
}
STATE: Json = {
    "type": "object",
    "required": ["job_id", "status"],
    "properties": {
        "job_id": {"type": "string"},
        "status": {"enum": ["running", "done", "cancelled"]},
        "progress": {"type": "object"},
        "result": {"type": "string", "description": "Where to fetch the answer."},
        "kept_s": {"type": "number", "description": "How long the answer is kept."},
    },
}


def request_schema(spec: EnvelopeSpec) -> dict[str, Json]:
    """The envelope, with the other names that this engine's clients may use."""
    options = {
        "type": "object",
        "properties": {
            "max_seconds": {"type": "number", "exclusiveMinimum": 0},
            "session_id": {"type": "string"},
            "track_id": {"type": "string"},
        },
    }
    provider = {
        "type": "object",
        "properties": {
            "name": {"enum": [spec.engine, *spec.names]},
            "args": {"type": "object"},
        },
    }
    properties: dict[str, Json] = {
        "messages": ITEMS,
        "items": ITEMS,
        "provider": provider,
        "options": options,
        "seed": {"type": "integer"},
        "async": {"type": "boolean", "description": "Answer 202 and work in the background."},
        **{name: {"description": "`items`"} for name in spec.items_aliases},
        **{name: {"description": f"the option `{of}`"} for name, of in spec.aliases.items()},
        "max_seconds": {"description": "`options.max_seconds`"},
        "session_id": {"description": "`options.session_id`"},
        "track_id": {"description": "`options.track_id`"},
        "session": {"description": "`options.session_id`"},
        "track": {"description": "`options.track_id`"},
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def bridge_document(
    spec: EnvelopeSpec, *, version: str, secured: bool, more: Sequence[Operation] = ()
) -> dict[str, Json]:
    """The OpenAPI document of a bridge; `more` are the package's own routes."""
    result: Json = {JSON: {"$ref": "#/components/schemas/Result"}}
    state: Json = {JSON: {"$ref": "#/components/schemas/State"}}
    operations = [
        *COMMON,
        Operation(
            method="post",
            path="/bridge/complete",
            id="complete",
            summary=f"Work on a job of {spec.engine}. Leaving cancels the work.",
            body={"$ref": "#/components/schemas/Request"},
            headers={
                "Accept": "text/event-stream: events `progress`, then `result` or `error`.",
                "Prefer": "respond-async: answer 202 and work in the background.",
            },
            answers={
                200: ("Done.", {**result, "text/event-stream": {"type": "string"}}),
                202: ("Begun in the background.", state),
                **problems(400, 401, 403, 408, 413, 429, 500, 503, 504),
            },
        ),
        Operation(
            method="get",
            path="/bridge/result/{id}",
            id="result",
            summary="The answer of background work; its status is that of the work.",
            headers={"Prefer": "wait=SECONDS (at most 60): hold the answer back until then."},
            answers={
                200: ("Done.", result),
                202: ("Still running.", state),
                **problems(400, 401, 403, 404, 429, 500, 503, 504),
            },
        ),
        Operation(
            method="delete",
            path="/bridge/result/{id}",
            id="cancel",
            summary="Cancel background work and forget it.",
            answers={200: ("Cancelled.", state), **problems(401, 403, 404)},
        ),
        *more,
    ]
    return document(
        title=f"SciLLM bridge: {spec.engine}",
        version=version,
        description=f"Jobs for the engine {spec.engine} in the envelope {spec.schema}.",
        operations=operations,
        schemas={"Request": request_schema(spec), "Result": RESULT, "State": STATE},
        secured=secured,
    )
