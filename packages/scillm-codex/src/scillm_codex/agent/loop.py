"""The agent's loop: asks the model, carries out tool calls, tells the machine, keeps the trace."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import field, frozen
from scillm.errors import EngineError, UsageError
from scillm.models import Delta

from scillm_codex.agent.calls import text_of
from scillm_codex.agent.machine import Agent, after, begin, what_next
from scillm_codex.agent.outcome import Invocation, Outcome
from scillm_codex.agent.records import (
    MAX_SECONDS,
    AgentLimits,
    Answered,
    Call,
    Expired,
    Happening,
    Heard,
    Question,
    Stop,
    ToolAnswer,
)
from scillm_codex.agent.rows import closing_row, event_row, failed_row, opening_row
from scillm_codex.agent.trace import Trace

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json, Message

    from scillm_codex.agent.records import ToolSpec
    from scillm_codex.agent.toolbox import Toolbox

Ask: TypeAlias = "Callable[[str, Sequence[Message], Mapping[str, Json]], Awaitable[Completion]]"
"""Asks a model: its name, the messages, further parameters such as `tools`."""

Params: TypeAlias = "Mapping[str, Json]"
Tell: TypeAlias = "Callable[[str], Awaitable[None]]"
AskLive: TypeAlias = "Callable[[str, Sequence[Message], Params, Tell], Awaitable[Completion]]"
"""The same, telling every piece of the answer's text as it comes."""

Watch: TypeAlias = "Callable[[Happening, Call | None], None]"


def unwatched(_event: Happening, _call: Call | None) -> None:
    """Nobody looks on."""


@frozen(kw_only=True)
class Telling:
    """How a run is told while it goes on."""

    ask: AskLive
    say: Callable[[Delta], Awaitable[None]]


@frozen(kw_only=True)
class Task:
    """One run to make."""

    model: str
    messages: Sequence[Message]
    limits: AgentLimits = field(factory=AgentLimits)
    params: Mapping[str, Json] = field(factory=dict)
    """Further parameters of every question, such as temperature."""
    escalate_model: str | None = None
    store: Path | None = None
    """The folder for the trace; None keeps none."""
    tool_timeout_s: float | None = None


async def run_task(
    task: Task,
    ask: Ask,
    toolbox: Toolbox,
    *,
    clock: Callable[[], float] = time.monotonic,
    watch: Watch = unwatched,
    telling: Telling | None = None,
) -> Outcome:
    """Work on `task` until the machine stops; the model's errors are raised as they are.

    `telling` is told the answer, piece by piece where nothing can take a piece back: where the
    model is offered no tools. What it says before a tool call is told as a thought.
    """
    run_id = f"agent-{secrets.token_hex(8)}"
    trace = Trace(task.store, run_id)
    try:
        trace.note(
            opening_row(
                run_id,
                model=task.model,
                messages=task.messages,
                tools=toolbox.specs,
                limits=task.limits,
                created=time.time(),
            )
        )
        run = _Run(task, ask, toolbox, trace, clock=clock, watch=watch, telling=telling)
        try:
            agent = await run.finished()
            await run.say_rest(agent)
        except BaseException as error:
            trace.note(failed_row(error))
            raise
        trace.note(closing_row(agent))
        return run.outcome(run_id, agent, trace.path)
    finally:
        trace.close()


class _Run:
    """One run under way. Remembers what was carried out and what was counted."""

    def __init__(
        self,
        task: Task,
        ask: Ask,
        toolbox: Toolbox,
        trace: Trace,
        *,
        clock: Callable[[], float],
        watch: Watch,
        telling: Telling | None,
    ) -> None:
        self.task = task
        self.ask = ask
        self.toolbox = toolbox
        self.trace = trace
        self.watch = watch
        self.telling = telling
        self.told = ""
        self.thoughts: list[str] = []
        self.clock = clock
        self.began = clock()
        self.invocations: list[Invocation] = []
        self.usage: dict[str, int] | None = {}
        self.costs: list[float | None] = []
        self.used_model = task.model
        self.escalated = False

    async def finished(self) -> Agent:
        task = self.task
        agent = begin(task.messages, tools=self.toolbox.names, limits=task.limits)
        while not isinstance(todo := what_next(agent), Stop):
            event: Happening
            more: dict[str, Json] = {}
            if isinstance(todo, Question):
                event = await self._question(todo)
            else:
                event, more = await self._call(todo, agent)
            self.trace.note(event_row(event, **more))
            self.watch(event, todo if isinstance(todo, Call) else None)
            agent = after(agent, event)
            if isinstance(event, Heard) and agent.stopped is None:
                await self._say_thought(event)
        return agent

    async def _say_thought(self, heard: Heard) -> None:
        text = text_of(heard.message)
        if text:
            between = "\n\n" if self.thoughts else ""
            self.thoughts.append(text)
            if self.telling is not None:
                await self.telling.say(Delta(reasoning_content=between + text))

    async def _say_text(self, piece: str) -> None:
        """Tell a piece of the answer; blanks are held back until there is more than blanks."""
        assert self.telling is not None
        self.told += piece
        if self.told.strip():
            begun = self.told[: -len(piece)].strip()
            await self.telling.say(Delta(content=piece if begun else self.told))

    async def say_rest(self, agent: Agent) -> None:
        """Tell what of the answer was not told yet."""
        stop = agent.stopped
        if self.telling is None or stop is None or stop.reason == MAX_SECONDS:
            return
        told = self.told if self.told.strip() else ""
        if not stop.answer.startswith(told):
            raise EngineError(
                "The model took back what it had said: it called a tool, though none was offered."
            )
        if stop.answer[len(told) :]:
            await self.telling.say(Delta(content=stop.answer[len(told) :]))

    def _is_final(self, specs: Sequence[ToolSpec]) -> bool:
        """Whether whatever the model says now is its answer."""
        limits = self.task.limits
        return not (specs or limits.run_code_blocks) and limits.max_cost_usd is None

    def _elapsed(self) -> float:
        return self.clock() - self.began

    def _left(self) -> float | None:
        most = self.task.limits.max_seconds
        return None if most is None else max(0.0, most - self._elapsed())

    async def _question(self, todo: Question) -> Heard | Expired:
        task = self.task
        model = task.model
        params = dict(task.params)
        specs = [] if todo.last else self.toolbox.specs
        if specs:
            params["tools"] = [spec.to_openai() for spec in specs]
        else:
            params.pop("tool_choice", None)
        if todo.last and task.escalate_model:
            model = task.escalate_model
        self.used_model = model
        self.escalated = todo.last
        completion: Completion | None = None
        with anyio.move_on_after(self._left()):
            if self.telling is not None and self._is_final(specs):
                live = self.telling.ask
                completion = await live(model, list(todo.messages), params, self._say_text)
            else:
                completion = await self.ask(model, list(todo.messages), params)
        if completion is None:
            return Expired(elapsed_s=self._elapsed())
        return self._heard(completion)

    def _heard(self, completion: Completion) -> Heard:
        choice = completion.choices[0] if completion.choices else None
        message = {} if choice is None else choice.message.to_dict()
        for call in message.get("tool_calls") or ():
            call.pop("index", None)
        # Thoughts are the server's own form, and most servers refuse them in a history.
        message.pop("reasoning_content", None)
        usage = completion.usage
        counted = 0 if usage is None else usage.total_tokens or 0
        self._count(None if usage is None else usage.to_dict())
        cost = completion.scillm_meta.get("response_cost")
        self.costs.append(cost)
        return Heard(
            message=message,
            finish_reason=None if choice is None else choice.finish_reason,
            tokens=counted,
            cost_usd=cost,
            elapsed_s=self._elapsed(),
        )

    def _count(self, usage: Mapping[str, Json] | None) -> None:
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        if usage is None or not all(isinstance(usage.get(name), int) for name in names):
            self.usage = None
        elif self.usage is not None:
            self.usage = {name: self.usage.get(name, 0) + usage[name] for name in names}

    async def _call(self, call: Call, agent: Agent) -> tuple[Answered | Expired, dict[str, Json]]:
        began = self.clock()
        left, own = self._left(), self.task.tool_timeout_s
        limit = min((value for value in (left, own) if value is not None), default=None)
        try:
            answer = await self.toolbox.carry_out(call, timeout_s=limit)
        except TimeoutError:
            if limit == left:
                return Expired(elapsed_s=self._elapsed()), {"name": call.name}
            text = f"Error: stopped after {limit:g} s. Whether the call had an effect is not known."
            answer = ToolAnswer(ok=False, text=text)
        took = self.clock() - began
        self.invocations.append(
            Invocation(iteration=agent.steps, call=call, answer=answer, took_s=took)
        )
        event = Answered(id=call.id, text=answer.text, ok=answer.ok, elapsed_s=self._elapsed())
        return event, {"name": call.name, "took_s": round(took, 6), **answer.detail}

    def outcome(self, run_id: str, agent: Agent, trace: Path | None) -> Outcome:
        stop = agent.stopped
        if stop is None:
            raise UsageError("The agent has not stopped.")
        known = [cost for cost in self.costs if cost is not None]
        return Outcome(
            run_id=run_id,
            model=self.task.model,
            stopped_reason=stop.reason,
            final_answer=stop.answer,
            messages=agent.messages,
            iterations=agent.steps,
            usage=self.usage or None,
            cost_usd=sum(known) if len(known) == len(self.costs) else None,
            elapsed_s=self._elapsed(),
            invocations=tuple(self.invocations),
            used_model=self.used_model,
            escalated=self.escalated,
            thoughts="\n\n".join(self.thoughts),
            trace=trace,
        )
