"""A chat history as the items Codex takes: messages, tool calls, their results.

`thread/inject_items` drops `system` in the middle of a history; it goes as `developer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_codex.sidecar.params import wrong

if TYPE_CHECKING:
    from scillm.records import Json, Message

INPUT_CHARS = 1_000_000
"""Longest input of a turn; Codex refuses 1 048 576 characters. What is longer is injected."""


def split(messages: Sequence[Message]) -> tuple[list[str], list[Message]]:
    """The leading instructions, and the rest."""
    lead: list[str] = []
    place = 0
    for message in messages:
        if message.get("role") not in ("system", "developer"):
            break
        lead.append(_text(message, f"messages[{place}]"))
        place += 1
    return lead, list(messages[place:])


def conversation(messages: Sequence[Message]) -> tuple[list[dict[str, Json]], list[Json]]:
    """Items for the history, and the input of the turn."""
    if not messages:
        raise wrong("messages", "'messages' must hold more than instructions.")
    items: list[dict[str, Json]] = []
    known: set[str] = set()
    for place, message in enumerate(messages):
        items += _items(message, f"messages[{place}]", known)
    if known:
        raise wrong("messages", f"The tool call {sorted(known)[0]!r} has no tool message.")
    last = messages[-1]
    if last.get("role") != "user":
        return items, []
    parts = items[-1]["content"]
    if sum(len(part.get("text", "")) for part in parts) > INPUT_CHARS:
        return items, []
    return items[:-1], [_input(part) for part in parts]


def _input(part: Mapping[str, Json]) -> Json:
    if part["type"] == "input_text":
        return {"type": "text", "text": part["text"]}
    shown = {"type": "image", "url": part["image_url"]}
    return shown | ({"detail": part["detail"]} if "detail" in part else {})


def _items(message: Message, where: str, open_calls: set[str]) -> list[dict[str, Json]]:
    role = message.get("role")
    if role in ("system", "developer"):
        return [_message("developer", [{"type": "input_text", "text": _text(message, where)}])]
    if role == "user":
        return [_message("user", _user_parts(message, where))]
    if role == "assistant":
        return _assistant(message, where, open_calls)
    if role == "tool":
        call_id = message.get("tool_call_id")
        if not isinstance(call_id, str) or call_id not in open_calls:
            raise wrong(
                f"{where}.tool_call_id",
                f"'{where}' answers the tool call {call_id!r}, which no message before it made, "
                "or which is answered already.",
            )
        open_calls.discard(call_id)
        output = _text(message, where)
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    raise wrong(f"{where}.role", f"'{where}' has the role {role!r}, which Codex does not know.")


def _assistant(message: Message, where: str, open_calls: set[str]) -> list[dict[str, Json]]:
    items: list[dict[str, Json]] = []
    text = _text(message, where) if message.get("content") else message.get("refusal") or ""
    if not isinstance(text, str):
        raise wrong(f"{where}.refusal", f"'{where}.refusal' must be a text.")
    if text:
        items.append(_message("assistant", [{"type": "output_text", "text": text}]))
    calls = message.get("tool_calls") or []
    if not isinstance(calls, (list, tuple)):
        raise wrong(f"{where}.tool_calls", f"'{where}.tool_calls' must be a list.")
    for place, call in enumerate(calls):
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not _texts(
            call.get("id"), function.get("name"), function.get("arguments", "")
        ):
            raise wrong(
                f"{where}.tool_calls[{place}]", "A tool call has an id and a function with a name."
            )
        open_calls.add(call["id"])
        items.append(
            {
                "type": "function_call",
                "call_id": call["id"],
                "name": function["name"],
                "arguments": function.get("arguments", ""),
            }
        )
    return items


def _texts(*values: Json) -> bool:
    return all(isinstance(value, str) for value in values)


def _message(role: str, parts: Sequence[Json]) -> dict[str, Json]:
    return {"type": "message", "role": role, "content": list(parts)}


def _text(message: Message, where: str) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, (list, tuple)):
        raise wrong(f"{where}.content", f"'{where}.content' must be text or a list of parts.")
    texts = []
    for place, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise wrong(f"{where}.content[{place}]", "Only text can stand here.")
        texts.append(text)
    return "".join(texts)


def _user_parts(message: Message, where: str) -> list[dict[str, Json]]:
    content = message.get("content")
    if isinstance(content, (list, tuple)):
        return [_part(part, f"{where}.content[{place}]") for place, part in enumerate(content)]
    return [{"type": "input_text", "text": _text(message, where)}]


def _part(part: Json, where: str) -> dict[str, Json]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "input_text", "text": part["text"]}
    if kind == "image_url":
        given = part.get("image_url")
        image = given if isinstance(given, Mapping) else {"url": given}
        url = image.get("url")
        if not isinstance(url, str) or not url.startswith(("data:image/", "https://", "http://")):
            raise wrong(where, f"'{where}' must have an image as a data URL or a web address.")
        shown = {"type": "input_image", "image_url": url}
        detail = image.get("detail")
        return shown | ({"detail": detail} if detail in ("low", "high") else {})
    raise wrong(where, f"'{where}' is of the type {kind!r}; Codex takes text and image_url.")
