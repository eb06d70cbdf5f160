"""The HTTP API of Kimina Lean Server, so that its clients work unchanged.

Source: github.com/project-numina/kimina-lean-server (fb2393d). Every snippet is checked on the
untouched environment of its imports, so `reuse` changes nothing; info trees are not offered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from scillm.errors import UsageError
from scillm.fanout import each
from scillm.serve.openapi import Operation, problems
from scillm.serve.web import (
    BodyLimits,
    Request,
    Response,
    Route,
    json_response,
    read_json,
    until_gone,
)

from scillm_certainly.errors import QueueFullError
from scillm_certainly.records import UNAVAILABLE, CheckRequest, Policy, ProofVerdict
from scillm_certainly.replies import fault_of, reply_of

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_certainly.pool.pool import Checker

WIDTH = 8
DEFAULT_S = 30
VERIFY_S = 300
OBJECT: Mapping[str, Json] = {"application/json": {"type": "object"}}
DETAIL: Mapping[str, Json] = {
    "application/json": {
        "type": "object",
        "required": ["detail"],
        "properties": {"detail": {"type": "string"}},
    }
}


@frozen(kw_only=True)
class Snippets:
    """A request of either kind: what to check, how long each may take, how to answer."""

    requests: Sequence[CheckRequest]
    timeout_s: float
    debug: bool = False


def kimina_routes(
    checker: Checker, *, name: str, body: BodyLimits, max_items: int, max_time_s: float
) -> list[Route]:
    """The routes. `name` is shown as the `repl_uuid` that clients expect."""

    async def answered(
        request: Request,
        read: Callable[[Json], Snippets],
        shape: Callable[[ProofVerdict, Snippets, str], dict[str, Json]],
    ) -> Response:
        document = await read_json(request, body)
        try:
            asked = read(document)
        except UsageError as error:
            return json_response({"detail": error.message}, status=422)
        if (count := len(asked.requests)) > max_items:
            detail = f"At most {max_items} are taken at a time, but {count} came."
            return json_response({"detail": detail}, status=413)
        try:
            verdicts = await until_gone(request, partial(_checked, checker, asked, max_time_s))
        except QueueFullError as error:
            wait = {"retry-after": str(max(1, round(error.retry_after)))}
            return json_response({"detail": "No available REPLs"}, status=429, headers=wait)
        if verdicts and all(row.status == UNAVAILABLE for row in verdicts):
            return json_response({"detail": verdicts[0].reason}, status=503)
        return json_response({"results": [shape(row, asked, name) for row in verdicts]})

    async def check(request: Request) -> Response:
        return await answered(request, read_check, check_result)

    async def verify(request: Request) -> Response:
        return await answered(request, read_verify, verify_result)

    async def health(_request: Request) -> Response:
        return json_response({"status": "ok"})

    posts: Sequence[tuple[str, Callable[[Request], Awaitable[Response]]]] = (
        ("/api/check", check),
        ("/api/check/", check),
        ("/verify", verify),
        ("/one_pass_verify_batch", verify),
    )
    return [
        *(Route(path, handler, methods=["POST"]) for path, handler in posts),
        *(Route(path, health, methods=["GET"]) for path in ("/health", "/health/")),
    ]


async def _checked(checker: Checker, asked: Snippets, max_time_s: float) -> list[ProofVerdict]:
    policy = Policy(time_s=min(asked.timeout_s, max_time_s))

    async def one(request: CheckRequest) -> ProofVerdict:
        return await checker.check(evolve(request, policy=policy))

    return await each(one, asked.requests, limit=WIDTH)


def read_check(document: Json) -> Snippets:
    """The request of `/api/check`; `UsageError` when it is none."""
    rows = _rows(document, "snippets")
    requests = [
        CheckRequest(id=_text(row, "id", place), code=_text(row, "code", place))
        for place, row in enumerate(rows, 1)
    ]
    return _snippets(document, requests, DEFAULT_S, "infotree")


def read_verify(document: Json) -> Snippets:
    """The request of `/verify`; `UsageError` when it is none."""
    fresh = _rows(document, "codes") and document.get("disable_cache", False)
    if not isinstance(fresh, bool):
        raise UsageError("disable_cache must be true or false.")
    requests = []
    for place, row in enumerate(_rows(document, "codes"), 1):
        key = "code" if row.get("proof") is None else "proof"
        custom_id = row.get("custom_id")
        if isinstance(custom_id, bool) or not isinstance(custom_id, (str, int)):
            raise UsageError(f"codes[{place}] needs a custom_id that is text or a number.")
        requests.append(CheckRequest(id=str(custom_id), code=_text(row, key, place), fresh=fresh))
    return _snippets(document, requests, VERIFY_S, "infotree_type")


def _snippets(
    document: Mapping[str, Json], requests: Sequence[CheckRequest], default_s: int, tree: str
) -> Snippets:
    ids = [row.id for row in requests]
    doubles = sorted({name for name in ids if ids.count(name) > 1})
    if doubles:
        raise UsageError(f"Ids must be unique, but {doubles[0]!r} came more than once.")
    timeout = document.get("timeout", default_s)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise UsageError(f"timeout must be a number above 0, but is {timeout!r}.")
    if document.get(tree) is not None:
        raise UsageError(f"This server gives no info trees; leave {tree} out.")
    return Snippets(
        requests=requests, timeout_s=float(timeout), debug=document.get("debug") is True
    )


def _rows(document: Json, name: str) -> list[Mapping[str, Json]]:
    rows = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(r, Mapping) for r in rows):
        raise UsageError(f"The body must be an object whose {name} is a list of objects.")
    return rows


def _text(row: Mapping[str, Json], key: str, place: int) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise UsageError(f"Entry {place} needs {key}, a text.")
    return value


def check_result(verdict: ProofVerdict, asked: Snippets, name: str) -> dict[str, Json]:
    """One row of the answer of `/api/check`."""
    row: dict[str, Json] = {"id": verdict.id, "time": round(verdict.wall_s, 6)}
    error = error_of(verdict, asked)
    fault = fault_of(verdict)
    if error:
        row["error"] = error
    elif fault:
        row["response"] = {"message": fault}
    else:
        row["response"] = {"env": 0, **reply_of(verdict)}
    if asked.debug or error:
        row["diagnostics"] = {"repl_uuid": name}
    return row


def verify_result(verdict: ProofVerdict, asked: Snippets, _name: str) -> dict[str, Json]:
    """One row of the answer of `/verify`."""
    error = error_of(verdict, asked)
    if error:
        return {"custom_id": verdict.id, "error": error}
    fault = fault_of(verdict)
    body = {"message": fault} if fault else {"env": 0, **reply_of(verdict)}
    return {"custom_id": verdict.id, "response": {**body, "time": round(verdict.wall_s, 6)}}


def error_of(verdict: ProofVerdict, asked: Snippets) -> str:
    """What clients read as the server's fault rather than the proof's; "" when it is neither.

    Their only sign of a timeout is these words.
    """
    if verdict.limit == "timeout":
        return f"Lean REPL command timed out in {asked.timeout_s:g} seconds"
    return verdict.reason if verdict.limit in ("died", "busy", "unavailable", "worker") else ""


OPERATIONS: Sequence[Operation] = (
    *(
        Operation(
            method="post",
            path=path,
            id=name,
            summary=f"Kimina Lean Server's {path}.",
            answers={
                200: ("One result per snippet.", OBJECT),
                422: ("Not what Kimina would take; the detail says why.", DETAIL),
                429: ("Too much is waiting; `Retry-After` says when to come back.", DETAIL),
                503: ("There is no Lean.", DETAIL),
                **problems(400, 401, 403, 408, 413),
            },
            body={"type": "object"},
        )
        for path, name in (
            ("/api/check", "kimina_check"),
            ("/verify", "kimina_verify"),
            ("/one_pass_verify_batch", "kimina_verify_batch"),
        )
    ),
    Operation(
        method="get",
        path="/health",
        id="kimina_health",
        summary="The process is alive, in Kimina Lean Server's words.",
        answers={200: ("Alive.", OBJECT), **problems(401, 403)},
    ),
)
