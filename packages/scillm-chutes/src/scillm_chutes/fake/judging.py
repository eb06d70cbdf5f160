"""What a good client would not have sent; keys are replaced before anything is written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scillm_chutes.fake.accounts import KEY, key_label

if TYPE_CHECKING:
    from scillm_chutes.fake.models import FakeModel

FOREIGN = frozenset(
    {
        *("api_base", "api_key", "custom_llm_provider", "extra_headers", "timeout", "order"),
        *("retry_after", "max_retries", "retry_enabled", "metadata_scillm", "_sc_no_canon"),
    }
)
"""Arguments of SDKs that must never reach the service."""


def wrong_in(headers: Mapping[str, str], body: Any) -> list[str]:
    """What is wrong with a request whatever the models are."""
    wrong = []
    if "x-api-key" in headers:
        wrong.append("sent x-api-key")
    if "x-chutes-trace" in headers:
        wrong.append("sent x-chutes-trace")
    if headers.get("content-type", "").partition(";")[0] != "application/json":
        wrong.append("sent a body that is not called JSON")
    if not isinstance(body, dict):
        return [*wrong, "sent a body that is no JSON object"]
    return [*wrong, *(f"sent {name}" for name in sorted(FOREIGN & set(body)))]


def wrong_for(model: FakeModel, body: Mapping[str, Any]) -> list[str]:
    """Why this model should not have got this body."""
    features, inputs = model.features, model.inputs
    sees = inputs is None or "image" in inputs
    judged = {
        "sent a body to a private model": not model.public,
        "sent a body to a disabled model": model.state == "disabled",
        "sent a body to an inactive model": model.state == "cold" or model.instances == 0,
        "sent tools to a model without them": bool(body.get("tools"))
        and features is not None
        and "tools" not in features,
        "sent an image to a model that cannot see": bool(parts_of(body, "image_url")) and not sees,
    }
    return [said for said, wrong in judged.items() if wrong]


def parts_of(body: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """The content parts of that type in all messages."""
    return [
        part
        for message in body.get("messages", ())
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
        if isinstance(part, dict) and part.get("type") == kind
    ]


def document_of(body: bytes) -> Any:
    """The JSON of a body, else its text."""
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with a label for every key."""
    return {name: without_keys(value) for name, value in headers.items()}


def without_keys(value: Any) -> Any:
    """JSON with a label for every key."""
    text = value if isinstance(value, str) else json.dumps(value)
    shown = KEY.sub(lambda match: key_label(match[0]), text)
    if shown == text:
        return value
    return shown if isinstance(value, str) else json.loads(shown)
