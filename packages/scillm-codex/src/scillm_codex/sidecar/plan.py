"""A chat request as what Codex is told: a thread, its history, a turn, and what cannot be told.

Measured on Codex 0.169: what `thread/start` and `turn/start` take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen
from scillm.errors import UnsupportedParamError

from scillm_codex.modelnames import bare_model
from scillm_codex.sidecar import params as read
from scillm_codex.sidecar.history import conversation, split
from scillm_codex.sidecar.home import LOCKED
from scillm_codex.sidecar.params import wrong

if TYPE_CHECKING:
    from pathlib import Path

    from scillm.records import ChatRequest, Json

    from scillm_codex.sidecar.home import Profile

PLAIN = "You are a helpful assistant."
ANSWER_JSON = (
    "Answer with exactly one JSON object and nothing else: no code fence, no words around it."
)

TAKEN = frozenset({
    "n", "stop", "tools", "tool_choice", "response_format", "reasoning_effort", "reasoning",
    "stream_options", "parallel_tool_calls", "codex", "strict_params",
})  # fmt: skip
"""Parameters that have an effect; whatever else comes is named as ignored."""


@frozen(kw_only=True)
class Place:
    """Where and how the agent profile works."""

    profile: Profile
    home: Path
    cwd: Path
    sandbox: str = "read-only"
    allowed: Sequence[Path] = ()
    """Folders a request may choose as its own."""


@frozen(kw_only=True)
class Plan:
    """What Codex is told, and what we do with its answer."""

    thread: Mapping[str, Json]
    history: Sequence[Mapping[str, Json]]
    turn: Mapping[str, Json]
    model: str
    choices: int = 1
    stops: Sequence[str] = ()
    schema: Json = None
    json_object: bool = False
    tools: frozenset[str] = frozenset()
    one_call: bool = False
    """The client wants at most one tool call at a time."""
    ignored: Sequence[str] = field(default=())

    @property
    def checked(self) -> bool:
        """Whether the answer is held back until it has been checked."""
        return self.json_object or self.schema is not None


def ignored_params(request: ChatRequest) -> list[str]:
    """Parameters that Codex cannot take, in alphabetical order."""
    return sorted(
        name for name, value in request.params.items() if name not in TAKEN and value is not None
    )


def plan_of(request: ChatRequest, place: Place) -> Plan:
    """The plan; `UnsupportedParamError` names what cannot be done."""
    params = request.params
    ignored = ignored_params(request)
    if params.get("strict_params") and ignored:
        raise UnsupportedParamError(
            f"Codex cannot take {', '.join(ignored)}, and strict_params is set.", param=ignored[0]
        )
    lead, rest = split(request.messages)
    json_object, schema = read.shape(params.get("response_format"))
    tools, said = read.tools(params.get("tools"), params.get("tool_choice"))
    told = [*lead, *said, *([ANSWER_JSON] if json_object else [])]
    history, turn_input = conversation(rest)
    model = bare_model(request.model)
    thread = _thread(told, place, params.get("codex"), model, tools)
    turn: dict[str, Json] = {"input": turn_input}
    effort = read.effort(params)
    if effort is not None:
        turn["effort"] = effort
    if schema is not None:
        turn["outputSchema"] = schema
    return Plan(
        thread=thread,
        history=history,
        turn=turn,
        model=model,
        choices=read.choices(params.get("n")),
        stops=read.stops(params.get("stop")),
        schema=schema,
        json_object=json_object,
        tools=frozenset(tool["name"] for tool in tools),
        one_call=params.get("parallel_tool_calls") is False,
        ignored=ignored,
    )


def repair_turn(problem: str, plan: Plan) -> Mapping[str, Json]:
    """The second turn, after an answer that does not fit."""
    said = (
        f"Your answer does not fit what was asked: {problem} Answer again with the corrected JSON "
        "only."
    )
    return {**plan.turn, "input": [{"type": "text", "text": said}]}


def _thread(
    told: Sequence[str],
    place: Place,
    wanted: Json,
    model: str,
    tools: Sequence[Mapping[str, Json]],
) -> dict[str, Json]:
    cwd, sandbox = _place(place, wanted)
    thread: dict[str, Json] = {
        "model": model,
        "cwd": str(cwd),
        "ephemeral": True,
        "approvalPolicy": "never",
        "experimentalRawEvents": True,
    }
    text = "\n\n".join(told)
    if place.profile == "chat":
        thread |= {"sandbox": "read-only", "baseInstructions": text or PLAIN}
    else:
        thread |= {"permissions": LOCKED[sandbox]}
        if text:
            thread["developerInstructions"] = text
    if tools:
        thread["dynamicTools"] = list(tools)
    return thread


def _place(place: Place, wanted: Json) -> tuple[Path, str]:
    if wanted is None:
        return place.cwd, place.sandbox
    if not isinstance(wanted, Mapping) or set(wanted) - {"cwd", "sandbox"}:
        raise wrong("codex", "'codex' is an object with cwd and sandbox, and nothing else.")
    if place.profile != "agent":
        raise wrong("codex", "'codex' is for a sidecar that runs with --profile agent.")
    sandbox = wanted.get("sandbox", place.sandbox)
    if not isinstance(sandbox, str) or sandbox not in LOCKED:
        raise wrong("codex.sandbox", f"'codex.sandbox' is one of {', '.join(LOCKED)}.")
    if sandbox == "workspace-write" and place.sandbox != "workspace-write":
        raise wrong("codex.sandbox", "This sidecar was started for reading only.")
    cwd = wanted.get("cwd")
    if cwd is None:
        return place.cwd, sandbox
    for folder in (place.cwd, *place.allowed):
        if isinstance(cwd, str) and _inside(cwd, folder):
            return type(place.cwd)(cwd), sandbox
    raise wrong("codex.cwd", "'codex.cwd' is not one of the folders this sidecar may work in.")


def _inside(cwd: str, folder: Path) -> bool:
    path = type(folder)(cwd)
    return path.is_absolute() and ".." not in path.parts and path.is_relative_to(folder)
