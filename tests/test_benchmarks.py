"""The benchmarks run and print what their README says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CLIENTS = {
    "raw httpx",
    "raw aiohttp",
    "openai",
    "litellm.Router",
    "scillm.acompletion",
    "scillm.Router",
    "scillm.Router, aiohttp",
}
SYNC = {"raw httpx.Client", "openai (sync)", "scillm.completion (sync)"}
RETRYING = {"openai", "litellm.Router", "scillm.Router", "scillm.Router, aiohttp"}
STRATEGIES = {
    "scillm, simple-shuffle",
    "scillm, least-busy",
    "scillm, latency-based-routing",
    "scillm, usage-based-routing",
    "scillm, cost-based-routing",
    "litellm.Router, simple-shuffle",
}
IMPORTS = {
    "import scillm",
    "from scillm import completion, Router",
    "raw httpx",
    "raw aiohttp",
    "openai",
}
ROWS = [
    ("import", IMPORTS),
    ("in sequence, p50 per call", CLIENTS | SYNC),
    ("24 calls, 8 at once", CLIENTS | {"asyncio floor (bytes only)"}),
    ("streaming 40 chunks, per chunk", CLIENTS),
    ("streaming, time to first token", CLIENTS),
    ("choosing a deployment", STRATEGIES),
    ("memory over 100 calls", CLIENTS),
    ("24 calls, 8 at once; 30% refused at random, Retry-After 0.1 s", RETRYING),
    ("24 calls, 8 at once; the server's bucket: 200/s, burst 20", RETRYING),
]
ABSENT = {
    row
    for row in CLIENTS | SYNC | STRATEGIES
    for package in ("openai", "litellm")
    if row.startswith(package) and importlib.util.find_spec(package) is None
}


@pytest.fixture(scope="module")
def printed() -> str:
    """What one quick run prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(BENCHMARKS / "run.py"), "--quick"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tables(printed: str) -> list[list[list[str]]]:
    """The cells of every table."""
    blocks = [part for part in printed.split("\n\n") if part.startswith("|")]
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        for block in blocks
    ]


def test_every_table_has_its_rows(printed: str, tables: list[list[list[str]]]) -> None:
    """A run compares every client in every table, each once; who is not installed is named."""
    assert [table[0][0] for table in tables] == [title for title, _ in ROWS]
    for table, (_, rows) in zip(tables, ROWS, strict=True):
        assert sorted(line[0] for line in table[2:]) == sorted(rows - ABSENT)
        assert {len(line) for line in table} == {len(table[0])}
    for name in ABSENT & (CLIENTS | SYNC):
        assert f"{name}: not run: " in printed


def test_every_number_was_measured(tables: list[list[list[str]]]) -> None:
    """Nothing is printed that was not measured; only a bare import has no first answer."""
    for table in tables:
        counts = "refused" in table[0]
        for name, *cells in table[2:]:
            for cell in cells:
                if name == "import scillm" and cell == "-":
                    continue
                number = re.match(r"-?[\d,.]+", cell)
                assert number, (name, cell)
                may_be_nothing = counts or "memory" in table[0][0]
                assert may_be_nothing or float(number[0].replace(",", "")) > 0, (name, cell)


def test_nobody_loses_a_call_to_a_429(tables: list[list[list[str]]]) -> None:
    """SciLLM answers every call of the 429 scenarios, and each refusal costs one request."""
    for table in (one for one in tables if one[0][-1] == "lost"):
        for name, _, per_answer, refused, lost in table[2:]:
            if name.startswith("scillm"):
                assert lost == "0"
                assert float(per_answer) == pytest.approx((24 + int(refused)) / 24, abs=0.01)


def test_the_yardsticks_are_one(tables: list[list[list[str]]]) -> None:
    """Ratios are to the raw clients of the same run."""
    for table in (one for one in tables if one[0][-1].endswith("raw aiohttp")):
        ratios = {line[0]: line[-2:] for line in table[2:]}

        assert ratios["raw httpx"][0] == "1.00"
        assert ratios["raw aiohttp"][1] == "1.00"
