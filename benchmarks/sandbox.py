"""What one isolated run costs: CodeWorld's levels beside bubblewrap and a plain Python process.

    python benchmarks/sandbox.py [--runs 200]

Every way does the same work: load a program with one function, call it with one JSON value, take
one JSON value back. The ways take turns, so that a slow spell of the machine falls on all.
`bwrap` is Debian's package bubblewrap; where it is not on the PATH its rows say so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import anyio
from scillm.errors import SandboxError
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox

PROGRAM = "def solve(x):\n    return x + 1\n"
LIMITS = Limits(time_s=10.0, memory_mb=256)
WIDTH = 4
PYTHON = (
    shutil.which("python3", path="/usr/bin:/bin") or sys.executable,
    "-I",
    "-S",
    "-c",
    """
import json, sys
names, asked = {}, json.loads(sys.stdin.readline())
exec(asked["code"], names)
print(json.dumps(names["solve"](asked["value"])))
""",
)
BWRAP = ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--die-with-parent")

Way = Callable[[int], Awaitable[int]]


def process(*before: str) -> Way:
    """A fresh process for each run, behind a command."""

    async def run(value: int) -> int:
        done = await anyio.run_process(
            [*before, *PYTHON], input=json.dumps({"code": PROGRAM, "value": value}).encode() + b"\n"
        )
        return int(done.stdout)

    return run


async def levels(stack: AsyncExitStack) -> dict[str, Way]:
    """A way for each level this host gives."""
    found: dict[str, Way] = {}
    for level in ("L3", "L4", "L2", "L1"):
        try:
            sandbox = await stack.enter_async_context(open_sandbox(require=level, prefer=level))
        except SandboxError as error:
            print(f"{level}: not run: {error}")
            continue

        async def run(value: int, sandbox=sandbox) -> int:
            done = await sandbox.run(Program(code=PROGRAM), value, LIMITS)
            assert done.status == "ok", done
            return int(done.output)

        found[level] = run
    return found


async def one_by_one(ways: dict[str, Way], runs: int) -> dict[str, list[float]]:
    """Milliseconds of each run, the ways taking turns."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(runs):
        for name, way in ways.items():
            started = time.perf_counter()
            answer = await way(number)
            took[name].append((time.perf_counter() - started) * 1e3)
            assert answer == number + 1
    return took


async def several(way: Way, runs: int) -> float:
    """Runs per second with WIDTH at a time."""
    numbers = iter(range(runs))

    async def worker() -> None:
        for number in numbers:
            assert await way(number) == number + 1

    started = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(WIDTH):
            group.start_soon(worker)
    return runs / (time.perf_counter() - started)


async def main(runs: int) -> None:
    async with AsyncExitStack() as stack:
        ways = await levels(stack)
        ways["python -I -S"] = process()
        if shutil.which("bwrap"):
            ways["bwrap --unshare-all python -I -S"] = process(*BWRAP)
        else:
            print("bwrap: not run: not on the PATH (Debian's package is bubblewrap)")
        await one_by_one(ways, 5)
        took = await one_by_one(ways, runs)
        rates = {name: await several(way, runs * 2) for name, way in ways.items()}
    print(f"{runs} runs each; load {os.getloadavg()[0]:.1f}; {os.cpu_count()} processors")
    print(f"{'way':34} {'median ms':>10} {'p95 ms':>8} {'runs/s':>8} {'x L3':>6}")
    base = statistics.median(took["L3"]) if "L3" in took else None
    for name, values in took.items():
        middle = statistics.median(values)
        high = statistics.quantiles(values, n=20)[-1]
        ratio = f"{middle / base:6.2f}" if base else "     -"
        print(f"{name:34} {middle:10.2f} {high:8.2f} {rates[name]:8.0f} {ratio}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="runs of each way")
    anyio.run(main, parser.parse_args().runs)
