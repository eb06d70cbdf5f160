"""Tools of the Responses API as functions of a chat request, and the way back.

Codex's own tools are namespaces and free-form tools; a chat model knows functions only, so each
gets a plain name here, which leads back to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from scillm.errors import UnsupportedParamError

if TYPE_CHECKING:
    from scillm.records import Json

FREE_FORM = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input of the tool."}},
    "required": ["input"],
    "additionalProperties": False,
}
"""What a free-form tool takes, as a function."""
MORE_TOOLS = "additional_tools"
"""The item in which newer clients put tools."""


@frozen(kw_only=True)
class ToolName:
    """A tool as the client knows it."""

    name: str
    namespace: str | None = None
    free_form: bool = False


def offered(document: Mapping[str, Json]) -> list[Json]:
    """The tools of a request: its own, and those that newer clients put into an item."""
    offered = list(listed(document.get("tools"), "tools"))
    items = document.get("input")
    for place, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, Mapping) and item.get("type") == MORE_TOOLS:
            offered += listed(item.get("tools"), f"input[{place}].tools")
    return offered


def functions(
    given: Json, names: dict[str, ToolName], dropped: list[str]
) -> list[Mapping[str, Json]]:
    """Every tool that can be one, as a function; notes names, and what was dropped."""
    found: list[Mapping[str, Json]] = []
    tools: Sequence[Json] = given or ()
    for place, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if kind == "namespace":
            for each in listed(tool.get("tools"), f"tools[{place}].tools"):
                found += [_function(each, names, tool.get("name"), f"tools[{place}]")]
        elif kind in ("function", "custom"):
            found.append(_function(tool, names, None, f"tools[{place}]"))
        else:
            # A tool that the service itself would run; nobody runs it here.
            dropped.append(str(kind))
    return found


def _function(
    tool: Mapping[str, Json], names: dict[str, ToolName], namespace: Json, where: str
) -> Mapping[str, Json]:
    if not isinstance(tool, Mapping) or not isinstance(tool.get("name"), str):
        raise wrong(where, f"'{where}' needs a name.")
    if not (namespace is None or isinstance(namespace, str)):
        raise wrong(where, f"'{where}' needs a name that is a text.")
    parameters, described = tool.get("parameters") or {}, tool.get("description") or ""
    if not isinstance(parameters, Mapping) or not isinstance(described, str):
        raise wrong(where, f"'{where}' has parameters that are no object, or an odd description.")
    free_form = tool.get("type") == "custom"
    known = ToolName(name=tool["name"], namespace=namespace, free_form=free_form)
    function: dict[str, Json] = {
        "name": plain_name(known, names),
        "description": described,
        "parameters": FREE_FORM if free_form else parameters or {"type": "object"},
    }
    if free_form and isinstance(tool.get("format"), Mapping):
        grammar = tool["format"].get("definition")
        if isinstance(grammar, str) and grammar:
            function["description"] += f"\n\nThe input must follow this grammar:\n{grammar}"
    return {"type": "function", "function": function}


def plain_name(tool: ToolName, names: dict[str, ToolName]) -> str:
    """A function name for `tool`, noted in `names`; a clash gets a number."""
    wanted = tool.name if tool.namespace is None else f"{tool.namespace}__{tool.name}"
    wanted = re.sub(r"[^A-Za-z0-9_-]", "_", wanted)[:60] or "tool"
    name, number = wanted, 1
    while name in names and _key(names[name]) != _key(tool):
        number += 1
        name = f"{wanted}_{number}"
    names.setdefault(name, tool)
    return name


def _key(tool: ToolName) -> tuple[str, str | None]:
    return tool.name, tool.namespace


def choice(given: Json, names: Mapping[str, ToolName]) -> Json:
    """The client's choice of a tool, by the function's name."""
    if given in (None, "auto", "none", "required"):
        return given
    wanted = given.get("name") if isinstance(given, Mapping) else None
    for name, tool in names.items():
        if tool.name == wanted:
            return {"type": "function", "function": {"name": name}}
    raise wrong("tool_choice", "'tool_choice' is none, auto, required, or names one of the tools.")


def listed(given: Json, where: str) -> Sequence[Json]:
    """`given` as a list; null is an empty one."""
    if given is None:
        return ()
    if not isinstance(given, list):
        raise wrong(where, f"'{where}' must be a list.")
    return given


def wrong(param: str, message: str) -> UnsupportedParamError:
    """What to raise for a parameter that cannot be carried out here."""
    return UnsupportedParamError(message, param=param)
