"""The simulated day of docs/chutes/simulation.md can be played again, and we come out ahead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def played(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "chutes.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_day_of_the_docs_is_won() -> None:
    """More answers and fewer calls in vain than one model, round robin and the official formula."""
    table = played()
    page = (ROOT / "docs" / "chutes" / "simulation.md").read_text("utf-8")

    assert table.endswith("ahead of all in answers and waste: yes\n")
    assert all(line in page for line in table.splitlines()[:-1])


def test_a_seed_gives_the_same_day_again(tmp_path: Path) -> None:
    """Table and drawing are the same bytes whenever a seed is played."""
    arguments = ("--calls", "3000", "--seed", "3", "--svg")
    first = played(*arguments, str(tmp_path / "a.svg"))
    second = played(*arguments, str(tmp_path / "b.svg"))

    assert first == second
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
