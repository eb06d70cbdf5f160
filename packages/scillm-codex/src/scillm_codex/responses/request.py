"""A Responses request as a chat request. Shapes: the Responses API reference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen
from scillm.records import ChatRequest

from scillm_codex.responses.tools import (
    MORE_TOOLS,
    ToolName,
    choice,
    functions,
    listed,
    offered,
    plain_name,
    wrong,
)

if TYPE_CHECKING:
    from scillm.records import Json

PASSED = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_output_tokens": "max_tokens",
}
DROPPED_ITEMS = frozenset({"reasoning", "web_search_call", "compaction", "item_reference"})
"""Items that a chat model cannot read; they are named in the answer's head."""
REFUSED = ("previous_response_id", "conversation", "background", "prompt")
"""What needs a memory of earlier answers; the bridge keeps none."""


@frozen(kw_only=True)
class Asked:
    """A request that was read."""

    request: ChatRequest
    names: Mapping[str, ToolName] = field(factory=dict)
    """By the function's name."""
    dropped: Sequence[str] = ()
    """Types of tools and items that were left out."""
    echo: Mapping[str, Json] = field(factory=dict)
    """What the response repeats of the request."""


def read_responses(document: Json, *, timeout_s: float) -> Asked:
    """The question in a request; `UnsupportedParamError` names the field that is wrong."""
    if not isinstance(document, Mapping):
        raise wrong("", "The body must be a JSON object with model and input.")
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise wrong("model", "'model' must be the name of a model.")
    for name in REFUSED:
        if document.get(name):
            raise wrong(name, f"'{name}' needs a server that remembers; send the whole input.")
    names: dict[str, ToolName] = {}
    dropped: list[str] = []
    given = functions(offered(document), names, dropped)
    messages = _merged(
        [
            *_instructions(document.get("instructions")),
            *_messages(document.get("input"), names, dropped),
        ]
    )
    params: dict[str, Json] = {
        theirs: document[ours] for ours, theirs in PASSED.items() if document.get(ours) is not None
    }
    if given:
        params["tools"] = given
        chosen = choice(document.get("tool_choice"), names)
        params |= {} if chosen is None else {"tool_choice": chosen}
        if document.get("parallel_tool_calls") is False:
            params["parallel_tool_calls"] = False
    shape = _shape(document.get("text"))
    params |= {} if shape is None else {"response_format": shape}
    reasoning = document.get("reasoning")
    if isinstance(reasoning, Mapping) and isinstance(reasoning.get("effort"), str):
        params["reasoning_effort"] = reasoning["effort"]
    stream = document.get("stream") is True
    return Asked(
        request=ChatRequest(
            model=model,
            requested_model=model,
            messages=messages,
            params=params,
            stream=stream,
            timeout_s=timeout_s,
        ),
        names=names,
        dropped=tuple(dict.fromkeys(dropped)),
        echo={name: document[name] for name in ECHOED if name in document},
    )


ECHOED = (
    "instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "reasoning", "store",
    "temperature", "text", "tool_choice", "tools", "top_p", "user",
)  # fmt: skip


def _instructions(given: Json) -> list[Mapping[str, Json]]:
    if given is None or given == "":
        return []
    if not isinstance(given, str):
        raise wrong("instructions", "'instructions' must be a text.")
    return [{"role": "system", "content": given}]


def _merged(messages: list[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
    """One system message at the top: many chat templates take no second one."""
    lead: list[str] = []
    rest = list(messages)
    while rest and rest[0]["role"] == "system" and isinstance(rest[0]["content"], str):
        lead.append(rest.pop(0)["content"])
    return [{"role": "system", "content": "\n\n".join(lead)}, *rest] if lead else rest


def _messages(
    given: Json, names: dict[str, ToolName], dropped: list[str]
) -> list[Mapping[str, Json]]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise wrong("input", "'input' must be a text or a list of at least one item.")
    messages: list[dict[str, Json]] = []
    for place, item in enumerate(given):
        where = f"input[{place}]"
        if not isinstance(item, Mapping):
            raise wrong(where, f"'{where}' must be an object.")
        kind = item.get("type", "message")
        if isinstance(kind, str) and kind in DROPPED_ITEMS:
            dropped.append(str(kind))
        elif kind == MORE_TOOLS:
            continue
        elif kind == "message":
            messages.append(_message(item, where))
        elif kind in ("function_call", "custom_tool_call"):
            _add_call(messages, item, names, where)
        elif kind in ("function_call_output", "custom_tool_call_output"):
            content = _output(item.get("output"), where)
            messages.append(
                {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
            )
        else:
            raise wrong(f"{where}.type", f"'{where}' is of the type {kind!r}, unknown here.")
    return list(messages)


def _message(item: Mapping[str, Json], where: str) -> dict[str, Json]:
    role = item.get("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise wrong(f"{where}.role", f"'{where}' has the role {role!r}, unknown here.")
    # Chat templates of open models know no `developer`.
    shown = "system" if role == "developer" else role
    content = item.get("content")
    if isinstance(content, str):
        return {"role": shown, "content": content}
    parts = [
        _part(part, f"{where}.content[{at}]")
        for at, part in enumerate(listed(content, f"{where}.content"))
    ]
    if all(part["type"] == "text" for part in parts):
        return {"role": shown, "content": "".join(part["text"] for part in parts)}
    return {"role": shown, "content": parts}


def _part(part: Json, where: str) -> dict[str, Json]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in ("input_text", "output_text", "text") and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "refusal":
        return {"type": "text", "text": str(part.get("refusal", ""))}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        image = {"url": part["image_url"]}
        detail = part.get("detail")
        return {
            "type": "image_url",
            "image_url": image | ({"detail": detail} if detail in ("low", "high") else {}),
        }
    raise wrong(where, f"'{where}' is of the type {kind!r}; text and images by URL are known here.")


def _add_call(
    messages: list[dict[str, Json]],
    item: Mapping[str, Json],
    names: dict[str, ToolName],
    where: str,
) -> None:
    """Calls of one answer stand in one message, as chat servers want them."""
    if not isinstance(item.get("call_id"), str) or not isinstance(item.get("name"), str):
        raise wrong(where, f"'{where}' needs call_id and name.")
    free_form = item.get("type") == "custom_tool_call"
    written = item.get("input" if free_form else "arguments", "")
    space = item.get("namespace")
    if not isinstance(written, str) or not (space is None or isinstance(space, str)):
        raise wrong(where, f"'{where}' has an odd namespace, or arguments that are no text.")
    tool = ToolName(name=item["name"], namespace=space, free_form=free_form)
    arguments = written
    if free_form:
        arguments = json.dumps({"input": written})
    function = {"name": plain_name(tool, names), "arguments": arguments}
    call = {"id": item["call_id"], "type": "function", "function": function}
    last = messages[-1] if messages else None
    if last is not None and last["role"] == "assistant":
        last.setdefault("tool_calls", []).append(call)
        last.setdefault("content", None)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _output(given: Json, where: str) -> str:
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise wrong(f"{where}.output", f"'{where}.output' must be a text or a list of parts.")
    parts = [_part(part, f"{where}.output[{at}]") for at, part in enumerate(given)]
    return "".join(part.get("text", "[an image, not shown to this model]") for part in parts)


def _shape(text: Json) -> Json:
    shape = text.get("format") if isinstance(text, Mapping) else None
    given: Mapping[str, Json] = shape if isinstance(shape, Mapping) else {}
    kind = given.get("type")
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    if kind == "json_schema":
        inner = {key: given[key] for key in ("name", "schema", "strict") if key in given}
        return {"type": "json_schema", "json_schema": inner}
    raise wrong("text.format", f"'text.format' is of the type {kind!r}, unknown here.")
