"""Memory of one client over many calls, in a process of its own: python memory.py BASE NAME CALLS

Prints resident KiB after the first tenth of the calls and after all of them.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path

from attrs import frozen
from peers import ASYNC
from server import TEXT

WIDTH = 16


@frozen(kw_only=True)
class Growth:
    """Resident memory, KiB."""

    early_kib: int
    late_kib: int
    calls: int
    """Between the two looks."""

    @property
    def per_thousand_kib(self) -> float:
        """KiB that a thousand calls have left behind."""
        return (self.late_kib - self.early_kib) * 1000 / self.calls


def growth(base: str, name: str, calls: int) -> Growth:
    """Measure a client in a new process."""
    command = [sys.executable, str(Path(__file__)), base, name, str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    early, late = map(int, done.stdout.split())
    return Growth(early_kib=early, late_kib=late, calls=calls - calls // 10)


def resident_kib() -> int:
    """What this process holds now."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def main(base: str, name: str, calls: int) -> None:
    """Make the calls, look twice."""
    async with ASYNC[name](base) as (ask, _):

        async def burst(count: int) -> None:
            left = iter(range(count))

            async def work() -> None:
                for _ in left:
                    if await ask() != TEXT:
                        raise SystemExit(f"{name} gave a wrong answer.")

            await asyncio.gather(*(work() for _ in range(WIDTH)))

        await burst(calls // 10)
        early = resident_kib()
        await burst(calls - calls // 10)
        print(early, resident_kib())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
