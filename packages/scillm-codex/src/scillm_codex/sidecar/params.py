"""What single parameters of a chat request mean to Codex, each read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm.errors import UnsupportedParamError

if TYPE_CHECKING:
    from scillm.records import Json

CALL_ONE = "Call one of the tools; do not answer in words."
CALL_THIS = "Call the tool {name}; do not answer in words."
MOST_CHOICES = 16


def shape(given: Json) -> tuple[bool, Json]:
    """Whether a JSON object is wanted, and the schema it shall fit."""
    if given is None:
        return False, None
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind == "text":
        return False, None
    if kind == "json_object":
        return True, None
    if kind == "json_schema" and isinstance(given.get("json_schema"), Mapping):
        schema = given["json_schema"].get("schema")
        if isinstance(schema, Mapping):
            return False, dict(schema)
    raise wrong(
        "response_format",
        "'response_format' is of type text, json_object, or json_schema with a schema in "
        "json_schema.schema.",
    )


def tools(given: Json, choice: Json) -> tuple[list[dict[str, Json]], list[str]]:
    """Codex's tools, and what to tell the model about them."""
    if not given or choice == "none":
        return [], []
    if not isinstance(given, (list, tuple)):
        raise wrong("tools", "'tools' must be a list.")
    tools = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(given)]
    if choice in (None, "auto"):
        return tools, []
    if choice == "required":
        return tools, [CALL_ONE]
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    chosen = [tool for tool in tools if tool["name"] == name]
    if not chosen:
        raise wrong("tool_choice", "'tool_choice' is none, auto, required, or names a tool.")
    return chosen, [CALL_THIS.format(name=name)]


def _tool(tool: Json, where: str) -> dict[str, Json]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise wrong(where, f"'{where}' must be a function with a name.")
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    described = function.get("description") or ""
    if not isinstance(schema, Mapping) or not isinstance(described, str):
        raise wrong(where, f"'{where}' has parameters that are no object, or an odd description.")
    return {
        "type": "function",
        "name": function["name"],
        "description": described,
        "inputSchema": schema,
    }


def effort(params: Mapping[str, Json]) -> str | None:
    """The effort, in either form."""
    reasoning = params.get("reasoning")
    effort = params.get("reasoning_effort")
    if effort is None and isinstance(reasoning, Mapping):
        effort = reasoning.get("effort")
    if effort is None or isinstance(effort, str):
        return effort
    raise wrong("reasoning_effort", "'reasoning_effort' must be a word such as low or high.")


def choices(given: Json) -> int:
    """How many answers are wanted."""
    if given is None:
        return 1
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_CHOICES:
        raise wrong("n", f"'n' must be a number from 1 to {MOST_CHOICES}.")
    return given


def stops(given: Json) -> tuple[str, ...]:
    """The texts that end an answer."""
    stops = [given] if isinstance(given, str) else given or ()
    if not isinstance(stops, (list, tuple)) or not all(isinstance(s, str) and s for s in stops):
        raise wrong("stop", "'stop' must be a text or a list of texts.")
    return tuple(stops)


def wrong(param: str, message: str) -> UnsupportedParamError:
    """What to raise for a parameter that cannot be carried out."""
    return UnsupportedParamError(message, param=param)
