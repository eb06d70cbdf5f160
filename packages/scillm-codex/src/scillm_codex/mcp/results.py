"""What an MCP server gave, as the text a model can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm_codex.agent.records import ToolAnswer

if TYPE_CHECKING:
    from scillm.records import Json

MOST_DEPTH = 10


def answer_of(result: Mapping[str, Json]) -> ToolAnswer:
    """A `CallToolResult` in its wire form as a tool's answer.

    Structured content is preferred, because it is exact; text parts are joined, and what is not
    text leaves a note of its kind and size.
    """
    ok = not result.get("isError")
    structured = result.get("structuredContent")
    if ok and structured is not None:
        return ToolAnswer(text=json.dumps(structured, ensure_ascii=False))
    parts = [_part(part) for part in result.get("content") or () if isinstance(part, Mapping)]
    text = "\n".join(part for part in parts if part)
    if not ok:
        return ToolAnswer(ok=False, text=text or "Error: the tool failed and did not say why.")
    return ToolAnswer(text=text or "(the tool gave no output)")


def _part(part: Mapping[str, Json]) -> str:
    kind = part.get("type")
    if kind == "text":
        return str(part.get("text") or "")
    if kind in ("image", "audio"):
        data = part.get("data") or ""
        return f"[{kind}, {part.get('mimeType') or 'type not said'}, {len(data) * 3 // 4} bytes]"
    if kind == "resource_link":
        return f"[resource {part.get('uri')}]"
    if kind == "resource":
        inner = part.get("resource") or {}
        text = inner.get("text")
        return text if isinstance(text, str) else f"[resource {inner.get('uri')}, binary]"
    return f"[{kind} content]"


def cause_of(error: BaseException) -> str:
    """What went wrong, out of however many groups it is wrapped in."""
    for _ in range(MOST_DEPTH):
        inner = getattr(error, "exceptions", None)
        if not inner:
            break
        error = inner[0]
    said = str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
