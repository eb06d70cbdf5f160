"""The simulated days of docs/chutes/simulation.md play again, and nobody beats us there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "chutes" / "simulation.md"


def played(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "chutes.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_rough_day_of_the_docs_is_won() -> None:
    """More answers and fewer calls in vain than every other policy, with the page's numbers."""
    table = played("--worlds", "rough")
    page = PAGE.read_text("utf-8")

    assert "seed 7: ahead of all in answers and waste\n" in table
    assert table.endswith("better in answers or waste than ours: nobody\n")
    assert all(line in page for line in table.splitlines()[1:-2])


def test_the_mild_world_is_a_tie_on_answers() -> None:
    """Where everything can be answered, round robin answers everything too, at more waste."""
    table = played("--worlds", "mild", "--calls", "5000")

    assert "seed 7: answers tie with round robin; answers tie with round robin + pace\n" in table
    assert table.endswith("better in answers or waste than ours: nobody\n")


def test_a_seed_gives_the_same_day_again(tmp_path: Path) -> None:
    """Tables and drawing are the same bytes whenever seeds are played."""
    arguments = ("--calls", "2000", "--seeds", "3,4", "--worlds", "rough", "--svg")
    first = played(*arguments, str(tmp_path / "a.svg"))
    second = played(*arguments, str(tmp_path / "b.svg"))

    assert first == second
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
