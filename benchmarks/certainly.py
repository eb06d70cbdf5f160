"""Measure Certainly with the embedded Lean: python benchmarks/certainly.py [--checks N]

Prints markdown tables. Needs `scillm certainly install`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from scillm.plugins.settings import load
from scillm_certainly import CheckRequest, Pool, Size
from scillm_certainly.backends.choose import choose
from scillm_certainly.settings import SETTINGS

if TYPE_CHECKING:
    from scillm_certainly.backends.records import Backend

TACTICS = {
    "simp": "theorem t (n : Nat) : 0 + n = n := by simp",
    "decide": "theorem t : 17 * 19 = 323 := by decide",
    "grind": "theorem t (a b c : Nat) (h : a = b) (g : b = c) : a = c := by grind",
    "omega": "theorem t (a b : Nat) (h : a < b) : a + 1 ≤ b := by omega",
    "induction": "theorem t (n : Nat) : n + 0 = n := by\n  induction n with\n"
    "  | zero => rfl\n  | succ n ih => rfl",
    "false, simp": "theorem t (n : Nat) : n + 1 = n := by simp",
    "parse error": "theorem t : := by",
}
PROGRAM = 'macro "finish" : tactic => `(tactic| rfl)\ntheorem t : 1 = 1 := by finish'
"""It uses up the Lean that reads it."""
REPEATS = 15
GROWN = 100
WARM_UP = 250
"""Checks per worker before its throughput is measured: V8 compiles what is hot on threads of its
own, and after so many checks that work has become a twentieth of the whole."""
TIMED = 100
SPIN = "for _ in range(30_000_000): pass"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def two_theorems(number: int) -> str:
    return (
        f"theorem t (a b : Nat) (h : a < b) : a + {number} < b + {number} := by omega\n"
        f"theorem u (n : Nat) : 0 + n = n := by simp -- {number}"
    )


async def per_second(pool: Pool, first: int, count: int) -> float:
    started = time.monotonic()
    async with anyio.create_task_group() as group:
        for number in range(first, first + count):
            group.start_soon(pool.check, CheckRequest(code=two_theorems(number)))
    return count / (time.monotonic() - started)


def lean_cpu_s(parent: int | None = None) -> float:
    """Processor seconds of every live process that this one started, and of those they started."""
    pid = os.getpid() if parent is None else parent
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            fields = Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1]
            user, system = fields.split()[11:13]
            total += (int(user) + int(system)) / TICKS_PER_S + lean_cpu_s(int(child))
    return total


async def throughput(backend: Backend, workers: int) -> float:
    """Checks per second by so many workers, each as warm as the other; prints them and the cost.

    A worker reads, and a judge goes with every two of them; one check at a time uses one core.
    """
    queue = 2 * WARM_UP + TIMED
    async with Pool(backend, Size(workers=workers, spare=False, queue=queue)) as pool:
        await per_second(pool, -WARM_UP * workers, WARM_UP * workers)
        count = TIMED * workers
        cpu_s, started = lean_cpu_s(), time.monotonic()
        rate = await per_second(pool, 0, count)
        cpu_s, wall_s = lean_cpu_s() - cpu_s, time.monotonic() - started
    cost = f"{1000 * cpu_s / count:.0f} ms of processor each, {cpu_s / wall_s:.2f} cores busy"
    print(f"| warm throughput, workers: {workers} | {rate:.1f} /s, {cost} |")
    return rate


def ceiling() -> float:
    """How much more two processes that only count do here than one: what the machine allows."""
    taken = []
    for count in (1, 2):
        started = time.monotonic()
        spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
        assert [process.wait() for process in spinning] == [0] * count
        taken.append(time.monotonic() - started)
    return 2 * taken[0] / taken[1]


async def grown(backend: Backend) -> None:
    """A REPL session whose every command builds on all before it, beside checks on their own."""
    async with Pool(backend, Size(workers=1, spare=False)) as pool:
        await pool.check(CheckRequest(code=two_theorems(-1)))
        text, taken = "", []
        before = pool.stats()["rss_mb"]
        for number in range(GROWN):
            text += f"theorem t{number} (n : Nat) : n + {number} = n + {number} + 0 := by simp\n"
            taken.append((await pool.check(CheckRequest(code=text))).wall_s * 1000)
        after = pool.stats()["rss_mb"]
    print(f"| command {GROWN} of one REPL session, its text grown | {taken[-1]:.0f} ms |")
    print(f"| the first ones of it, median of 10 | {statistics.median(taken[:10]):.0f} ms |")
    print(f"| memory before and after the session | {before} → {after} MB |")


async def measure(checks: int) -> None:
    backend = choose({**load(more=SETTINGS), "certainly_backend": "wasm"})
    print(f"\n{backend.command[0]}, load {os.getloadavg()[0]:.1f}\n")
    print("| one worker | |\n|---|---:|")
    async with Pool(backend, Size(workers=1, spare=False, queue=max(checks, WARM_UP))) as pool:
        started = time.monotonic()
        await pool.warm_up()
        print(f"| start until ready | {time.monotonic() - started:.1f} s |")
        for name, code in TACTICS.items():
            taken, judged = [], []
            for number in range(REPEATS):
                verdict = await pool.check(CheckRequest(code=f"{code}\n-- {number}"))
                taken.append(verdict.wall_s * 1000)
                judged.append(sum(verdict.us.get(step, 0) for step in ("judge", "replay")) / 1000)
            median, judge = statistics.median(taken[1:]), statistics.median(judged[1:])
            print(f"| warm, {name}, median | {median:.0f} ms, {judge:.0f} of it judged |")
        await pool.check(CheckRequest(code=PROGRAM))
        started = time.monotonic()
        await pool.check(CheckRequest(code=f"{TACTICS['simp']}\n-- after a program"))
        print(
            f"| simp, after a file with a program, no spare | {time.monotonic() - started:.1f} s |"
        )
        await per_second(pool, 2000, WARM_UP)
        before = pool.stats()["rss_mb"]
        await per_second(pool, 1000, checks)
        after = pool.stats()["rss_mb"]
        print(f"| memory before and after {checks} more | {before} → {after} MB |")
    one, two = await throughput(backend, 1), await throughput(backend, 2)
    print(f"| two workers are | {two / one:.2f} x one; two counting processes {ceiling():.2f} x |")
    await grown(backend)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file.lean"
        file.write_text(two_theorems(0), encoding="utf-8")
        environment = {**backend.environment, "CERTAINLY_DRIVER": str(file)}
        words = [*backend.command[:-1], "--json", backend.command[-1]]
        taken = []
        for _ in range(3):
            started = time.monotonic()
            done = await anyio.run_process(
                words, env=environment, stderr=subprocess.DEVNULL, check=False
            )
            assert done.returncode == 0
            taken.append(time.monotonic() - started)
    alone = statistics.median(taken)
    print(f"| a process per file | {1 / alone:.2f} /s: one warm worker is {one * alone:.0f} x |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=200, help="checks for the memory row")
    anyio.run(measure, parser.parse_args().checks)
