"""The web framework's door: requests in, answers and event streams out (Starlette).

Integration packages that add routes of their own take `Request`, `Response` and `Route` from here.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from attrs import frozen
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from scillm.errors import ScillmError
from scillm.serve.metrics import CONTENT_TYPE, Metrics
from scillm.serve.problems import Problem, Refused, problem_of

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from scillm.records import Json
    from scillm.serve.guard import Guard

Result = TypeVar("Result")
Write = Callable[[bytes], Awaitable[None]]
"""Sends one or more whole events."""

BEAT_S = 15.0
"""Silence after which a stream says that it is alive."""
BEAT = b": still working\n\n"
ACCEPTED = b": accepted\n\n"
GONE = Problem(status=499, message="The client left before the answer was there; work stopped.")
ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")


@frozen(kw_only=True)
class BodyLimits:
    """How much a client may send, and how long it may take to send it."""

    max_bytes: int = 16 * 1024 * 1024
    time_s: float = 30.0


def application(
    routes: Sequence[BaseRoute],
    *,
    guard: Guard,
    metrics: Metrics,
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
) -> Starlette:
    """An app of `routes` behind `guard`, whose errors are problems and whose calls are counted."""
    known = (guard.token,) if guard.token else ()

    async def refused(_request: Request, error: Exception) -> Response:
        if isinstance(error, Refused):
            return problem_response(error.problem)
        return problem_response(problem_of(error, secrets=known))

    async def not_here(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(
            Problem(
                status=error.status_code,
                message=f"{error.detail}. What this server offers is listed at /openapi.json.",
                headers=dict(error.headers or {}),
            )
        )

    async def left(_request: Request, _error: Exception) -> Response:
        return problem_response(GONE)

    return Starlette(
        routes=list(routes),
        middleware=[Middleware(_Front, guard=guard, metrics=metrics, routes=list(routes))],
        exception_handlers={
            HTTPException: not_here,
            ClientDisconnect: left,
            Refused: refused,
            ScillmError: refused,
            # Starlette answers with this, and then raises it again for the server's log.
            Exception: refused,
        },
        lifespan=lifespan,
    )


def json_response(
    document: Json, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`document` as JSON; `ValueError` or `TypeError` when it is none."""
    return raw_json(encoded(document), status=status, headers=headers)


def raw_json(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A body that is JSON already."""
    given = dict(headers or {})
    return Response(body, status_code=status, headers=given, media_type="application/json")


def encoded(document: Json) -> bytes:
    """`document` as JSON in UTF-8, lone surrogates escaped; no NaN."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def text_response(text: str, *, content_type: str) -> Response:
    """A text of some kind."""
    return Response(text, headers={"content-type": content_type})


def metrics_response(metrics: Metrics) -> Response:
    """What `/metrics` answers."""
    return text_response(metrics.text(), content_type=CONTENT_TYPE)


def problem_response(problem: Problem) -> Response:
    """A problem as an answer."""
    return json_response(problem.body(), status=problem.status, headers=problem.head())


async def read_json(request: Request, limits: BodyLimits) -> Json:
    """The JSON of a request; raises `Refused` with 400, 408 or 413."""
    body = await read_body(request, limits)
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        why = "it is nested too deeply"
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    except ValueError as error:
        why = str(error)
    raise Refused(
        Problem(status=400, message=f"The body must be JSON, but {why}.", code="invalid_json")
    )


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The body of a request; raises `Refused` with 408 or 413."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.max_bytes:
        raise Refused(_too_large(limits))
    parts: list[bytes] = []
    size = 0
    with anyio.move_on_after(limits.time_s) as scope:
        async for piece in request.stream():
            size += len(piece)
            if size > limits.max_bytes:
                raise Refused(_too_large(limits))
            parts.append(piece)
    if scope.cancelled_caught:
        raise Refused(
            Problem(
                status=408,
                message=f"The body was not here within {limits.time_s:g} s ({size} bytes came).",
                code="body_too_slow",
                headers={"connection": "close"},
            )
        )
    return b"".join(parts)


def _too_large(limits: BodyLimits) -> Problem:
    return Problem(
        status=413,
        message=f"The body is larger than {limits.max_bytes} bytes, the limit of this server. "
        "Send fewer items at a time.",
        code="body_too_large",
        headers={"connection": "close"},
    )


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


async def until_gone(request: Request, work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of `work()`, which is cancelled when the client leaves (then: `Refused`, 499).

    The body of the request must have been read.
    """
    results = await _raced(request.receive, work)
    if not results:
        raise Refused(GONE)
    return results[0]


async def _raced(
    receive: Callable[[], Awaitable[Any]], work: Callable[[], Awaitable[Result]]
) -> list[Result]:
    """`[result]`, or nothing when the client left first."""
    results: list[Result] = []
    failures: list[Exception] = []

    async def watch(scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        try:
            results.append(await work())
        except Exception as error:  # noqa: BLE001  (re-raised below, bare instead of in a group)
            failures.append(error)
        group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return results


class EventStream(Response):
    """Server-sent events, as `produce(write)` writes them; cancelled when the client leaves.

    The head of the answer goes out with the first event: what `produce` raises before is answered
    as a problem, with its status. What it raises later ends the connection in the middle of the
    body: say it in an event instead. A stream that falls silent sends a comment every `BEAT_S`, so
    that nothing between closes it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        produce: Callable[[Write], Awaitable[None]],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        given = {"cache-control": "no-store", "x-accel-buffering": "no", **(headers or {})}
        super().__init__(status_code=200, headers=given)
        del self.headers["content-length"]
        self._produce = produce

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if await _raced(receive, partial(self._write_all, send)):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write_all(self, send: Send) -> bool:
        said = time.monotonic()
        begun = anyio.Event()

        async def write(piece: bytes) -> None:
            nonlocal said
            said = time.monotonic()
            if not begun.is_set():
                begun.set()
                head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await send(head)
            await send({"type": "http.response.body", "body": piece, "more_body": True})

        async def beat() -> None:
            await begun.wait()
            while True:
                await anyio.sleep(max(0.01, said + BEAT_S - time.monotonic()))
                if time.monotonic() - said >= BEAT_S:
                    await write(BEAT)

        failures: list[Exception] = []
        async with anyio.create_task_group() as group:
            group.start_soon(beat)
            failures += await _failing(partial(self._produce, write))
            group.cancel_scope.cancel()
        for failure in failures:
            raise failure
        if not begun.is_set():
            await write(BEAT)
        return True


async def _failing(work: Callable[[], Awaitable[None]]) -> list[Exception]:
    try:
        await work()
    except Exception as error:  # noqa: BLE001  (raised by the caller, outside of its task group)
        return [error]
    return []


def event(document: Json, *, name: str = "") -> bytes:
    """One server-sent event with a JSON document."""
    return event_text(encoded(document).decode("utf-8"), name=name)


def event_text(text: str, *, name: str = "") -> bytes:
    """One server-sent event with a text of one line."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode()


def wants_events(request: Request) -> bool:
    """Whether the client asks for an event stream."""
    return "text/event-stream" in request.headers.get("accept", "").lower()


def new_id(prefix: str) -> str:
    """A name nobody can guess."""
    return f"{prefix}-{secrets.token_hex(12)}"


class _Front:
    """What every call passes first: the guard, the request id, the counting."""

    def __init__(
        self, app: ASGIApp, *, guard: Guard, metrics: Metrics, routes: Sequence[BaseRoute]
    ) -> None:
        self._app = app
        self._guard = guard
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if ID.fullmatch(given) else new_id("req")
        began = time.monotonic()
        status = 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        problem = self._guard.refusal(request.url.path, request.headers)
        try:
            if problem is not None:
                await problem_response(problem)(scope, receive, told)
            else:
                await self._app(scope, receive, told)
        finally:
            self._count(scope, status, time.monotonic() - began)

    def _count(self, scope: Scope, status: int, took_s: float) -> None:
        path = next(
            (
                str(getattr(route, "path", "mounted"))
                for route in self._routes
                if route.matches(scope)[0] is not Match.NONE
            ),
            "other",
        )
        self._metrics.count(
            "scillm_http_requests_total",
            "Answered calls.",
            path=path,
            method=scope["method"] if scope["method"] in _METHODS else "other",
            status=str(status),
        )
        self._metrics.took(
            "scillm_http_request_seconds", "From the head of a call to its end.", took_s, path=path
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

__all__ = [
    "ACCEPTED",
    "BEAT_S",
    "BodyLimits",
    "EventStream",
    "Request",
    "Response",
    "Route",
    "Starlette",
    "Write",
    "application",
    "encoded",
    "event",
    "event_text",
    "json_response",
    "metrics_response",
    "new_id",
    "problem_response",
    "raw_json",
    "read_body",
    "read_json",
    "text_response",
    "until_gone",
    "wants_events",
]
