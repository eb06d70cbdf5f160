"""The benchmarks run and print what their README says."""

from __future__ import annotations

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
    "scillm.acompletion",
    "scillm.Router",
    "scillm.Router, aiohttp",
}
SYNC = {"raw httpx.Client", "openai (sync)", "scillm.completion (sync)"}
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
]


@pytest.fixture(scope="module")
def tables() -> list[list[list[str]]]:
    """The cells of every table of one quick run."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(BENCHMARKS / "run.py"), "--quick"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    blocks = [part for part in done.stdout.split("\n\n") if part.startswith("|")]
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        for block in blocks
    ]


def test_every_table_has_its_rows(tables: list[list[list[str]]]) -> None:
    """A run compares every client in every table, each once."""
    assert [table[0][0] for table in tables] == [title for title, _ in ROWS]
    for table, (_, rows) in zip(tables, ROWS, strict=True):
        assert sorted(line[0] for line in table[2:]) == sorted(rows)
        assert {len(line) for line in table} == {len(table[0])}


def test_every_number_is_positive(tables: list[list[list[str]]]) -> None:
    """Nothing is printed that was not measured; only a bare import has no first answer."""
    for table in tables:
        for name, *cells in table[2:]:
            for cell in cells:
                if name == "import scillm" and cell == "-":
                    continue
                number = re.match(r"[\d,.]+", cell)
                assert number, (name, cell)
                assert float(number[0].replace(",", "")) > 0, (name, cell)


def test_the_yardsticks_are_one(tables: list[list[list[str]]]) -> None:
    """Ratios are to the raw clients of the same run."""
    for table in tables:
        ratios = {line[0]: line[-2:] for line in table[2:]}

        assert ratios["raw httpx"][0] == "1.00"
        assert ratios["raw aiohttp"][1] == "1.00"
