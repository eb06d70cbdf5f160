"""`scillm.extras.codex`: one chat with the sidecar, answered with a plain dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import scillm

if TYPE_CHECKING:
    from scillm.records import Json, Message

__all__ = ["achat", "chat"]


def chat(messages: Sequence[Message], *, model: str = "gpt-5", **options: Any) -> dict[str, Json]:
    """The answer as a `chat.completion` in plain JSON.

    Options: `base`, `api_key`, `temperature`, `max_tokens`, `reasoning_effort`, `response_format`,
    `timeout` (seconds, 60), and whatever else `scillm.completion` takes. Without `base`,
    CODEX_AGENT_API_BASE says where the sidecar is.
    """
    return _plain(scillm.completion(**_call(messages, model, options)))


async def achat(
    messages: Sequence[Message], *, model: str = "gpt-5", **options: Any
) -> dict[str, Json]:
    """`chat` for async code."""
    return _plain(await scillm.acompletion(**_call(messages, model, options)))


def _call(messages: Sequence[Message], model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    given.setdefault("timeout", 60)
    if "base" in given:
        given["api_base"] = given.pop("base")
    return {
        **given,
        "model": model,
        "messages": list(messages),
        "custom_llm_provider": "codex-agent",
    }


def _plain(completion: Any) -> dict[str, Json]:
    document: dict[str, Json] = completion.to_dict()
    return document
