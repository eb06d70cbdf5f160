"""OpenAPI 3.1 documents of our servers, written by hand from one row per operation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from scillm.records import Json

JSON = "application/json"
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


@frozen(kw_only=True)
class Operation:
    """One thing a server does. `answers`: status → (what it means, media types → schema)."""

    method: str
    path: str
    id: str
    summary: str
    answers: Mapping[int, tuple[str, Mapping[str, Json]]]
    body: Json = None
    """Schema of the JSON that is sent."""
    headers: Mapping[str, str] = field(factory=dict)
    """Request headers beside the usual ones, and what they do."""
    open: bool = False
    """Answers without the token."""


PROBLEM: Mapping[str, Json] = {JSON: {"$ref": "#/components/schemas/Problem"}}


def problems(*statuses: int) -> dict[int, tuple[str, Mapping[str, Json]]]:
    """Rows of `answers` for statuses that carry a problem."""
    return {status: (WORDS[status], PROBLEM) for status in statuses}


WORDS: Mapping[int, str] = {
    400: "The request is not one; the message says what was wanted.",
    401: "The token is missing or wrong.",
    403: "There is no token, and the call is not from this machine.",
    404: "Not known (any more).",
    408: "The body did not come in time.",
    413: "The body, or the number of items, is larger than the server takes.",
    429: "Too much is running and waiting; `Retry-After` says when to come back.",
    500: "The server or its engine failed.",
    502: "The model behind the server failed.",
    503: "What is needed behind the server is not there now.",
    504: "The work was stopped at its time limit.",
}

COMMON: Sequence[Operation] = (
    Operation(
        method="get",
        path="/healthz",
        id="healthz",
        summary="The process is alive.",
        answers={200: ("Alive.", {JSON: {"type": "object"}})},
        open=True,
    ),
    Operation(
        method="get",
        path="/ready",
        id="ready",
        summary="What is behind the server can work now. Details need the token.",
        answers={
            200: ("Ready.", {JSON: {"type": "object", "required": ["ready"]}}),
            503: ("Not ready.", {JSON: {"type": "object", "required": ["ready"]}}),
        },
        open=True,
    ),
    Operation(
        method="get",
        path="/metrics",
        id="metrics",
        summary="Counters in Prometheus' text format.",
        answers={200: ("The numbers.", {"text/plain": {"type": "string"}}), **problems(401, 403)},
    ),
    Operation(
        method="get",
        path="/openapi.json",
        id="openapi",
        summary="This document.",
        answers={200: ("OpenAPI 3.1.", {JSON: {"type": "object"}}), **problems(401, 403)},
    ),
)


def document(
    *,
    title: str,
    version: str,
    description: str,
    operations: Sequence[Operation],
    schemas: Mapping[str, Json],
    secured: bool,
) -> dict[str, Json]:
    """The whole document."""
    paths: dict[str, dict[str, Json]] = {}
    for row in operations:
        paths.setdefault(row.path, {})[row.method] = _operation(row, secured=secured)
    components: dict[str, Json] = {"schemas": {"Problem": ERROR, **schemas}}
    if secured:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "paths": paths,
        "components": components,
    }


def _operation(row: Operation, *, secured: bool) -> dict[str, Json]:
    shown: dict[str, Json] = {
        "operationId": row.id,
        "summary": row.summary,
        "responses": {
            str(status): {
                "description": words,
                "content": {kind: {"schema": schema} for kind, schema in content.items()},
            }
            for status, (words, content) in sorted(row.answers.items())
        },
    }
    parameters: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", row.path)
    ]
    parameters += [
        {"name": name, "in": "header", "description": words, "schema": {"type": "string"}}
        for name, words in row.headers.items()
    ]
    if parameters:
        shown["parameters"] = parameters
    if row.body is not None:
        shown["requestBody"] = {"required": True, "content": {JSON: {"schema": row.body}}}
    if secured and not row.open:
        shown["security"] = [{"bearer": []}, {"key": []}]
    return shown
