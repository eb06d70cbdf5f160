"""What a model can do, in three states, and what a request needs: yes, no, or not said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from scillm.errors import UsageError
from scillm.records import EmbeddingRequest

if TYPE_CHECKING:
    from scillm.records import ChatRequest

    from scillm_chutes.records import Model

TEXT, VISION, TOOLS, JSON, SCHEMA, EMBEDDING = (
    "text",
    "vision",
    "tools",
    "json",
    "schema",
    "embedding",
)

KINDS: Mapping[str, frozenset[str]] = {
    "text": frozenset({TEXT}),
    "vlm": frozenset({TEXT, VISION}),
    "tools": frozenset({TEXT, TOOLS}),
    "embedding": frozenset({EMBEDDING}),
}


def _feature(*names: str) -> Callable[[Model], bool | None]:
    def says(model: Model) -> bool | None:
        return None if model.features is None else bool(model.features & set(names))

    return says


def _input(name: str) -> Callable[[Model], bool | None]:
    def says(model: Model) -> bool | None:
        return None if model.inputs is None else name in model.inputs

    return says


def _speaks(model: Model) -> bool | None:
    return None if model.outputs is None else "text" in model.outputs


def _embeds(model: Model) -> bool | None:
    return None if model.outputs is None else bool(model.outputs & {"embedding", "embeddings"})


CHECKS: Mapping[str, Callable[[Model], bool | None]] = {
    TEXT: _speaks,
    VISION: _input("image"),
    TOOLS: _feature("tools"),
    JSON: _feature("json_mode", "structured_outputs"),
    SCHEMA: _feature("structured_outputs"),
    EMBEDDING: _embeds,
}


def can(model: Model, need: str) -> bool | None:
    """Whether `model` can do `need`; None when its row does not say."""
    return CHECKS[need](model)


def lacks(model: Model, needs: Collection[str]) -> tuple[str, ...]:
    """The needs that the model's row denies."""
    return tuple(need for need in sorted(needs) if can(model, need) is False)


def unsaid(model: Model, needs: Collection[str]) -> tuple[str, ...]:
    """The needs that the model's row is silent about."""
    return tuple(need for need in sorted(needs) if can(model, need) is None)


def needs_of_kind(
    kind: str, *, require_json: bool = False, require_tools: bool = False
) -> frozenset[str]:
    """What a router of that kind needs; `UsageError` names the kinds there are."""
    if kind not in KINDS:
        raise UsageError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}.")
    more = {need for need, wanted in ((JSON, require_json), (TOOLS, require_tools)) if wanted}
    return KINDS[kind] | more


def needs_of_request(request: ChatRequest | EmbeddingRequest) -> frozenset[str]:
    """What answering this request takes."""
    if isinstance(request, EmbeddingRequest):
        return KINDS["embedding"]
    needs, params = {TEXT}, request.params
    if params.get("tools"):
        needs.add(TOOLS)
    asked = params.get("response_format")
    form = asked.get("type") if isinstance(asked, Mapping) else None
    if form in ("json_object", "json_schema"):
        needs.add(JSON if form == "json_object" else SCHEMA)
    for message in request.messages:
        content = message.get("content")
        parts = content if isinstance(content, (list, tuple)) else ()
        if any(isinstance(p, Mapping) and p.get("type") == "image_url" for p in parts):
            needs.add(VISION)
    return frozenset(needs)
