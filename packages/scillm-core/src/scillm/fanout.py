"""Do one thing to many items, so many at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

Item = TypeVar("Item")
Result = TypeVar("Result")


async def each(
    function: Callable[[Item], Awaitable[Result]], items: Iterable[Item], *, limit: int
) -> list[Result]:
    """Results of `function` in the order of `items`, at most `limit` running at once.

    `items` is consumed as workers become free. The first exception cancels the rest and is raised
    as it is; a function that must not stop the others returns its failure.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, but is {limit}.")
    source = iter(enumerate(items))
    results: dict[int, Result] = {}
    failures: list[BaseException] = []

    async def worker(scope: anyio.CancelScope) -> None:
        for number, item in source:
            try:
                results[number] = await function(item)
            except Exception as error:  # re-raised below, bare instead of in a group
                failures.append(error)
                scope.cancel()
                return

    async with anyio.create_task_group() as group:
        for _ in range(limit):
            group.start_soon(worker, group.cancel_scope)
    if failures:
        raise failures[0]
    return [results[number] for number in sorted(results)]
