"""What a chat server says about itself at `/openapi.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm.serve.openapi import COMMON, JSON, Operation, document, problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.records import Json

SCHEMAS: Json = {
    "ChatRequest": {
        "type": "object",
        "required": ["model", "messages"],
        "description": "As in OpenAI's API; further parameters are passed on to the model.",
        "properties": {
            "model": {"type": "string"},
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["role"],
                    "properties": {"role": {"type": "string"}},
                },
            },
            "stream": {"type": ["boolean", "null"]},
            "stream_options": {
                "type": ["object", "null"],
                "properties": {"include_usage": {"type": "boolean"}},
            },
        },
    },
    "ChatAnswer": {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "chat.completion"},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "choices": {"type": "array", "items": {"type": "object"}},
            "usage": {"type": "object"},
        },
    },
    "Model": {
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
        },
    },
}
CHAT_PATHS: Mapping[str, str] = {
    "/v1/chat/completions": "createChatCompletion",
    "/chat/completions": "createChatCompletionUnversioned",
}
"""Where questions are taken, with the id of the operation.

The second is for clients whose base URL was written without `/v1`.
"""
EVENTS = "Chunks as server-sent events, `[DONE]` last; an error in the middle is an event."


def chat_document(
    name: str, *, version: str, secured: bool, more: Sequence[Operation] = ()
) -> dict[str, Json]:
    """The OpenAPI document of a chat server; `more` are the package's own routes."""
    model: Json = {"$ref": "#/components/schemas/Model"}
    models: Json = {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": model},
        },
    }
    answer: Json = {
        JSON: {"$ref": "#/components/schemas/ChatAnswer"},
        "text/event-stream": {"type": "string", "description": EVENTS},
    }
    operations = [
        *COMMON,
        *(
            Operation(
                method="post",
                path=path,
                id=operation,
                summary="Answer a conversation. Leaving stops the work.",
                body={"$ref": "#/components/schemas/ChatRequest"},
                answers={
                    200: ("The answer, or with stream=true its pieces.", answer),
                    **problems(400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504),
                },
            )
            for path, operation in CHAT_PATHS.items()
        ),
        Operation(
            method="get",
            path="/v1/models",
            id="listModels",
            summary="The models that can be asked.",
            answers={200: ("The models.", {JSON: models}), **problems(401, 403)},
        ),
        Operation(
            method="get",
            path="/v1/models/{id}",
            id="retrieveModel",
            summary="One model.",
            answers={200: ("The model.", {JSON: model}), **problems(401, 403, 404)},
        ),
        *more,
    ]
    return document(
        title=f"SciLLM chat server: {name}",
        version=version,
        description="OpenAI's Chat Completions API.",
        operations=operations,
        schemas=SCHEMAS,
        secured=secured,
    )
