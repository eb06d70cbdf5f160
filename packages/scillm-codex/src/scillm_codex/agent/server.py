"""The mini-agent behind HTTP: OpenAI's chat API, and the older `/agent/run`.

What the agent may touch is fixed when the server starts; a client cannot add to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen
from scillm.errors import UnsupportedParamError
from scillm.serve.admission import Admission
from scillm.serve.chat_app import ChatLimits, chat_app
from scillm.serve.openapi import JSON, Operation, problems
from scillm.serve.web import (
    BodyLimits,
    Request,
    Response,
    Route,
    json_response,
    read_json,
    until_gone,
)

from scillm_codex.agent.legacy import FIELDS, AgentRequest, answer_of, read_request
from scillm_codex.agent.loop import Task, Telling
from scillm_codex.agent.opening import ToolPlan, with_tools
from scillm_codex.agent.running import (
    asking,
    asking_live,
    completion_of,
    escalating,
    limits_from,
    model_from,
    run_agent,
    store_from,
    tool_headers,
)
from scillm_codex.agent.streaming import RunStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from scillm.models import Completion, CompletionChunk
    from scillm.protocols import Plugins, Transport
    from scillm.records import ChatRequest, Json
    from scillm.routing.router import Router
    from scillm.serve.web import Starlette

    from scillm_codex.agent.outcome import Outcome
    from scillm_codex.agent.streaming import Say
    from scillm_codex.agent.toolbox import Toolbox

NAME = "mini-agent"
GRACE_S = 30.0
"""A run ends by its own limit; the server's own is this much later."""


@frozen(kw_only=True)
class AgentServer:
    """What one server works with."""

    router: Router
    plugins: Plugins
    transport: Transport
    settings: Mapping[str, Json]
    plan: ToolPlan = field(factory=ToolPlan)
    model: str | None = None
    """The model that works; clients name `mini-agent`, or one of `models`."""
    models: Sequence[str] = ()
    """Further models that clients may name, to work in its place."""
    http_bases: Sequence[str] = ()
    token: str | None = field(default=None, repr=False)
    limits: Mapping[str, Json] = field(factory=dict)
    width: int = 8


def agent_app(server: AgentServer) -> Starlette:
    """The ASGI app of `server`; `UsageError` when no model was named."""
    face = _Face(server)
    most = face.limits.max_seconds
    return chat_app(
        face,
        models=[NAME, *server.models],
        token=server.token,
        ready=face.ready,
        limits=ChatLimits(
            max_concurrency=server.width, max_seconds=3600.0 if most is None else most + GRACE_S
        ),
        name="scillm mini-agent",
        routes=[Route("/agent/run", face.run, methods=["POST"])],
        operations=[OPERATION],
    )


OPERATION = Operation(
    method="post",
    path="/agent/run",
    id="agent_run",
    summary="Work on messages with tools, and tell the whole run.",
    body={
        "type": "object",
        "required": ["messages"],
        "properties": {name: {} for name in FIELDS},
        "additionalProperties": False,
    },
    answers={
        200: ("The run, whether it succeeded or not.", {JSON: {"type": "object"}}),
        **problems(400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504),
    },
)


class _Face:
    """The handlers. Remembers what runs."""

    def __init__(self, server: AgentServer) -> None:
        self.server = server
        self.model = model_from(server.settings, server.model)
        self.limits = limits_from(server.settings, server.limits)
        self._ask = asking(server.router)
        self._ask_live = asking_live(server.router)
        self._admission = Admission(width=server.width, queue=64, queue_s=60.0)
        self._body = BodyLimits(max_bytes=32 * 1024 * 1024)

    async def ready(self) -> Mapping[str, Json]:
        """Whether the tools can be opened."""

        async def names(toolbox: Toolbox) -> list[str]:
            return sorted(toolbox.names)

        server = self.server
        found = await with_tools(
            server.plan, names, plugins=server.plugins, transport=server.transport
        )
        return {"ready": True, "ok": True, "model": self.model, "tools": found}

    async def complete(self, request: ChatRequest, /) -> Completion:
        """Work on the messages of a chat request; the answer is the agent's."""
        task = self._chat(request)
        return completion_of(await self._finished(task, self.server.plan), model=request.model)

    def stream(
        self, request: ChatRequest, /
    ) -> AbstractAsyncContextManager[AsyncIterator[CompletionChunk]]:
        """The same while it goes on; leaving the context ends the run."""
        task = self._chat(request)

        async def work(say: Say) -> Completion:
            telling = Telling(ask=self._ask_live, say=say)
            outcome = await self._finished(task, self.server.plan, telling=telling)
            return completion_of(outcome, model=request.model)

        return RunStream(work, model=request.model)

    def _chat(self, request: ChatRequest) -> Task:
        params = dict(request.params)
        for name in ("tools", "functions", "tool_choice"):
            if params.pop(name, None):
                raise UnsupportedParamError(
                    f"The agent works with tools of its own; leave {name} out.", param=name
                )
        if params.pop("n", 1) not in (1, None):
            raise UnsupportedParamError("The agent gives one answer; leave n out.", param="n")
        params.pop("stream_options", None)
        model = self.model if request.model == NAME else request.model
        return self._task(model, request.messages, params)

    async def run(self, request: Request) -> Response:
        document = await read_json(request, self._body)
        asked = read_request(document, bases=self.server.http_bases)
        task, plan = self._asked(asked)
        ticket = self._admission.enter()

        async def work() -> Response:
            async with ticket:
                return json_response(answer_of(await self._finished(task, plan)))

        return await until_gone(request, work)

    def _asked(self, asked: AgentRequest) -> tuple[Task, ToolPlan]:
        server = self.server
        task = self._task(self._named(asked.model), asked.messages, dict(asked.params))
        limits = evolve(
            task.limits,
            max_iterations=_lower(asked.max_iterations, task.limits.max_iterations),
            max_seconds=_lower(asked.max_seconds, task.limits.max_seconds),
            repair=asked.repair,
            run_code_blocks=asked.run_code_blocks,
        )
        limits_from(server.settings, {"max_iterations": limits.max_iterations,
                                      "max_seconds": limits.max_seconds})  # fmt: skip
        task = evolve(task, limits=limits)
        other = None if asked.escalate_model is None else self._named(asked.escalate_model)
        task = escalating(task, other, wanted=asked.escalate)
        if asked.backend == "http":
            headers = {**tool_headers(server.settings), **asked.http_headers}
            return task, ToolPlan(http_base=asked.http_base, http_headers=headers)
        if asked.backend == "echo" or not (asked.use_tools or asked.run_code_blocks):
            return task, ToolPlan()
        return task, server.plan

    def _named(self, model: str | None) -> str:
        known = (NAME, self.model, *self.server.models)
        if model is None or model in (NAME, self.model):
            return self.model
        if model not in known:
            raise UnsupportedParamError(
                f"The model {model[:200]!r} is not served here; what is: {', '.join(known)}.",
                param="model",
            )
        return model

    def _task(
        self, model: str, messages: Sequence[Mapping[str, Json]], params: Mapping[str, Json]
    ) -> Task:
        return Task(
            model=model,
            messages=messages,
            limits=self.limits,
            params=params,
            store=store_from(self.server.settings),
        )

    async def _finished(
        self, task: Task, plan: ToolPlan, *, telling: Telling | None = None
    ) -> Outcome:
        server = self.server
        work = partial(run_agent, task, plan, self._ask, telling=telling)
        return await work(plugins=server.plugins, transport=server.transport)


def _lower(asked: Json, own: Json) -> Json:
    """A client may ask for less than the server allows, not for more."""
    if asked is None or own is None:
        return own if asked is None else asked
    return min(asked, own)
