"""The mini-agent as a provider: `completion(model="mini-agent/loop", target_model=…)`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, fields
from scillm.errors import EngineError, ProviderError, UnsupportedParamError, UsageError
from scillm.plugins.registry import Registry
from scillm.routing.router import Router

from scillm_codex.agent.chunks import chunks_of
from scillm_codex.agent.loop import Task
from scillm_codex.agent.opening import ToolPlan
from scillm_codex.agent.running import (
    asking,
    completion_of,
    escalating,
    limits_from,
    model_from,
    run_agent,
    store_from,
    tool_headers,
)
from scillm_codex.agent.settings import with_defaults
from scillm_codex.mcp.names import McpTarget, read_target

if TYPE_CHECKING:
    from scillm.models import Completion, CompletionChunk
    from scillm.protocols import Host
    from scillm.records import ChatRequest, Endpoint, Json

    from scillm_codex.agent.records import Call, Happening

MODELS = ("loop", "mini-agent")
TARGETS = ("target_model", "mini_agent_model", "mini_agent_target")
LIMITS = ("max_iterations", "max_seconds", "max_cost_usd", "max_format_errors", "max_calls")
PARAMS = (
    *TARGETS,
    *LIMITS,
    "max_total_tokens",
    "enable_repair",
    "auto_run_code_on_code_block",
    "escalate_on_budget_exceeded",
    "escalate_model",
    "allowed_languages",
    "agent_tools",
    "work_folder",
    "commands",
    "mcp_servers",
    "tool_http_base_url",
    "tool_http_headers",
    "tool_backend",
    "tool_timeout_s",
)
"""What is the agent's; every other parameter goes to the target model."""


class MiniAgent:
    """Runs the agent in this process, asking a model through a Router of its own."""

    def __init__(self, endpoint: Endpoint, host: Host) -> None:
        self._endpoint = endpoint
        self._host = host
        self._settings = with_defaults(host.settings)
        plugins = host.plugins
        self._router = Router(
            registry=plugins if isinstance(plugins, Registry) else None,
            settings=host.settings,
            transport=host.transport,
        )

    async def models(self) -> Sequence[str]:
        """The one there is."""
        return ["loop"]

    async def complete(self, request: ChatRequest, /) -> Completion:
        """Work on the messages; the run is in `additional_kwargs["mini_agent"]`.

        Raises `UsageError` for parameters that are wrong, the target model's errors while no tool
        was called, and `EngineError` for them later, which nobody retries.
        """
        if request.model and request.model not in MODELS:
            raise UsageError(
                f"The mini-agent has no model {request.model!r}: write mini-agent/loop, and name "
                "the model that works in it as target_model=…"
            )
        given = dict(request.params)
        for name in ("tools", "functions", "stream_options"):
            if given.get(name):
                raise UnsupportedParamError(
                    f"The mini-agent brings its own tools, so {name} cannot be given; see "
                    "agent_tools, commands and mcp_servers.",
                    param=name,
                )
        own = {name: given.pop(name) for name in PARAMS if name in given}
        task = self._task(request, own, given)
        where = {
            "api_base": self._endpoint.api_base,
            "api_key": self._endpoint.api_key,
            "extra_headers": self._endpoint.extra_headers or None,
            "timeout": request.timeout_s,
        }
        ask = asking(self._router, **{k: v for k, v in where.items() if v is not None})
        made: list[str] = []

        def watch(_event: Happening, call: Call | None) -> None:
            if call is not None:
                made.append(call.name)

        try:
            outcome = await run_agent(
                task,
                plan_from(own, self._settings),
                ask,
                plugins=self._host.plugins,
                transport=self._host.transport,
                watch=watch,
            )
        except ProviderError as error:
            if not made:
                raise
            # Whoever called us may retry, or ask elsewhere: the tools would be called once more.
            raise EngineError(
                f"The agent's model failed after {len(made)} tool calls ({', '.join(made)}), so "
                f"the run is not begun anew: {type(error).__name__}: {error.message}"
            ) from error
        return completion_of(outcome, model=task.model)

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, /
    ) -> AsyncIterator[AsyncIterator[CompletionChunk]]:
        """The same answer, in pieces once it is finished: until then it may still be taken back."""
        params = {name: value for name, value in request.params.items() if name != "stream_options"}
        chunks = chunks_of(await self.complete(evolve(request, stream=False, params=params)))
        try:
            yield chunks
        finally:
            await chunks.aclose()

    async def aclose(self) -> None:
        """The transport is the host's; nothing else is held."""

    def _task(
        self, request: ChatRequest, own: Mapping[str, Json], rest: Mapping[str, Json]
    ) -> Task:
        settings = self._settings
        named = [own[name] for name in TARGETS if own.get(name)]
        limits: dict[str, Json] = {name: own.get(name) for name in LIMITS}
        limits["max_tokens"] = own.get("max_total_tokens")
        limits["repair"] = own.get("enable_repair")
        limits["run_code_blocks"] = own.get("auto_run_code_on_code_block")
        task = Task(
            model=model_from(settings, named[0] if named else None),
            messages=request.messages,
            limits=limits_from(settings, limits),
            params=rest,
            store=store_from(settings),
        )
        wanted = bool(own.get("escalate_on_budget_exceeded"))
        return escalating(task, own.get("escalate_model"), wanted=wanted)


def plan_from(own: Mapping[str, Json], settings: Mapping[str, Json]) -> ToolPlan:
    """The tools that the parameters of a call name; `UsageError` for what cannot be."""
    backend = own.get("tool_backend", "local")
    if backend not in ("local", "http", "none"):
        raise UsageError(
            f"tool_backend is local, http or none, not {backend!r}. Programs run in CodeWorld's "
            "sandbox when scillm-codeworld is installed; a container can be had through it."
        )
    base = own.get("tool_http_base_url")
    if (backend == "http") != (base is not None):
        raise UsageError("tool_backend='http' and tool_http_base_url=… go together.")
    folder = own.get("work_folder")
    languages = own.get("allowed_languages")
    tools = own.get("agent_tools")
    if tools is None:
        tools = settings["mini_agent_languages"] if languages is None else languages
    if backend != "local":
        tools = ()
    return ToolPlan(
        tools=_names("agent_tools", tools),
        folder=None if folder is None else Path(folder),
        commands=_names("commands", own.get("commands") or ()),
        mcp=[_target(row) for row in own.get("mcp_servers") or ()],
        http_base=base,
        http_headers={**tool_headers(settings), **(own.get("tool_http_headers") or {})},
        timeout_s=float(own.get("tool_timeout_s") or 30.0),
    )


def _names(param: str, value: Json) -> list[str]:
    if isinstance(value, str) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{param} must be a list of texts, not {value!r}.")
    return list(value)


def _target(row: Json) -> McpTarget:
    """A server as text, or as an object with the fields of `McpTarget`."""
    if isinstance(row, McpTarget):
        return row
    if isinstance(row, str):
        return read_target(row)
    known = {f.name for f in fields(McpTarget)}
    if not isinstance(row, Mapping) or not set(row) <= known or "name" not in row:
        raise UsageError(
            "An MCP server is a command line, a URL, or an object with name and command or url "
            f"(also {', '.join(sorted(known - {'name', 'command', 'url'}))})."
        )
    return McpTarget(**row)
