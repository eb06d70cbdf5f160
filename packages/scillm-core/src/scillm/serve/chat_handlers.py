"""What a chat server does with a request: a whole answer, or a stream of its pieces."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import anyio
from attrs import evolve, frozen

from scillm.errors import MalformedReplyError, ScillmError, UnknownModelError
from scillm.serve.admission import Admission
from scillm.serve.chat_wire import (
    Asked,
    Stamp,
    piece_of_answer,
    pieces_of_whole,
    read_chat,
    usage_piece,
    whole_answer,
)
from scillm.serve.problems import Problem, Refused, problem_of
from scillm.serve.web import (
    BodyLimits,
    EventStream,
    Request,
    Response,
    Write,
    event,
    event_text,
    json_response,
    new_id,
    read_json,
    until_gone,
)

if TYPE_CHECKING:
    from scillm.models import CompletionChunk, Usage
    from scillm.records import ChatRequest, Json
    from scillm.serve.chat_answers import Answers
    from scillm.serve.metrics import Metrics

Result = TypeVar("Result")
log = logging.getLogger("scillm.serve")

Models: TypeAlias = "Sequence[str] | Callable[[], Awaitable[Sequence[str]]]"
"""Model ids, or how to come by them now."""

DONE = "[DONE]"


@frozen(kw_only=True)
class ChatLimits:
    """How much one server takes on."""

    max_body_bytes: int = 32 * 1024 * 1024
    max_seconds: float = 600.0
    """For a whole answer; for a stream, up to its first piece and between two pieces."""
    max_concurrency: int = 16
    queue: int = 64
    queue_seconds: float = 60.0
    body_seconds: float = 30.0


class ChatHandlers:
    """One server's handlers. Remembers what runs and what waits."""

    def __init__(
        self,
        answers: Answers,
        *,
        models: Models,
        accepts: Callable[[str], bool] | None,
        shows: Callable[[str], bool] | None,
        limits: ChatLimits,
        headers: Callable[[ChatRequest], Mapping[str, str]],
        problem: Callable[[ScillmError], Problem],
        metrics: Metrics,
        name: str,
    ) -> None:
        self._answers = answers
        self._models = models
        self._accepts = accepts
        self._shows = shows
        self._limits = limits
        self._headers = headers
        self._problem = problem
        self._metrics = metrics
        self._name = name
        self._body = BodyLimits(max_bytes=limits.max_body_bytes, time_s=limits.body_seconds)
        self._admission = Admission(
            width=limits.max_concurrency, queue=limits.queue, queue_s=limits.queue_seconds
        )
        self._since = int(time.time())
        metrics.gauge("scillm_chat_running", "Answers being made.", lambda: self._admission.running)
        metrics.gauge("scillm_chat_waiting", "Requests waiting.", lambda: self._admission.waiting)

    async def complete(self, request: Request) -> Response:
        """Answer a conversation."""
        asked = read_chat(await read_json(request, self._body), timeout_s=self._limits.max_seconds)
        await self._refuse_unknown(asked.request.model, self._accepts)
        stamp = Stamp(
            id=new_id("chatcmpl"),
            created=int(time.time()),
            model=asked.request.model,
            usage_wanted=asked.usage_wanted,
        )
        if asked.request.stream:
            produce = partial(self._stream, asked, stamp)
            return EventStream(produce, headers=self._headers(asked.request))
        return await until_gone(request, partial(self._whole, asked, stamp))

    async def list_models(self, _request: Request) -> Response:
        """The models that are listed now."""
        rows = [self._model(name) for name in await self._known()]
        return json_response({"object": "list", "data": rows})

    async def show_model(self, request: Request) -> Response:
        """One model, if it is known."""
        name: str = request.path_params["id"]
        await self._refuse_unknown(name, self._shows)
        return json_response(self._model(name))

    def _model(self, id: str) -> dict[str, Json]:
        return {"id": id, "object": "model", "created": self._since, "owned_by": self._name}

    async def _known(self) -> Sequence[str]:
        return await self._models() if callable(self._models) else self._models

    async def _refuse_unknown(self, model: str, also: Callable[[str], bool] | None) -> None:
        if also is not None and also(model):
            return
        known = await self._known()
        if model not in known:
            shown = ", ".join(known[:20]) or "none"
            raise UnknownModelError(
                f"The model {model[:200]!r} is not served here; what is: {shown}.",
                candidates=known,
            )

    async def _whole(self, asked: Asked, stamp: Stamp) -> Response:
        ticket = self._admission.enter()
        with self._as_problems():
            async with ticket:
                document = await self._document(asked, stamp)
        return json_response(document, headers=self._headers(asked.request))

    async def _document(self, asked: Asked, stamp: Stamp) -> dict[str, Json]:
        completion = await self._in_time(partial(self._answers.complete, asked.request))
        document = whole_answer(completion, stamp)
        self._count_usage(document.get("usage"))
        return document

    async def _stream(self, asked: Asked, stamp: Stamp, write: Write) -> None:
        """Write every piece; an error before the first becomes the answer's status."""
        ticket = self._admission.enter()
        begun = False

        async def tell(piece: bytes) -> None:
            nonlocal begun
            begun = True
            await write(piece)

        try:
            with self._as_problems():
                async with ticket:
                    await self._pieces(asked, stamp, tell)
        except Refused as refused:
            if not begun:
                raise
            await write(event(refused.problem.body()))
        except Exception:
            if not begun:
                raise
            log.exception("A stream of %s broke.", self._name)
            await write(event(problem_of(RuntimeError()).body()))

    async def _pieces(self, asked: Asked, stamp: Stamp, tell: Write) -> None:
        if not self._answers.streams:
            for document in pieces_of_whole(await self._document(asked, stamp), stamp):
                await tell(event(document))
        else:
            with anyio.move_on_after(self._limits.max_seconds) as scope:
                async with self._answers.stream(asked.request) as chunks:
                    await self._chunks(chunks, stamp, tell, scope)
            if scope.cancelled_caught:
                raise self._out_of_time()
        await tell(event_text(DONE))

    async def _chunks(
        self,
        chunks: AsyncIterator[CompletionChunk],
        stamp: Stamp,
        tell: Write,
        scope: anyio.CancelScope,
    ) -> None:
        """Write each piece, and give the next one its own time."""
        usage: Usage | None = None
        seen: set[int] = set()
        ended: set[int] = set()
        async for chunk in chunks:
            scope.deadline = anyio.current_time() + self._limits.max_seconds
            if not seen and chunk.model:
                stamp = evolve(stamp, model=chunk.model)
            usage = chunk.usage or usage
            document = piece_of_answer(chunk, stamp, begun=seen)
            if document is not None:
                seen |= {choice["index"] for choice in document["choices"]}
                ended |= {row["index"] for row in document["choices"] if row["finish_reason"]}
                await tell(event(document))
        if not seen or seen - ended:
            raise MalformedReplyError("The answer ended before it was finished.")
        last = None if usage is None else usage_piece(usage, stamp)
        if last is not None:
            self._count_usage(last["usage"])
            if stamp.usage_wanted:
                await tell(event(last))

    async def _in_time(self, work: Callable[[], Awaitable[Result]]) -> Result:
        results: list[Result] = []
        with anyio.move_on_after(self._limits.max_seconds):
            results.append(await work())
        if results:
            return results[0]
        raise self._out_of_time()

    def _out_of_time(self) -> Refused:
        return Refused(
            Problem(
                status=504,
                message=f"Nothing came for {self._limits.max_seconds:g} s, the limit of this "
                "server; the work was stopped.",
                code="out_of_time",
            )
        )

    @contextmanager
    def _as_problems(self) -> Iterator[None]:
        outcome = "cancelled"
        try:
            yield
            outcome = "ok"
        except ScillmError as error:
            refused = Refused(self._problem(error))
            outcome = str(refused.problem.status)
            raise refused from error
        except Refused as refused:
            outcome = str(refused.problem.status)
            raise
        except Exception:
            outcome = "500"
            raise
        finally:
            self._metrics.count("scillm_chat_answers_total", "Ended answers.", outcome=outcome)

    def _count_usage(self, usage: Mapping[str, Json] | None) -> None:
        for kind in ("prompt_tokens", "completion_tokens"):
            if usage is not None:
                self._metrics.count(
                    "scillm_chat_tokens_total", "Tokens as reported.", usage[kind], kind=kind
                )
