"""The client end of a bridge: an Engine like any other, at a real server."""

from __future__ import annotations

import json
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scillm.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    EngineError,
    MalformedReplyError,
    NotFoundError,
    ProverError,
    RateLimitError,
    SandboxError,
    ScillmError,
    UsageError,
)
from scillm.http.transport import HttpxTransport
from scillm.protocols import Engine
from scillm.providers.bridge import BridgeEngine
from scillm.records import Job, JobResult
from scillm.runs.manifest import finding
from scillm.serve.bridge_app import BridgeLimits, bridge_app
from scillm.serve.envelope import EnvelopeSpec
from support.behaviours import Html, Json, Reply
from support.served import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.faulty import FaultyServer

SPEC = EnvelopeSpec(engine="mirror", schema="mirror@v1")
TOKEN = "sk-a-long-random-token"
pytestmark = pytest.mark.anyio


class Mirror:
    """Gives back what it was told. Remembers whether it was cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def run(self, job: Job, /) -> JobResult:
        self.begun.set()
        options = dict(job.options)
        fault = options.get("fault")
        if fault is not None:
            raise {
                "engine": EngineError, "sandbox": SandboxError, "prover": ProverError,
                "usage": UsageError,
            }[fault](f"the {fault} said no")  # fmt: skip
        try:
            await anyio.sleep(options.get("sleep_s", 0))
        except anyio.get_cancelled_exc_class():
            self.cancelled.set()
            raise
        return JobResult(
            summary={"seed": job.seed, "options": options},
            results=[{"item": item} for item in job.items],
            findings=[finding("items", list(job.items))],
            environment={"engine": job.engine},
        )


@asynccontextmanager
async def far(engine: Any = None, **options: Any) -> AsyncIterator[BridgeEngine]:
    """A BridgeEngine whose other end runs `engine`."""
    settings = {"token": TOKEN, **options}
    client = {name: settings.pop(name) for name in ("background", "timeout_s") if name in settings}
    transport = HttpxTransport()
    with served(bridge_app(engine or Mirror(), spec=SPEC, **settings)) as url:
        try:
            yield BridgeEngine(url, transport, token=TOKEN, **client)
        finally:
            await transport.aclose()


def job(**options: Any) -> Job:
    return Job(engine="mirror", items=[{"task": "ü"}, {"task": "b"}], options=options, seed=7)


@pytest.mark.parametrize("background", [False, True])
async def test_a_job_at_a_bridge_gives_what_it_gives_here(background: bool) -> None:
    """Summary, results, findings and environment are the engine's own; both ways of waiting."""
    work = job(width=2, max_seconds=30, session_id="s", messages=[{"role": "user", "content": "x"}])

    async with far(background=background) as engine:
        there = await engine.run(work)
    here = await Mirror().run(work)

    assert isinstance(engine, Engine)
    assert there == here


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("engine", EngineError),
        ("sandbox", SandboxError),
        ("prover", ProverError),
        ("usage", BadRequestError),
    ],
)
@pytest.mark.parametrize("background", [False, True])
async def test_what_the_engine_raises_there_is_raised_here(
    fault: str, kind: type[ScillmError], background: bool
) -> None:
    """The kind of failure and its words survive the way."""
    async with far(background=background) as engine:
        with pytest.raises(kind, match=f"the {fault} said no"):
            await engine.run(job(fault=fault))


@pytest.mark.parametrize("background", [False, True])
async def test_cancelling_here_cancels_there(background: bool) -> None:
    """Nobody works on for a caller that has left."""
    mirror = Mirror()
    begun = False
    async with far(mirror, background=background) as engine:
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run, job(sleep_s=60))
            begun = await anyio.to_thread.run_sync(mirror.begun.wait, 10)
            group.cancel_scope.cancel()
        cancelled = await anyio.to_thread.run_sync(mirror.cancelled.wait, 10)

    assert begun
    assert cancelled


async def test_a_job_that_takes_too_long_there_is_an_engine_error() -> None:
    """The bridge's time limit is told as such; the same job would take as long again."""
    async with far() as engine:
        with pytest.raises(EngineError, match=r"not done within 0\.05 s") as caught:
            await engine.run(job(sleep_s=60, max_seconds=0.05))

    assert not caught.value.retryable


@pytest.mark.parametrize("background", [False, True])
async def test_a_bridge_that_stays_silent_is_a_timeout(background: bool) -> None:
    """After `timeout_s` the caller gets its time back, and the work there is cancelled."""
    mirror = Mirror()
    began = time.monotonic()
    async with far(mirror, background=background, timeout_s=0.3) as engine:
        with pytest.raises(APITimeoutError):
            await engine.run(job(sleep_s=60))
        cancelled = await anyio.to_thread.run_sync(mirror.cancelled.wait, 10)

    assert cancelled
    assert time.monotonic() - began < 20


async def test_a_full_bridge_says_when_to_come_back() -> None:
    """429 is a RateLimitError with retry_after, which a Router knows how to handle."""
    mirror = Mirror()
    refused: list[RateLimitError] = []
    async with (
        far(mirror, limits=BridgeLimits(max_concurrency=1, queue=0)) as engine,
        anyio.create_task_group() as group,
    ):
        group.start_soon(engine.run, job(sleep_s=60))
        await anyio.to_thread.run_sync(mirror.begun.wait, 10)
        try:
            await engine.run(job())
        except RateLimitError as error:
            refused.append(error)
        group.cancel_scope.cancel()

    assert [error.provider for error in refused] == ["mirror"]
    assert refused[0].retry_after is not None


async def test_a_wrong_token_is_an_authentication_error_that_does_not_show_it() -> None:
    """The error names the server, not the secret."""
    async with far(token="another") as engine:
        with pytest.raises(AuthenticationError) as caught:
            await engine.run(job())

    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(vars(engine).get("_transport"))


async def test_a_result_beside_an_error_status_is_still_a_result() -> None:
    """A prover that could decide nothing answers 503 with its verdicts; they are not lost."""
    async with far(status=lambda _result: 503) as engine:
        result = await engine.run(job())

    assert len(result.results) == 2


async def test_nobody_there_is_a_connection_error() -> None:
    """A refused connection may be tried again, by whoever decides that."""
    transport = HttpxTransport()
    with pytest.raises(APIConnectionError):
        await BridgeEngine("http://127.0.0.1:9", transport).run(job())


@pytest.mark.parametrize(
    ("behaviour", "kind", "says"),
    [
        (Json(obj={"choices": []}), MalformedReplyError, "'summary' in a bridge's answer"),
        (Json(obj=[1]), MalformedReplyError, "answers with an object"),
        (Html(status=200), MalformedReplyError, "an HTML page"),
        (Reply(status=200, body=b"ok"), MalformedReplyError, "sent 'ok'"),
        (Json(obj={"status": "queued"}, status=202), MalformedReplyError, "without a job_id"),
        (Json(obj={"job_id": "../x"}, status=202), MalformedReplyError, "without a job_id"),
        (Json(obj={"detail": "Not Found"}, status=404), NotFoundError, "answered 404: Not Found"),
        (Json(obj={"detail": TOKEN}, status=400), BadRequestError, "answered 400: ***"),
    ],
)
async def test_an_answer_of_another_server_is_not_taken_for_a_result(
    faulty_server: FaultyServer, behaviour: Any, kind: type[ScillmError], says: str
) -> None:
    """Whatever answers there, the error says what came."""
    faulty_server.route("/bridge/complete", behaviour)
    base = faulty_server.base_url.removesuffix("/v1")
    transport = HttpxTransport()
    with pytest.raises(kind) as caught:
        await BridgeEngine(base, transport, token=TOKEN).run(job())
    await transport.aclose()

    assert says in str(caught.value)
    assert TOKEN not in str(caught.value)
    sent = json.loads(faulty_server.requests[-1].body)
    assert sent["provider"] == {"name": "mirror", "args": {}}


@pytest.mark.parametrize("base", ["", "127.0.0.1:8888", "ftp://x"])
async def test_a_base_that_is_no_url_is_refused_at_once(base: str) -> None:
    """A missing scheme is the usual mistake; the error shows the wanted form."""
    with pytest.raises(UsageError, match=r"is like 'http://127\.0\.0\.1:8888'"):
        BridgeEngine(base, HttpxTransport())


@pytest.mark.parametrize("tail", ["", "/", "/bridge/complete", "/bridge/complete/"])
async def test_the_base_may_be_written_with_the_path(tail: str) -> None:
    """The URL of the endpoint works as well as that of the server."""
    transport = HttpxTransport()
    with served(bridge_app(Mirror(), spec=SPEC)) as url:
        result = await BridgeEngine(url + tail, transport).run(job())
        await transport.aclose()

    assert result.summary["seed"] == 7
