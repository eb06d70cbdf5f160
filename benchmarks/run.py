"""Measure SciLLM next to raw HTTP clients and the openai client: python benchmarks/run.py

Prints markdown tables; see README.md for how to read them.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import measures
from attrs import frozen
from peers import AIOHTTP, ASYNC, FLOOR, HTTPX, SYNC, floor


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


FULL = Plan(rounds=5, imports=7, sequence=500, many={64: 1000, 256: 1000}, chunks=5000, firsts=50)
QUICK = Plan(rounds=1, imports=1, sequence=10, many={8: 24}, chunks=40, firsts=3)
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


def medians(rounds: measures.Rounds) -> dict[str, float]:
    """The middle of every client's rounds."""
    return {name: statistics.median(values) for name, values in rounds.items()}


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
    return with_ratios(
        "in sequence, p50 per call", medians({**rounds, **now}), milliseconds, [HTTPX, AIOHTTP]
    )


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
    return with_ratios(title, medians(rounds), per_second, [HTTPX, AIOHTTP])


def stream_tables(base: str, plan: Plan) -> Iterator[str]:
    """Time per chunk, and until the first one."""
    rounds = measures.in_turn(
        ASYNC, plan.rounds, lambda name: measures.per_chunk(base, ASYNC[name], plan.chunks)
    )
    title = f"streaming {plan.chunks:,} chunks, per chunk"
    yield with_ratios(title, medians(rounds), microseconds, [HTTPX, AIOHTTP])
    firsts = measures.in_turn(
        ASYNC, plan.rounds, lambda name: measures.first_token(base, ASYNC[name], plan.firsts)
    )
    title = "streaming, time to first token"
    yield with_ratios(title, medians(firsts), microseconds, [HTTPX, AIOHTTP])


def tables(base: str, plan: Plan) -> Iterator[str]:
    """Every table, as soon as it is measured."""
    yield import_table(base, plan)
    yield sequence_table(base, plan)
    for concurrency in plan.many:
        yield many_table(base, plan, concurrency)
    yield from stream_tables(base, plan)


def setting() -> str:
    """What the numbers were measured with."""
    names = ("scillm-core", "httpx", "aiohttp", "openai")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"Python {platform.python_version()}, {platform.system()}, {versions}"


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny counts: see that it works")
    plan = QUICK if parser.parse_args().quick else FULL
    print(f"{setting()}; medians of {plan.rounds} rounds.", flush=True)
    # What was imported so far is nobody's garbage; scanning it would be charged to whoever runs.
    gc.collect()
    gc.freeze()
    with server() as base:
        for text in tables(base, plan):
            print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main()
