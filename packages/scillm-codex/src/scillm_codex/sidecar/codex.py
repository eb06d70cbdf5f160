"""Codex as a provider: every request is a thread of its own in one running app-server."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from attrs import frozen
from scillm.errors import APITimeoutError, ProviderError, SchemaError, ScillmError
from scillm.fanout import each
from scillm.models import (
    ChatMessage,
    Choice,
    ChunkChoice,
    Completion,
    CompletionChunk,
    Delta,
    ToolCall,
    Usage,
)

from scillm_codex.sidecar.checking import problem_of_answer
from scillm_codex.sidecar.plan import Plan, plan_of, repair_turn
from scillm_codex.sidecar.stops import Stops
from scillm_codex.sidecar.thread import Thread, opened, refusals_as_errors, run_turn
from scillm_codex.sidecar.turn import Ended, Piece, added

if TYPE_CHECKING:
    from scillm.records import ChatRequest, Json

    from scillm_codex.sidecar.keeper import Keeper
    from scillm_codex.sidecar.plan import Place

MODELS_S = 300.0
"""How long a list of models is good for."""


@frozen(kw_only=True)
class Said:
    """A whole answer."""

    text: str
    thoughts: str = ""
    reason: str = "stop"
    calls: Sequence[ToolCall] = ()
    usage: Usage | None = None


class CodexServer:
    """Answers with the process its keeper keeps. Remembers the models it was told."""

    def __init__(self, keeper: Keeper, place: Place, *, idle_s: float = 300.0) -> None:
        self._keeper = keeper
        self._place = place
        self._idle_s = idle_s
        self._models: tuple[float, tuple[str, ...]] | None = None

    async def complete(self, request: ChatRequest, /) -> Completion:
        """Answer `request`; raises `ProviderError`, `SchemaError`, `UnsupportedParamError`."""
        plan = plan_of(request, self._place)
        answers: list[Said] | None = None
        try:
            with anyio.move_on_after(request.timeout_s):
                answers = await each(
                    lambda _: self._said(plan), range(plan.choices), limit=plan.choices
                )
        except ScillmError as error:
            raise _named(error, request) from None
        if answers is None:
            raise _too_slow(request)
        return Completion(
            id=_new_id(),
            created=int(time.time()),
            model=request.model,
            choices=[_choice(index, said) for index, said in enumerate(answers)],
            usage=_sum([said.usage for said in answers]),
            additional_kwargs={"codex": {"ignored_params": list(plan.ignored)}},
        )

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, /
    ) -> AsyncIterator[AsyncIterator[CompletionChunk]]:
        """Open the streamed answer; leaving the context interrupts the turn behind it."""
        chunks = self._chunks(request, plan_of(request, self._place))
        try:
            yield chunks
        finally:
            await chunks.aclose()

    async def models(self) -> Sequence[str]:
        """Ids of Codex's catalogue, asked for at most every five minutes."""
        if self._models is None or time.monotonic() - self._models[0] > MODELS_S:
            async with self._keeper.lease() as child:
                with refusals_as_errors():
                    listed = await child.rpc.call("model/list", {})
            rows = listed.get("data") or ()
            self._models = (time.monotonic(), tuple(str(row["model"]) for row in rows))
        return self._models[1]

    async def _chunks(
        self, request: ChatRequest, plan: Plan
    ) -> AsyncGenerator[CompletionChunk, None]:
        """Choice after choice: each in a thread of its own."""
        answer_id, created = _new_id(), int(time.time())
        usages: list[Usage | None] = []

        def chunk(index: int, delta: Delta, reason: str | None = None) -> CompletionChunk:
            choice = ChunkChoice(index=index, delta=delta, finish_reason=reason)
            return CompletionChunk(
                id=answer_id, created=created, model=request.model, choices=[choice]
            )

        try:
            for index in range(plan.choices):
                async with aclosing(self._events(plan)) as events:
                    async for event in events:
                        if isinstance(event, Piece):
                            yield chunk(index, _delta(event))
                            continue
                        if event.calls:
                            yield chunk(index, Delta(tool_calls=list(event.calls)))
                        usages.append(event.usage)
                        yield chunk(index, Delta(), event.reason)
        except ScillmError as error:
            raise _named(error, request) from None
        usage = _sum(usages)
        if usage is not None:
            yield CompletionChunk(id=answer_id, created=created, model=request.model, usage=usage)

    async def _said(self, plan: Plan) -> Said:
        async with aclosing(self._events(plan)) as events:
            return await _folded(events)

    async def _events(self, plan: Plan) -> AsyncGenerator[Piece | Ended, None]:
        """One answer, in a thread of its own; held back until it fits, where that is wanted."""
        async with (
            self._keeper.lease() as child,
            opened(child, plan, idle_s=self._idle_s) as thread,
        ):
            if not plan.checked:
                async with aclosing(_live(thread, plan, plan.turn)) as events:
                    async for event in events:
                        yield event
            else:
                said = await _checked(thread, plan)
                yield Piece(text=said.text, thought=said.thoughts)
                yield Ended(reason=said.reason, calls=said.calls, usage=said.usage)
        self._keeper.note_answer()


async def _live(
    thread: Thread, plan: Plan, params: Mapping[str, Json]
) -> AsyncGenerator[Piece | Ended, None]:
    """A turn, cut off before the first stop text."""
    stops = Stops(plan.stops)
    async with aclosing(run_turn(thread, plan, params)) as events:
        async for event in events:
            if isinstance(event, Piece):
                shown = stops.feed(event.text)
                if shown or event.thought:
                    yield Piece(text=shown, thought=event.thought)
                if stops.hit:
                    yield Ended(reason="stop")
                    return
                continue
            held = stops.rest()
            if held:
                yield Piece(text=held)
            if event.reason == "interrupted":
                raise ProviderError("Codex interrupted the turn by itself.", provider="codex")
            yield event


async def _checked(thread: Thread, plan: Plan) -> Said:
    """An answer that fits, after one repair turn at most; `SchemaError` when it does not."""
    first = await _turn_said(thread, plan, plan.turn)
    if first.calls:
        return first
    text, problem = problem_of_answer(first.text, plan)
    if problem is None:
        return _with_text(first, text)
    second = await _turn_said(thread, plan, repair_turn(problem.message, plan))
    if second.calls:
        return second
    text, problem = problem_of_answer(second.text, plan)
    if problem is not None:
        raise SchemaError(
            f"Codex was asked twice and its answer still does not fit: {problem.message}",
            path=getattr(problem, "path", ""),
            text=second.text,
            problems=getattr(problem, "problems", ()),
        )
    return Said(
        text=text,
        thoughts=first.thoughts + second.thoughts,
        reason=second.reason,
        usage=added(first.usage, second.usage),
    )


async def _turn_said(thread: Thread, plan: Plan, params: Mapping[str, Json]) -> Said:
    async with aclosing(_live(thread, plan, params)) as events:
        return await _folded(events)


async def _folded(events: AsyncIterator[Piece | Ended]) -> Said:
    texts: list[str] = []
    thoughts: list[str] = []
    ended: Ended | None = None
    async for event in events:
        if isinstance(event, Piece):
            texts.append(event.text)
            thoughts.append(event.thought)
        else:
            ended = event
    if ended is None:
        raise ProviderError("Codex ended without an end.", provider="codex")
    return Said(
        text="".join(texts),
        thoughts="".join(thoughts),
        reason=ended.reason,
        calls=ended.calls,
        usage=ended.usage,
    )


def _with_text(said: Said, text: str) -> Said:
    return Said(
        text=text, thoughts=said.thoughts, reason=said.reason, calls=said.calls, usage=said.usage
    )


def _choice(index: int, said: Said) -> Choice:
    message = ChatMessage(
        content=said.text or (None if said.calls else ""),
        tool_calls=list(said.calls) or None,
        reasoning_content=said.thoughts or None,
    )
    return Choice(index=index, message=message, finish_reason=said.reason)


def _delta(piece: Piece) -> Delta:
    return Delta(content=piece.text or None, reasoning_content=piece.thought or None)


def _sum(usages: Sequence[Usage | None]) -> Usage | None:
    total: Usage | None = usages[0] if usages else None
    for usage in usages[1:]:
        total = added(total, usage)
    return total


def _named(error: ScillmError, request: ChatRequest) -> ScillmError:
    if isinstance(error, ProviderError):
        error.provider = error.provider or "codex"
        error.model = error.model or request.model
    return error


def _too_slow(request: ChatRequest) -> APITimeoutError:
    return APITimeoutError(
        f"Codex had not answered after {request.timeout_s:g} s; the turn was stopped.",
        provider="codex",
        model=request.model,
        status_code=504,
    )


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"
