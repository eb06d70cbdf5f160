"""The agent as a pure machine: happenings in, the next thing to do out.

It has no clock, model or tool. Whatever a model says, every tool call in the history gets exactly
one answer, and the run ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen
from scillm.errors import UsageError

from scillm_codex.agent.calls import block_calls, call_of, calls_of, fresh_id, read_call, text_of
from scillm_codex.agent.records import (
    FORMAT_ERRORS,
    MAX_COST,
    MAX_ITERATIONS,
    MAX_SECONDS,
    MAX_TOKENS,
    REFUSED,
    SUCCESS,
    TOOL_FAILED,
    TRUNCATED,
    UNKNOWN_COST,
    Action,
    AgentLimits,
    Answered,
    Call,
    Expired,
    Happening,
    Heard,
    Question,
    Stop,
)

if TYPE_CHECKING:
    from scillm.records import Json, Message

NUDGE = (
    "Your last message had neither text nor a tool call. Call a tool, or answer the task in plain "
    "text."
)
LAST = "No further tool calls are possible. Answer the task now, with what you have."


@frozen(kw_only=True)
class Agent:
    """A run so far. `waiting` are the calls that have no answer yet, in the model's order."""

    limits: AgentLimits
    tools: frozenset[str] = frozenset()
    messages: tuple[Message, ...] = ()
    waiting: tuple[Call, ...] = ()
    steps: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    elapsed_s: float = 0.0
    format_errors: int = 0
    ids: frozenset[str] = field(factory=frozenset)
    """Every id of a call in the history, so that none comes twice."""
    last_asked: bool = False
    stopped: Stop | None = None


def begin(messages: Sequence[Message], *, tools: Collection[str], limits: AgentLimits) -> Agent:
    """A run about to ask its first question. The messages stay as they are."""
    if limits.max_iterations < 1:
        raise UsageError(f"max_iterations must be at least 1, not {limits.max_iterations}.")
    taken = frozenset(
        str(call.get("id"))
        for message in messages
        for call in message.get("tool_calls") or ()
        if isinstance(call, Mapping)
    )
    return Agent(limits=limits, tools=frozenset(tools), messages=tuple(messages), ids=taken)


def what_next(agent: Agent) -> Action:
    """The one thing to do now."""
    if agent.stopped is not None:
        return agent.stopped
    if agent.waiting:
        return agent.waiting[0]
    return Question(messages=agent.messages, last=agent.last_asked)


def after(agent: Agent, happening: Happening) -> Agent:
    """The run after something happened; `UsageError` for what was not asked for."""
    if agent.stopped is not None:
        raise UsageError("The agent has stopped; nothing can happen to it any more.")
    if isinstance(happening, Expired):
        agent = evolve(agent, elapsed_s=happening.elapsed_s)
        return _stopped(agent, MAX_SECONDS)
    if isinstance(happening, Answered):
        return _after_answer(agent, happening)
    if agent.waiting:
        raise UsageError(f"The tool call {agent.waiting[0].id!r} has no answer yet.")
    return _after_reply(agent, happening)


# -- a tool's answer ---------------------------------------------------------------------------


def _after_answer(agent: Agent, answered: Answered) -> Agent:
    if not agent.waiting or agent.waiting[0].id != answered.id:
        raise UsageError(f"No answer to a tool call {answered.id!r} is wanted now.")
    agent = evolve(
        agent,
        messages=(*agent.messages, _tool_message(answered.id, answered.text)),
        waiting=agent.waiting[1:],
        elapsed_s=answered.elapsed_s,
    )
    if not answered.ok and not agent.limits.repair:
        return _stopped(agent, TOOL_FAILED)
    return _bounded(agent)


def _tool_message(id: str, text: str) -> Message:
    return {"role": "tool", "tool_call_id": id, "content": text}


# -- a model's answer --------------------------------------------------------------------------


def _after_reply(agent: Agent, heard: Heard) -> Agent:
    number = agent.steps + 1
    message = dict(heard.message) | {"role": "assistant"}
    given = [] if agent.last_asked else calls_of(message, number=number, taken=agent.ids)
    message.pop("tool_calls", None)
    message.pop("function_call", None)
    text = text_of(message)
    if not given and agent.limits.run_code_blocks and not agent.last_asked:
        given = block_calls(text, tools=agent.tools, id=fresh_id(f"block_{number}", agent.ids))
    if given:
        message["tool_calls"] = given
        message.setdefault("content", None)
    elif not isinstance(message.get("content"), (str, list)):
        message["content"] = ""
    agent = evolve(
        agent,
        messages=(*agent.messages, message),
        steps=number,
        tokens=agent.tokens + heard.tokens,
        cost_usd=agent.cost_usd + (heard.cost_usd or 0.0),
        elapsed_s=heard.elapsed_s,
        ids=agent.ids | {call["id"] for call in given},
    )
    if agent.limits.max_cost_usd is not None and heard.cost_usd is None:
        return _stopped(_with_calls(agent, given), UNKNOWN_COST)
    if given:
        return _bounded(_with_calls(agent, given))
    return _after_text(agent, text, heard.finish_reason)


def _after_text(agent: Agent, text: str, finish_reason: str | None) -> Agent:
    if agent.last_asked:
        return _stopped(agent, MAX_ITERATIONS, text)
    if finish_reason == "content_filter" or agent.messages[-1].get("refusal"):
        return _stopped(agent, REFUSED, text or str(agent.messages[-1].get("refusal") or ""))
    if finish_reason == "length":
        return _stopped(agent, TRUNCATED, text)
    if text.strip():
        return _stopped(agent, SUCCESS, text)
    nudged = (*agent.messages, {"role": "user", "content": NUDGE})
    return _bounded(evolve(agent, messages=nudged, format_errors=agent.format_errors + 1))


def _with_calls(agent: Agent, given: Sequence[Mapping[str, Json]]) -> Agent:
    """The calls to carry out; those that cannot be are answered here, with the reason."""
    sound: list[Call] = []
    refused: dict[str, str] = {}
    for place, call in enumerate(given):
        read = read_call(call, agent.tools)
        if isinstance(read, str):
            refused[call["id"]] = read
        elif len(sound) >= agent.limits.max_calls:
            refused[call["id"]] = (
                f"Error: not run. One message may make {agent.limits.max_calls} calls, and this is "
                f"call {place + 1}; make it again in your next message."
            )
        else:
            sound.append(call_of(read, call["id"]))
    answers = tuple(_tool_message(key, text) for key, text in refused.items())
    errors = agent.format_errors + 1 if not sound and given else 0
    return evolve(
        agent,
        messages=(*agent.messages, *answers),
        waiting=tuple(sound),
        format_errors=errors,
    )


# -- limits ------------------------------------------------------------------------------------


def _bounded(agent: Agent) -> Agent:
    """The run, stopped when a limit is reached; a tool call that waits may still be made."""
    limits = agent.limits
    if limits.max_seconds is not None and agent.elapsed_s >= limits.max_seconds:
        return _stopped(agent, MAX_SECONDS)
    if agent.waiting:
        return agent
    if agent.format_errors >= limits.max_format_errors:
        return _stopped(agent, FORMAT_ERRORS)
    if limits.max_tokens is not None and agent.tokens >= limits.max_tokens:
        return _stopped(agent, MAX_TOKENS)
    if limits.max_cost_usd is not None and agent.cost_usd >= limits.max_cost_usd:
        return _stopped(agent, MAX_COST)
    if agent.steps < limits.max_iterations:
        return agent
    if not limits.escalate:
        return _stopped(agent, MAX_ITERATIONS)
    asked = (*agent.messages, {"role": "user", "content": LAST})
    return evolve(agent, messages=asked, last_asked=True)


def _stopped(agent: Agent, reason: str, answer: str = "") -> Agent:
    """The end: whatever call still waits is told that it was not carried out."""
    text = f"Error: not run, the agent has stopped ({reason})."
    left = tuple(_tool_message(call.id, text) for call in agent.waiting)
    return evolve(
        agent,
        messages=(*agent.messages, *left),
        waiting=(),
        stopped=Stop(reason=reason, answer=answer),
    )
