"""Measure SciLLM next to raw HTTP clients, openai and litellm: python benchmarks/run.py

Prints markdown tables; see README.md for how to read them.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import choosing
import measures
import memory
import refusals
from attrs import frozen
from peers import AIOHTTP, ASYNC, FLOOR, HTTPX, MISSING, SYNC, floor

Measured = TypeVar("Measured")


@frozen(kw_only=True)
class Plan:
    """How much is measured."""

    rounds: int
    imports: int
    sequence: int
    many: Mapping[int, int]
    """Calls by concurrency."""
    chunks: int
    firsts: int
    """Streams whose time to the first token is taken."""
    deployments: int
    choices: int
    memory: int
    """Calls over which memory is looked at."""
    refused: tuple[int, int]
    """Calls of a 429 scenario, and how many at once."""


FULL = Plan(
    rounds=5,
    imports=7,
    sequence=500,
    many={64: 1000, 256: 1000},
    chunks=5000,
    firsts=50,
    deployments=1000,
    choices=2000,
    memory=20_000,
    refused=(600, 64),
)
QUICK = Plan(
    rounds=1,
    imports=1,
    sequence=10,
    many={8: 24},
    chunks=40,
    firsts=3,
    deployments=20,
    choices=20,
    memory=100,
    refused=(24, 8),
)
STOP_S = 10


@contextmanager
def server() -> Iterator[str]:
    """The canned server in its own process; its base URL."""
    command = [sys.executable, str(Path(__file__).with_name("server.py"))]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
    finally:
        child.stdin.close()
        child.wait(STOP_S)
        child.stdout.close()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; every column but the first is aligned right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_ratios(
    title: str, medians: Mapping[str, float], shown: Callable[[float], str], bases: Sequence[str]
) -> str:
    """One row per client, with its ratio to each of `bases`."""
    rows = [
        [name, shown(value), *(f"{value / medians[base]:.2f}" for base in bases)]
        for name, value in medians.items()
    ]
    return table([title, "median", *(f"÷ {base}" for base in bases)], rows)


def speed_table(
    title: str,
    rounds: measures.Rounds[measures.Speed],
    *,
    by: Callable[[measures.Speed], float],
) -> str:
    """One row per client; the ratios to the yardsticks are of what `by` says."""
    main = medians(rounds, by)
    rate = medians(rounds, lambda one: one.per_s)
    half = medians(rounds, lambda one: one.p50_s)
    tail = medians(rounds, lambda one: one.p99_s)
    rows = [
        [
            name,
            per_second(rate[name]),
            milliseconds(half[name]),
            milliseconds(tail[name]),
            *(f"{value / main[base]:.2f}" for base in (HTTPX, AIOHTTP)),
        ]
        for name, value in main.items()
    ]
    return table([title, "calls", "p50", "p99", f"÷ {HTTPX}", f"÷ {AIOHTTP}"], rows)


def medians(rounds: measures.Rounds[Measured], of: Callable[[Measured], float]) -> dict[str, float]:
    """The middle of every client's rounds."""
    return {name: statistics.median(map(of, values)) for name, values in rounds.items()}


def milliseconds(seconds: float) -> str:
    """Two decimals."""
    return f"{seconds * 1e3:.2f} ms"


def microseconds(seconds: float) -> str:
    """One decimal."""
    return f"{seconds * 1e6:.1f} µs"


def per_second(rate: float) -> str:
    """Whole calls."""
    return f"{rate:,.0f}/s"


# -- the tables --------------------------------------------------------------------------------


def import_table(base: str, plan: Plan) -> str:
    """What an import and a first answer cost in a new process."""
    costs = measures.import_costs(base, plan.imports)
    raw = {HTTPX: costs[HTTPX], AIOHTTP: costs[AIOHTTP]}
    rows = []
    for name, cost in costs.items():
        first = cost.first_answer_s
        ratios = [
            f"{first / one.first_answer_s:.2f}" if first and one.first_answer_s else "-"
            for one in raw.values()
        ]
        shown = milliseconds(first) if first else "-"
        rows.append([name, milliseconds(cost.import_s), shown, *ratios])
    return table(
        ["import", "import", "first answer", f"first ÷ {HTTPX}", f"first ÷ {AIOHTTP}"], rows
    )


def sequence_table(base: str, plan: Plan) -> str:
    """Time per call, one after the other."""
    rounds = measures.in_turn(
        ASYNC, plan.rounds, lambda name: measures.in_sequence(base, ASYNC[name], plan.sequence)
    )
    now = measures.in_turn(
        SYNC, plan.rounds, lambda name: measures.in_sequence_now(base, SYNC[name], plan.sequence)
    )
    return speed_table("in sequence, p50 per call", {**rounds, **now}, by=lambda one: one.p50_s)


def many_table(base: str, plan: Plan, concurrency: int) -> str:
    """Calls per second with many in flight."""
    openers = {**ASYNC, FLOOR: floor}
    calls = plan.many[concurrency]
    rounds = measures.in_turn(
        openers,
        plan.rounds,
        lambda name: measures.at_once(base, openers[name], calls, concurrency),
    )
    title = f"{calls:,} calls, {concurrency} at once"
    return speed_table(title, rounds, by=lambda one: one.per_s)


def stream_tables(base: str, plan: Plan) -> Iterator[str]:
    """Time per chunk, and until the first one."""
    rounds = measures.in_turn(
        ASYNC, plan.rounds, lambda name: measures.per_chunk(base, ASYNC[name], plan.chunks)
    )
    title = f"streaming {plan.chunks:,} chunks, per chunk"
    yield with_ratios(title, medians(rounds, float), microseconds, [HTTPX, AIOHTTP])
    firsts = measures.in_turn(
        ASYNC, plan.rounds, lambda name: measures.first_token(base, ASYNC[name], plan.firsts)
    )
    title = "streaming, time to first token"
    yield with_ratios(title, medians(firsts, float), microseconds, [HTTPX, AIOHTTP])


def choosing_table(plan: Plan) -> str:
    """Time of one choice among many deployments, and among one."""
    many, one = choosing.choosers(plan.deployments), choosing.choosers(1)
    rows = [
        [
            name,
            microseconds(choosing.seconds(one[name], plan.choices)),
            microseconds(choosing.seconds(choose, plan.choices)),
        ]
        for name, choose in many.items()
    ]
    return table(["choosing a deployment", "among 1", f"among {plan.deployments:,}"], rows)


def memory_table(base: str, plan: Plan) -> str:
    """What calls leave behind."""
    rows = []
    for name in ASYNC:
        grown = memory.growth(base, name, plan.memory)
        rows.append([name, f"{grown.per_thousand_kib:.1f} KiB", f"{grown.late_kib / 1024:.0f} MiB"])
    title = f"memory over {plan.memory:,} calls"
    return table([title, "per 1,000 calls", "resident at the end"], rows)


def refusal_table(base: str, plan: Plan, scene: str) -> str:
    """Time and requests until every call is answered."""
    calls, concurrency = plan.refused
    root = base.removesuffix("/v1")
    rows = []
    for name in refusals.CLIENTS:
        end = refusals.finish(root, scene, name, calls, concurrency)
        per_answer = end.requests / max(1, calls - end.lost)
        cells = [f"{end.took_s:.2f} s", f"{per_answer:.2f}", f"{end.refused}", f"{end.lost}"]
        rows.append([name, *cells])
    title = f"{calls} calls, {concurrency} at once; {refusals.SCENES[scene]}"
    return table([title, "time", "requests per answer", "refused", "lost"], rows)


def tables(base: str, plan: Plan) -> Iterator[str]:
    """Every table, as soon as it is measured."""
    yield import_table(base, plan)
    yield sequence_table(base, plan)
    for concurrency in plan.many:
        yield many_table(base, plan, concurrency)
    yield from stream_tables(base, plan)
    yield choosing_table(plan)
    yield memory_table(base, plan)
    for scene in refusals.SCENES:
        yield refusal_table(base, plan, scene)


def setting() -> str:
    """What the numbers were measured with."""
    found = []
    for name in ("scillm-core", "httpx", "aiohttp", "openai", "litellm"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    versions = ", ".join(found)
    return f"Python {platform.python_version()}, {platform.system()}, {versions}"


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny counts: see that it works")
    plan = QUICK if parser.parse_args().quick else FULL
    print(f"{setting()}; medians of {plan.rounds} rounds.", flush=True)
    print(f"Load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs.")
    for name, reason in MISSING.items():
        print(f"{name}: not run: {reason}.", flush=True)
    with server() as base:
        for text in tables(base, plan):
            print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main()
