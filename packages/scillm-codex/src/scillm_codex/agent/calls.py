"""A model's tool calls in one clean form, each with an id of its own; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_codex.agent.records import Call

if TYPE_CHECKING:
    from scillm.records import Json

SHOWN_NAMES = 40
FENCE = re.compile(r"^```[ \t]*([A-Za-z0-9_+-]*)[^\n]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
RUNNERS: Mapping[str, str] = {
    "": "exec_python",
    "py": "exec_python",
    "python": "exec_python",
    "python3": "exec_python",
    "js": "exec_javascript",
    "javascript": "exec_javascript",
    "node": "exec_javascript",
    "go": "exec_go",
    "rust": "exec_rust",
    "rs": "exec_rust",
}
"""Which tool runs a fenced block of which language; blocks of others are text."""


def call_of(read: tuple[str, Mapping[str, Json]], id: str) -> Call:
    """A call that can be carried out."""
    return Call(id=id, name=read[0], arguments=read[1])


def read_call(
    call: Mapping[str, Json], tools: Collection[str]
) -> tuple[str, Mapping[str, Json]] | str:
    """Name and arguments, or the sentence that tells the model what is wrong."""
    name = call["function"]["name"]
    if name not in tools:
        known = sorted(tools)
        shown = ", ".join(known[:SHOWN_NAMES]) or "none"
        return f"Error: there is no tool {name[:100]!r}. The tools are: {shown}."
    try:
        arguments = json.loads(call["function"]["arguments"] or "{}")
    except (ValueError, RecursionError) as error:
        return f"Error: not run, because the arguments are not JSON ({error}). Send a JSON object."
    if not isinstance(arguments, dict):
        return (
            "Error: not run, because the arguments must be a JSON object, but a "
            f"{type(arguments).__name__} came."
        )
    return name, arguments


def calls_of(
    message: Mapping[str, Json], *, number: int, taken: Collection[str]
) -> list[dict[str, Json]]:
    """The calls of a message in one clean form, each with an id of its own."""
    calls: list[dict[str, Json]] = []
    seen = set(taken)
    for place, raw in enumerate(_raw_calls(message)):
        function = raw.get("function") if isinstance(raw, Mapping) else None
        function = function if isinstance(function, Mapping) else {}
        key = raw.get("id") if isinstance(raw, Mapping) else None
        if not isinstance(key, str) or not key or key in seen:
            key = fresh_id(f"call_{number}_{place + 1}", seen)
        seen.add(key)
        calls.append(
            {
                "id": key,
                "type": "function",
                "function": {
                    "name": str(function.get("name") or ""),
                    "arguments": _as_text(function.get("arguments")),
                },
            }
        )
    return calls


def _raw_calls(message: Mapping[str, Json]) -> Sequence[Json]:
    calls = message.get("tool_calls")
    if isinstance(calls, (list, tuple)) and calls:
        return calls
    old = message.get("function_call")
    return [{"function": old}] if isinstance(old, Mapping) else []


def _as_text(arguments: Json) -> str:
    # Some servers send the object itself instead of its text.
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments)


def fresh_id(wanted: str, taken: Collection[str]) -> str:
    """`wanted`, or the first like it that is not taken."""
    key, more = wanted, 1
    while key in taken:
        more += 1
        key = f"{wanted}_{more}"
    return key


def block_calls(text: str, *, tools: Collection[str], id: str) -> list[dict[str, Json]]:
    """The first fenced program that a tool can run, as a call."""
    for found in FENCE.finditer(text):
        name = RUNNERS.get(found.group(1).lower())
        if name in tools:
            arguments = json.dumps({"code": found.group(2)})
            function = {"name": name, "arguments": arguments}
            return [{"id": id, "type": "function", "function": function}]
    return []


def text_of(message: Mapping[str, Json]) -> str:
    """The text of a message; text parts are joined."""
    content = message.get("content")
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
