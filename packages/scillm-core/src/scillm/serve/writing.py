"""JSON and server-sent events, as the bytes that go out. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm.records import Json

BEAT = b": still working\n\n"
ACCEPTED = b": accepted\n\n"


def encoded(document: Json) -> bytes:
    """`document` as JSON in UTF-8, lone surrogates escaped; no NaN."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def event(document: Json, *, name: str = "") -> bytes:
    """One server-sent event with a JSON document."""
    return event_text(encoded(document).decode("utf-8"), name=name)


def event_text(text: str, *, name: str = "") -> bytes:
    """One server-sent event with a text of one line."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode()
