"""Bodies of requests, read within limits of size and time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
from attrs import frozen

from scillm.serve.problems import Problem, Refused

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.serve.web import Request


UNWANTED_BYTES = 64 * 1024 * 1024
UNWANTED_S = 2.0
"""How much of a body that is too large is still received, so that its sender hears the refusal."""


@frozen(kw_only=True)
class BodyLimits:
    """How much a client may send, and how long it may take to send it."""

    max_bytes: int = 16 * 1024 * 1024
    time_s: float = 30.0


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
        await _let_it_finish(request, int(declared))
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


async def _let_it_finish(request: Request, declared: int) -> None:
    """Take what is still coming and throw it away, within a bound.

    Most clients read the answer only after they have sent everything; one whose connection is
    closed before that sees a broken pipe, and not why.
    """
    if declared > UNWANTED_BYTES:
        return
    with anyio.move_on_after(UNWANTED_S):
        async for _piece in request.stream():
            continue


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
