"""A Router among faults leaves nothing behind: no task, no socket, no file, no memory."""

from __future__ import annotations

import gc
import logging
import os
import tracemalloc
from typing import TYPE_CHECKING

import anyio
import pytest
import scillm
from scillm.errors import ProviderError
from scillm.fanout import each
from support.chaos import chaos_server, looked_at

if TYPE_CHECKING:
    from support.chaos import ChaosServer

WIDTH = 32
SPARE_BYTES, FLAT_BYTES = 64 * 1024, 20
"""For idle connections and caches, and per call; an answer that stayed would be 3,000 bytes."""


async def ask_many(router: scillm.Router, server: ChaosServer, count: int) -> int:
    """So many calls; how many ended with an error."""
    failed = 0

    async def one(number: int) -> None:
        nonlocal failed
        messages = [{"role": "user", "content": f"say r{number}"}]
        try:
            await router.acompletion(
                "openai/m", messages, api_base=server.base_url, timeout=2.0,
                retry_enabled=True, retry_base_s=0.01, retry_max_s=0.05,
            )  # fmt: skip
        except ProviderError:
            failed += 1

    await each(one, range(count), limit=WIDTH)
    return failed


def measured(server: ChaosServer, count: int) -> tuple[int, int, int]:
    """Tasks left, files left, bytes grown over the last of three rounds."""

    async def main() -> tuple[int, int]:
        async with scillm.Router(settings={}) as router:
            await ask_many(router, server, count)
            gc.collect()
            tracemalloc.start()
            try:
                await ask_many(router, server, count)
                gc.collect()
                before, _ = tracemalloc.get_traced_memory()
                await ask_many(router, server, count)
                gc.collect()
                grown = tracemalloc.get_traced_memory()[0] - before
            finally:
                tracemalloc.stop()
        return len(anyio.get_running_tasks()) - 1, grown

    files = looked_at(os.getpid())[0]
    tasks, grown = anyio.run(main)
    server.wait_until_left()
    return tasks, looked_at(os.getpid())[0] - files, grown


@pytest.mark.parametrize("count", [200, pytest.param(4000, marks=pytest.mark.deep)])
def test_chaos_leaves_nothing_behind(count: int, caplog: pytest.LogCaptureFixture) -> None:
    """After three rounds of calls among every kind of fault the Router is closed: no task runs, no
    file or socket is open, and the third round has left no memory behind."""
    caplog.set_level(logging.ERROR)  # pytest keeps every line that is logged
    with chaos_server(seed=7, period_s=30.0) as server:
        server.counts()
        tasks, files, grown = measured(server, count)
        kinds = server.counts()

    assert (tasks, files) == (0, 0)
    assert grown <= SPARE_BYTES + FLAT_BYTES * count
    assert kinds["stalled"] > 0
    assert kinds["reset"] > 0


def test_ever_new_targets_fill_no_memory() -> None:
    """A program that names a new model in every call is remembered for the last ones only."""
    question = [{"role": "user", "content": "hi"}]

    async def main() -> tuple[list[str], int]:
        async with scillm.Router(settings={}) as router:

            async def ask(numbers: range) -> list[str]:
                names = [f"m{number}" for number in numbers]
                answers = [await router.acompletion(f"echo/{name}", question) for name in names]
                return [answer.model for answer in answers]

            # Rules and places of models are kept up to bounds, of which the larger is 10,000.
            await ask(range(11_000))
            gc.collect()
            tracemalloc.start()
            try:
                seen = await ask(range(11_000, 14_000))
                gc.collect()
                return seen, tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()

    seen, grown = anyio.run(main)
    assert seen == [f"m{number}" for number in range(11_000, 14_000)]
    assert grown <= 1_500_000
