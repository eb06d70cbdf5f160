"""A run from its parts: limits and model from settings and arguments, a Router, the tools."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scillm.errors import SettingsError, UsageError
from scillm.models import ChatMessage, Choice, Completion, Usage
from scillm.records import evolve

from scillm_codex.agent.loop import Task, Watch, run_task, unwatched
from scillm_codex.agent.opening import ToolPlan, with_tools
from scillm_codex.agent.records import REFUSED, SUCCESS, TOOL_FAILED, AgentLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from scillm.protocols import Plugins, Transport
    from scillm.records import Json, Message
    from scillm.routing.router import Router

    from scillm_codex.agent.loop import Ask, AskLive, Telling
    from scillm_codex.agent.outcome import Outcome

OWN = frozenset({"tools", "tool_choice"})


def asking(router: Router, **where: Any) -> Ask:
    """How a Router is asked. What the caller adds is the model's business, never the Router's."""

    async def ask(
        model: str, messages: Sequence[Message], params: Mapping[str, Json]
    ) -> Completion:
        answer: Completion = await router.acompletion(
            model, list(messages), stream=False, **_shared(params), **where
        )
        return answer

    return ask


def asking_live(router: Router) -> AskLive:
    """How a Router is asked for an answer that is told as it comes."""

    async def ask(
        model: str,
        messages: Sequence[Message],
        params: Mapping[str, Json],
        tell: Callable[[str], Awaitable[None]],
    ) -> Completion:
        stream = await router.acompletion(
            model,
            list(messages),
            stream=True,
            stream_options={"include_usage": True},
            **_shared(params),
        )
        async with stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    if choice.index == 0 and isinstance(choice.delta.content, str):
                        await tell(choice.delta.content)
        answer: Completion = stream.completion
        return answer

    return ask


def _shared(params: Mapping[str, Json]) -> dict[str, Any]:
    own = {name: value for name, value in params.items() if name in OWN}
    rest = {name: value for name, value in params.items() if name not in OWN}
    return {**own, "extra_body": rest} if rest else own


def limits_from(settings: Mapping[str, Json], given: Mapping[str, Json]) -> AgentLimits:
    """The limits in `given`, the rest from settings and defaults; `UsageError` for a wrong one."""
    chosen = {
        "max_iterations": settings["mini_agent_max_iterations"],
        "max_seconds": settings["mini_agent_max_seconds"],
        **{name: value for name, value in given.items() if value is not None},
    }
    for name in ("max_iterations", "max_format_errors", "max_calls", "max_tokens"):
        value = chosen.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UsageError(f"{name} must be a whole number, not {value!r}.")
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}.")
    for name in ("max_seconds", "max_cost_usd"):
        value = chosen.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise UsageError(f"{name} must be a number, not {value!r}.")
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{name} must be above 0, not {value}.")
    return AgentLimits(**chosen)


def model_from(settings: Mapping[str, Json], given: str | None) -> str:
    """The model to ask; `UsageError` when none was named."""
    model = given or settings.get("mini_agent_model") or settings.get("default_model")
    if not model:
        raise UsageError(
            "No model was named for the mini-agent: give one (-m MODEL, target_model=…), or set "
            "MINI_AGENT_MODEL or SCILLM_DEFAULT_MODEL."
        )
    if str(model).partition("/")[0] == "mini-agent":
        raise UsageError(f"The mini-agent cannot work with itself as its model ({model!r}).")
    return str(model)


def store_from(settings: Mapping[str, Json]) -> Path | None:
    """Where traces go, or None."""
    return settings["mini_agent_store_path"] if settings["mini_agent_store_traces"] else None


def tool_headers(settings: Mapping[str, Json]) -> dict[str, str]:
    """The headers for the HTTP tool service."""
    text = settings.get("mini_agent_tool_http_headers")
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise SettingsError(
            "MINI_AGENT_TOOL_HTTP_HEADERS must be a JSON object of texts; what came is not shown."
        )
    return found


async def run_agent(
    task: Task,
    plan: ToolPlan,
    ask: Ask,
    *,
    plugins: Plugins,
    transport: Transport,
    watch: Watch = unwatched,
    telling: Telling | None = None,
) -> Outcome:
    """One run with its tools opened for it and closed after it."""
    return await with_tools(
        plan,
        lambda toolbox: run_task(task, ask, toolbox, watch=watch, telling=telling),
        plugins=plugins,
        transport=transport,
    )


def escalating(task: Task, model: str | None, *, wanted: bool) -> Task:
    """`task` with a last question to `model` when its iterations are used up, if wanted."""
    if not wanted:
        return task
    return evolve(task, escalate_model=model, limits=evolve(task.limits, escalate=True))


def report(outcome: Outcome) -> dict[str, Json]:
    """What `additional_kwargs["mini_agent"]` holds."""
    return {
        "run_id": outcome.run_id,
        "iterations": outcome.iterations,
        "stopped_reason": outcome.stopped_reason,
        "final_answer": outcome.final_answer,
        "conversation": [dict(message) for message in outcome.messages],
        "parsed_tools": [call.to_dict(n) for n, call in enumerate(outcome.invocations)],
        "used_model": outcome.used_model,
        "escalated": outcome.escalated,
        "cost_usd": outcome.cost_usd,
        "elapsed_s": outcome.elapsed_s,
        "trace": None if outcome.trace is None else str(outcome.trace),
    }


def completion_of(outcome: Outcome, *, model: str) -> Completion:
    """The run as a chat answer: `stop` when the model meant it so, `length` when a limit did."""
    ends = {SUCCESS: "stop", TOOL_FAILED: "stop", REFUSED: "content_filter"}
    usage = None if outcome.usage is None else Usage(**dict[str, Any](outcome.usage))
    return Completion(
        id=outcome.run_id,
        created=int(time.time()),
        model=model,
        choices=[
            Choice(
                message=ChatMessage(
                    content=outcome.final_answer, reasoning_content=outcome.thoughts or None
                ),
                finish_reason=ends.get(outcome.stopped_reason, "length"),
            )
        ],
        usage=usage,
        additional_kwargs={"mini_agent": report(outcome)},
    )
