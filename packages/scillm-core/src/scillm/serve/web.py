"""The web framework's door: requests in, answers and event streams out (Starlette).

Integration packages that add routes of their own take `Request`, `Response` and `Route` from here.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from scillm.errors import ScillmError
from scillm.serve.bodies import BodyLimits, read_body, read_json
from scillm.serve.metrics import CONTENT_TYPE, Metrics
from scillm.serve.presence import GONE, raced, until_gone
from scillm.serve.problems import Problem, Refused, problem_of
from scillm.serve.writing import ACCEPTED, BEAT, encoded, event, event_text

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from scillm.records import Json
    from scillm.serve.guard import Guard

Write = Callable[[bytes], Awaitable[None]]
"""Sends one or more whole events."""

BEAT_S = 15.0
"""Silence after which a stream says that it is alive."""
ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")


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


def text_response(text: str, *, content_type: str) -> Response:
    """A text of some kind."""
    return Response(text, headers={"content-type": content_type})


def metrics_response(metrics: Metrics) -> Response:
    """What `/metrics` answers."""
    return text_response(metrics.text(), content_type=CONTENT_TYPE)


def problem_response(problem: Problem) -> Response:
    """A problem as an answer."""
    return json_response(problem.body(), status=problem.status, headers=problem.head())


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
        if await raced(receive, partial(self._write_all, send)):
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
