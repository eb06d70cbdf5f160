"""The Responses bridge as an ASGI app: `/v1/responses` beside `/v1/chat/completions`."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from scillm import Router
from scillm.errors import APITimeoutError, MalformedReplyError, ScillmError, UnknownModelError
from scillm.http.wire import read_chunk
from scillm.records import evolve
from scillm.serve.admission import Admission
from scillm.serve.chat_answers import Answers
from scillm.serve.chat_app import ChatLimits, chat_app
from scillm.serve.openapi import Operation, problems
from scillm.serve.problems import problem_of
from scillm.serve.web import (
    BodyLimits,
    EventStream,
    Request,
    Response,
    Route,
    Write,
    event,
    json_response,
    read_json,
    until_gone,
)

from scillm_codex.responses.events import Responding
from scillm_codex.responses.request import Asked, read_responses
from scillm_codex.responses.shapes import chunks_of

if TYPE_CHECKING:
    from scillm.models import CompletionChunk
    from scillm.protocols import Provider
    from scillm.records import ChatRequest, Json
    from scillm.serve.chat_answers import Answer, Routes
    from scillm.serve.web import Starlette

Result = TypeVar("Result")
log = logging.getLogger("scillm.codex")

DROPPED = "x-scillm-dropped"
PATHS = ("/v1/responses", "/responses")


def bridge_of_models(
    models: Sequence[str],
    *,
    api_base: str | None = None,
    api_key: str | None = None,
    token: str | None = None,
) -> Starlette:
    """A bridge in front of models of SciLLM's, each served under its own name."""
    rows = []
    for model in models:
        params = {"model": model, "api_base": api_base, "api_key": api_key}
        given = {name: value for name, value in params.items() if value is not None}
        rows.append({"model_name": model, "litellm_params": given})
    return responses_app(Router(model_list=rows), models=models, token=token)


def responses_app(
    answer: Provider | Routes | Answer,
    *,
    models: Sequence[str],
    token: str | None = None,
    limits: ChatLimits | None = None,
    name: str = "scillm-bridge",
    **more: Any,
) -> Starlette:
    """An app that answers Responses and chat requests with `answer`; `more` as `chat_app`."""
    held = limits or ChatLimits()
    responses = Responses(answer, models=models, limits=held, secrets=(token,) if token else ())
    return chat_app(
        answer,
        models=models,
        token=token,
        limits=held,
        name=name,
        routes=[Route(path, responses.respond, methods=["POST"]) for path in PATHS],
        operations=[_operation()],
        **more,
    )


class Responses:
    """The handler. Remembers what runs and what waits."""

    def __init__(
        self,
        answer: Provider | Routes | Answer,
        *,
        models: Sequence[str],
        limits: ChatLimits,
        secrets: tuple[str, ...],
    ) -> None:
        self._answers = Answers(answer)
        self._models = tuple(models)
        self._limits = limits
        self._secrets = secrets
        self._body = BodyLimits(max_bytes=limits.max_body_bytes, time_s=limits.body_seconds)
        self._admission = Admission(
            width=limits.max_concurrency, queue=limits.queue, queue_s=limits.queue_seconds
        )

    async def respond(self, request: Request) -> Response:
        """Answer a Responses request."""
        document = await read_json(request, self._body)
        asked = read_responses(document, timeout_s=self._limits.max_seconds)
        if asked.request.model not in self._models:
            shown = ", ".join(self._models)
            raise UnknownModelError(
                f"The model {asked.request.model[:200]!r} is not served here; what is: {shown}.",
                candidates=self._models,
            )
        headers = {DROPPED: ", ".join(asked.dropped)[:500]} if asked.dropped else {}
        responding = Responding(_head(asked), names=asked.names, new_id=_new_id)
        if asked.request.stream:
            return EventStream(partial(self._stream, asked, responding), headers=headers)
        whole = await until_gone(request, partial(self._whole, asked, responding))
        return json_response(whole, headers=headers)

    async def _whole(self, asked: Asked, responding: Responding) -> Json:
        async with self._admission.enter():
            completion = await self._in_time(partial(self._answers.complete, asked.request))
        for chunk in chunks_of(completion.to_dict()):
            responding.take(read_chunk(chunk))
        return responding.end()[-1]["response"]

    async def _stream(self, asked: Asked, responding: Responding, write: Write) -> None:
        """An error before the first piece is the answer's status; a later one is an event."""
        begun = False
        try:
            async with self._admission.enter(), self._pieces(asked) as pieces:
                while (chunk := await self._in_time(partial(anext, pieces, None))) is not None:
                    if not begun:
                        begun = True
                        await _tell(write, responding.begin())
                    await _tell(write, responding.take(chunk))
            if not responding.finished:
                raise MalformedReplyError("The answer ended before it was finished.")  # noqa: TRY301
            await _tell(write, responding.end())
        except Exception as error:
            if not begun:
                raise
            if not isinstance(error, ScillmError):
                log.exception("A stream of the bridge broke.")
            problem = problem_of(error, secrets=self._secrets)
            await _tell(write, responding.fail(problem.message, problem.code or "server_error"))

    @asynccontextmanager
    async def _pieces(self, asked: Asked) -> AsyncIterator[AsyncIterator[CompletionChunk]]:
        if self._answers.streams:
            async with self._answers.stream(_with_usage(asked)) as pieces:
                yield pieces
            return
        completion = await self._in_time(partial(self._answers.complete, asked.request))
        document = completion.to_dict()
        for choice in document.get("choices") or ():
            # A whole answer is finished, whether its server says why or not.
            choice["finish_reason"] = choice.get("finish_reason") or "stop"
        yield _one_by_one([read_chunk(chunk) for chunk in chunks_of(document)])

    async def _in_time(self, work: Callable[[], Awaitable[Result]]) -> Result:
        results: list[Result] = []
        with anyio.move_on_after(self._limits.max_seconds):
            results.append(await work())
        if results:
            return results[0]
        raise APITimeoutError(
            f"Nothing came for {self._limits.max_seconds:g} s, the limit of this server; the work "
            "was stopped."
        )


async def _one_by_one(chunks: Sequence[CompletionChunk]) -> AsyncIterator[CompletionChunk]:
    for chunk in chunks:
        yield chunk


def _with_usage(asked: Asked) -> ChatRequest:
    wanted = {**asked.request.params, "stream_options": {"include_usage": True}}
    return evolve(asked.request, params=wanted)


async def _tell(write: Write, events: Sequence[Mapping[str, Json]]) -> None:
    for each in events:
        await write(event(each, name=each["type"]))


def _head(asked: Asked) -> dict[str, Json]:
    base: dict[str, Json] = {
        "id": _new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "model": asked.request.model,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
    }
    return base | {name: value for name, value in asked.echo.items() if value is not None}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"


def codex_config(base: str, model: str) -> str:
    """The lines of Codex's config.toml that lead it to a bridge at `base`."""
    return "\n".join(
        [
            "",
            f'model = "{model}"',
            'model_provider = "scillm"',
            "[model_providers.scillm]",
            'name = "SciLLM bridge"',
            f'base_url = "{base}/v1"',
            'wire_api = "responses"',
            "supports_websockets = false",
        ]
    )


def _operation() -> Operation:
    body = {
        "type": "object",
        "required": ["model", "input"],
        "properties": {
            "model": {"type": "string"},
            "input": {"type": ["string", "array"]},
            "stream": {"type": "boolean"},
        },
    }
    answer = {"application/json": {"type": "object"}, "text/event-stream": {"type": "string"}}
    return Operation(
        method="post",
        path=PATHS[0],
        id="respond",
        summary="Answer in the form of OpenAI's Responses API; nothing is stored.",
        answers={200: ("The response.", answer), **problems(400, 401, 403, 404, 408, 413, 429)},
        body=body,
    )
