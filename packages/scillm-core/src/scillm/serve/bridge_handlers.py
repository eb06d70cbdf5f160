"""What a bridge does with a request: at once, in the background, or as an event stream."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import asdict, evolve, frozen

from scillm.errors import ScillmError
from scillm.events import Event, ItemFinished
from scillm.protocols import Engine
from scillm.serve.admission import Admission, Ticket
from scillm.serve.envelope import Envelope, EnvelopeSpec, read_envelope
from scillm.serve.envelope_result import write_result
from scillm.serve.jobs import RUNNING, Answer, Jobs, Kept
from scillm.serve.problems import Problem, Refused, problem_of
from scillm.serve.web import (
    ACCEPTED,
    BodyLimits,
    EventStream,
    Request,
    Response,
    Write,
    encoded,
    event,
    event_text,
    json_response,
    new_id,
    raw_json,
    read_json,
    until_gone,
    wants_events,
)

if TYPE_CHECKING:
    from scillm.records import JobResult, Json
    from scillm.serve.metrics import Metrics

log = logging.getLogger("scillm.serve")

Emit: TypeAlias = Callable[[Event], None]
EngineSource: TypeAlias = "Engine | Callable[[Emit], Engine]"
"""An engine; or, for progress, a function that gives one that tells its events to `emit`."""

POLL_S = 1.0
LONGEST_WAIT_S = 60.0
"""For which a request for the result of background work is held open."""
EVENTS_AHEAD = 1000
"""Events kept for a client that reads slowly; what is left out is counted in the last one."""


@frozen(kw_only=True)
class BridgeLimits:
    """How much one server takes on."""

    max_body_bytes: int = 16 * 1024 * 1024
    max_items: int = 1000
    max_seconds: float = 600.0
    """Of work per request; a request may ask for less."""
    max_concurrency: int = 2
    queue: int = 16
    queue_seconds: float = 60.0
    body_seconds: float = 30.0
    max_kept: int = 100
    """Answers of background work that are kept until they are fetched."""
    kept_seconds: float = 3600.0


class BridgeHandlers:
    """One engine's handlers. Remembers what runs, what waits, and what is kept."""

    def __init__(
        self,
        engine: EngineSource,
        *,
        spec: EnvelopeSpec,
        limits: BridgeLimits,
        status: Callable[[JobResult], int],
        metrics: Metrics,
        secrets: Sequence[str],
    ) -> None:
        self._engine = engine
        self._spec = spec
        self._limits = limits
        self._status = status
        self._secrets = secrets
        self._body = BodyLimits(max_bytes=limits.max_body_bytes, time_s=limits.body_seconds)
        self.metrics = metrics
        self.jobs = Jobs(max_kept=limits.max_kept, ttl_s=limits.kept_seconds)
        self.admission = Admission(
            width=limits.max_concurrency, queue=limits.queue, queue_s=limits.queue_seconds
        )
        metrics.gauge("scillm_bridge_running", "Jobs running now.", lambda: self.admission.running)
        metrics.gauge("scillm_bridge_waiting", "Jobs waiting now.", lambda: self.admission.waiting)
        metrics.gauge("scillm_bridge_kept", "Background jobs known.", lambda: len(self.jobs))

    async def complete(self, request: Request) -> Response:
        """Do the work of a request, or begin it."""
        envelope = self._checked(await read_json(request, self._body))
        prefers = request.headers.get("prefer", "").lower()
        ticket = self.admission.enter()
        if envelope.asynchronous or "respond-async" in prefers:
            return self._accepted(envelope, ticket)
        if wants_events(request):
            return EventStream(partial(self._streamed, envelope, ticket))
        answer = await until_gone(request, partial(self._answer, envelope, ticket, _silent))
        return _response(answer)

    async def result(self, request: Request) -> Response:
        """What became of background work; waits as long as the client wants."""
        kept = self._kept(request)
        patience_s = waiting_wanted(request.headers.get("prefer", ""))
        if kept.answer is None and patience_s:
            with anyio.move_on_after(patience_s):
                await until_gone(request, kept.over.wait)
        if kept.answer is not None:
            return _response(kept.answer)
        return json_response(_state(kept), status=202, headers={"retry-after": f"{POLL_S:.0f}"})

    async def cancel(self, request: Request) -> Response:
        """Stop background work, and forget it."""
        kept = self._kept(request)
        self.jobs.forget(kept.id)
        return json_response({"job_id": kept.id, "status": "cancelled"})

    def _kept(self, request: Request) -> Kept:
        kept = self.jobs.get(request.path_params["id"])
        if kept is None:
            raise Refused(
                Problem(
                    status=404,
                    message="No background work of this name is known: it never was, it was "
                    f"cancelled, or its answer is older than {self.jobs.ttl_s:g} s or than the "
                    f"last {self.jobs.max_kept}.",
                    code="job_not_found",
                )
            )
        return kept

    def _checked(self, document: Json) -> Envelope:
        envelope = read_envelope(document, self._spec)
        count, most = len(envelope.job.items), self._limits.max_items
        if count > most:
            raise Refused(
                Problem(
                    status=413,
                    message=f"At most {most} items are taken at a time, but {count} came.",
                    code="too_many_items",
                )
            )
        asked, allowed = envelope.max_seconds, self._limits.max_seconds
        if asked is None or asked <= allowed:
            return envelope
        options = {**envelope.job.options, "max_seconds": allowed}
        note = f"max_seconds is {allowed:g}, the limit of this server, instead of {asked:g}"
        return evolve(
            envelope,
            job=evolve(envelope.job, options=options),
            warnings=(*envelope.warnings, note),
        )

    def _accepted(self, envelope: Envelope, ticket: Ticket) -> Response:
        def work(kept: Kept) -> Callable[[], Awaitable[Answer]]:
            return partial(self._answer, envelope, ticket, partial(_note, kept))

        try:
            kept = self.jobs.start(new_id("job"), work)
        except ScillmError:
            self.admission.leave()
            raise
        place = f"/bridge/result/{kept.id}"
        shown = {**_state(kept), "result": place, "kept_s": self._limits.kept_seconds}
        return json_response(
            shown, status=202, headers={"location": place, "retry-after": f"{POLL_S:.0f}"}
        )

    async def _streamed(self, envelope: Envelope, ticket: Ticket, write: Write) -> None:
        try:
            await write(ACCEPTED)
        except BaseException:
            self.admission.leave()
            raise
        send, receive = anyio.create_memory_object_stream[Event](EVENTS_AHEAD)
        missed = 0

        def emit(happened: Event) -> None:
            nonlocal missed
            try:
                send.send_nowait(happened)
            except anyio.WouldBlock:
                missed += 1

        async def forward() -> None:
            async for happened in receive:
                await write(event(_shown(happened), name="progress"))

        answers: list[Answer] = []
        async with send, receive, anyio.create_task_group() as group:
            group.start_soon(forward)
            answers.append(await self._answer(envelope, ticket, emit))
            send.close()
        if missed:
            await write(event({"type": "Missed", "events": missed}, name="progress"))
        for answer in answers:
            name = "result" if answer.status < 400 else "error"
            await write(event_text(answer.body.decode(), name=name))

    async def _answer(self, envelope: Envelope, ticket: Ticket, emit: Emit) -> Answer:
        """What is answered in the end, whatever happens; never raises but when cancelled."""
        try:
            async with ticket:
                answer = await self._worked(envelope, emit)
        except Refused as refused:
            answer = _answer_of(refused.problem)
        except Exception as error:  # background work and a stream have nobody to raise it to
            if not isinstance(error, ScillmError):
                log.exception("The engine %s broke.", self._spec.engine)
            answer = _answer_of(problem_of(error, secrets=self._secrets))
        except BaseException:
            self._count("cancelled")
            raise
        self._count("ok" if answer.status < 400 else str(answer.status))
        return answer

    async def _worked(self, envelope: Envelope, emit: Emit) -> Answer:
        engine = _engine(self._engine, emit)
        seconds = envelope.max_seconds or self._limits.max_seconds
        began, ts = time.monotonic(), time.time()
        result: JobResult | None = None
        with anyio.move_on_after(seconds):
            result = await engine.run(envelope.job)
        if result is None:
            raise Refused(
                Problem(
                    status=504,
                    message=f"The work was not done within {seconds:g} s and was stopped; ask for "
                    f"more max_seconds (at most {self._limits.max_seconds:g}), or send fewer "
                    "items.",
                    code="out_of_time",
                )
            )
        body = write_result(
            result,
            envelope,
            self._spec,
            run_id=new_id("bridge"),
            ts=ts,
            duration_ms=(time.monotonic() - began) * 1000.0,
        )
        try:
            return Answer(status=self._status(result), body=encoded(body))
        except (TypeError, ValueError) as error:
            raise Refused(
                Problem(
                    status=500,
                    message=f"The result of the engine cannot be written as JSON: {error}.",
                    code="result_is_not_json",
                )
            ) from error

    def _count(self, outcome: str) -> None:
        self.metrics.count(
            "scillm_bridge_jobs_total",
            "Ended jobs.",
            engine=self._spec.engine,
            outcome=outcome,
        )


def waiting_wanted(prefer: str) -> float:
    """Seconds that a client is willing to wait for an answer (RFC 7240, section 4.3)."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,4})", prefer.lower())
    return min(LONGEST_WAIT_S, float(found.group(1))) if found else 0.0


def _engine(source: EngineSource, emit: Emit) -> Engine:
    # A class has the attribute `run` as well; it is a maker of engines all the same.
    if isinstance(source, Engine) and not isinstance(source, type):
        return source
    return source(emit)


def _silent(_happened: Event) -> None:
    return


def _note(kept: Kept, happened: Event) -> None:
    kept.progress["events"] = kept.progress.get("events", 0) + 1
    if isinstance(happened, ItemFinished):
        kept.progress.update(done=happened.done, total=happened.total)


def _shown(happened: Event) -> dict[str, Json]:
    return {"type": type(happened).__name__, **asdict(happened)}


def _state(kept: Kept) -> dict[str, Json]:
    state = RUNNING if kept.answer is None else kept.state
    return {"job_id": kept.id, "status": state, "progress": dict(kept.progress)}


def _answer_of(problem: Problem) -> Answer:
    return Answer(status=problem.status, body=encoded(problem.body()), headers=problem.head())


def _response(answer: Answer) -> Response:
    return raw_json(answer.body, status=answer.status, headers=answer.headers)
