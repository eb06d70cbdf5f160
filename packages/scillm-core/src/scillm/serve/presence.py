"""Work for a client, as long as the client is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from scillm.serve.problems import Problem, Refused

if TYPE_CHECKING:
    from scillm.serve.web import Request

Result = TypeVar("Result")
GONE = Problem(status=499, message="The client left before the answer was there; work stopped.")


async def until_gone(request: Request, work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of `work()`, which is cancelled when the client leaves (then: `Refused`, 499).

    The body of the request must have been read.
    """
    results = await raced(request.receive, work)
    if not results:
        raise Refused(GONE)
    return results[0]


async def raced(
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
