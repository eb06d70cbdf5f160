"""What the fake says: pages of the edge, answers and their chunks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

PAGE = (
    "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>"
    "\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
VERIFICATION = "5f1c0e0d"


def page(title: str) -> bytes:
    """A page of the edge."""
    return PAGE.format(title=title).encode()


def usage(body: Mapping[str, Any], completion_tokens: int) -> dict[str, Any]:
    """Tokens: a word of the messages is one."""
    prompt = sum(len(str(message.get("content")).split()) for message in body["messages"])
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def text_for(body: Mapping[str, Any], served: str) -> str:
    """JSON where JSON was asked for, else a greeting that names the model and the question."""
    asked = body.get("response_format")
    if isinstance(asked, dict) and asked.get("type") in ("json_object", "json_schema"):
        return json.dumps({"ok": True})
    asked = json.dumps(body["messages"], sort_keys=True).encode()
    return f"Grüße from {served} to question {hashlib.sha256(asked).hexdigest()[:6]}."


def completion(body: Mapping[str, Any], served: str, call_id: str) -> dict[str, Any]:
    """A whole answer."""
    text = text_for(body, served)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    reason = "stop"
    tools = body.get("tools")
    if tools and body.get("tool_choice", "auto") != "none":
        function = {"name": tools[0]["function"]["name"], "arguments": "{}"}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        }
        reason = "tool_calls"
    return {
        "id": call_id,
        "object": "chat.completion",
        "created": 1_771_393_340,
        "model": served,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": usage(body, len(text.split())),
        "chutes_verification": VERIFICATION,
    }


def chunks(body: Mapping[str, Any], served: str, call_id: str) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed answer; each has the usage so far."""
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Let me see."},
        *({"content": piece} for piece in re.findall(r"\S+\s*", text_for(body, served))),
    ]
    for number, delta in enumerate([*deltas, {}]):
        last = number == len(deltas)
        yield {
            "id": call_id,
            "object": "chat.completion.chunk",
            "created": 1_771_393_340,
            "model": served,
            "choices": [{"index": 0, "delta": delta, "finish_reason": "stop" if last else None}],
            "usage": usage(body, number),
            "chutes_verification": VERIFICATION,
        }


def embeddings(body: Mapping[str, Any], served: str) -> dict[str, Any]:
    """Three numbers from the digest of each text; a word is a token."""
    inputs = body["input"]
    texts = inputs if isinstance(inputs, list) else [inputs]
    used = sum(len(str(text).split()) for text in texts)
    return {
        "object": "list",
        "model": served,
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(text)}
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


def _vector(text: Any) -> list[float]:
    return [byte / 255.0 for byte in hashlib.sha256(str(text).encode()).digest()[:3]]
