"""A thousand checks: memory stays where it was, and nobody computes when nothing is asked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from scillm_certainly.pool.pool import Pool, Size
from scillm_certainly.records import CheckRequest

if TYPE_CHECKING:
    from scillm_certainly.backends.records import Backend

pytestmark = [pytest.mark.deep, pytest.mark.anyio]
CHECKS, WARM = 1_000, 200
GROWTH_MB = 60
"""A REPL that keeps environments grows by hundreds."""
IDLE_S = 5.0
IDLE_SHARE = 0.02


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def cpu_s(pid: int) -> float:
    """Seconds of computing by a process and its children so far; 100 ticks are a second."""
    pids = [pid, *(int(row) for row in children(pid))]
    fields = [Path(f"/proc/{row}/stat").read_text().rsplit(")", 1)[1].split() for row in pids]
    return sum(int(row[11]) + int(row[12]) for row in fields) / 100


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_a_thousand_checks_cost_no_memory_and_idleness_no_work(embedded: Backend) -> None:
    """Memory after 1,000 different checks is that before them; idle cores are idle."""
    async with Pool(embedded, Size(spare=False)) as pool:

        async def many(first: int, count: int) -> list[str]:
            found: list[str] = []
            for number in range(first, first + count):
                code = f"theorem t (n : Nat) : n + {number} = n + {number} + 0 := by simp"
                found.append((await pool.check(CheckRequest(code=code))).status)
            return found

        await many(0, WARM)
        before = pool.stats()["rss_mb"]
        statuses = await many(WARM, CHECKS)
        after = pool.stats()["rss_mb"]
        # The only way to their process numbers: one that reads and one that judges.
        pids = [worker.process.pid for worker in (*pool._idle, *pool._judges)]
        began = sum(map(cpu_s, pids))
        started = time.monotonic()
        await anyio.sleep(IDLE_S)
        busy = (sum(map(cpu_s, pids)) - began) / (time.monotonic() - started)

    assert statuses == ["proved"] * CHECKS
    assert len(pids) == 2
    assert after - before < GROWTH_MB
    assert busy < IDLE_SHARE
