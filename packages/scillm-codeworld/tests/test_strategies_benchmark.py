"""The comparison with other searches runs, and says which of them it did not run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "search.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", "--no-peers", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_benchmark_prints_every_search_and_draws_what_it_ran(tmp_path):
    """Peers that were left out stand in the table with the reason, and not in the plot."""
    plot = tmp_path / "search.svg"
    done = run("--plot", str(plot))

    assert done.returncode == 0, done.stderr
    for name in ("uniform", "mcts", "mcts, untuned", "ab", "evolve"):
        assert done.stdout.count(f"| {name} | 0.") == 2
    for name in ("treequest-ab", "treequest-mcts", "openevolve"):
        assert done.stdout.count(f"| {name} | not run: left out by --no-peers") == 2
    assert plot.read_text("utf-8").count("<polyline") == 2 * 5


def test_a_plot_that_is_no_svg_is_refused(tmp_path):
    """The name says what is drawn."""
    done = run("--plot", str(tmp_path / "search.png"))

    assert done.returncode == 2
    assert "ends in .svg" in done.stderr
