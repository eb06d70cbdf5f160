"""CodeWorld's searches beside OpenEvolve and TreeQuest: the same evaluator, start, seeds, budget.

    python benchmarks/search.py                      # some minutes; builds two virtual environments
    python benchmarks/search.py --quick --no-peers   # seconds; its numbers mean little
    python benchmarks/search.py --plot search.svg    # and draws score over evaluations

The peers come from PyPI (`openevolve`, `treequest`) into throw-away environments: by hand

    python -m venv VENVS/treequest && VENVS/treequest/bin/pip install treequest
    python -m venv VENVS/openevolve && VENVS/openevolve/bin/pip install openevolve

and then `--venvs VENVS` uses them. The generator is scripted and blind: it changes one or two
numbers of a program, as a function of the seed and the number of the trial. OpenEvolve gets it from
a chat server on loopback, with whole rewrites and one evaluation at a time. So the table compares
searches, not models, and says nothing about how they do with a model that understands feedback.

Read it with three reservations. The defaults of our `mcts` with a generator were chosen among 72
settings on K-module with such a generator (docs/adr/0012-search.md), so its K-module row is a fit;
the row `mcts, untuned` has the settings from before that sweep. The peers have their defaults, and
nothing was tuned on bin packing. Our `evolve` is told a feature (the sum of the numbers);
OpenEvolve uses its own. Scores of K-module come in steps of 0.25, so equal means are no sign of
equal runs: look at the standard errors after ±.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import anyio
from scillm.plugins.registry import Registry
from scillm.records import Outcome
from scillm.search import search
from search_problems import PROBLEMS, choices_of, luck

if TYPE_CHECKING:
    from scillm.records import Trial

HERE = Path(__file__).parent
UNTUNED = {"uct_c": 0.35, "backup": "mean", "widen_k": 1.0, "widen_alpha": 0.5}
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform": ("uniform", {}),
    "mcts": ("mcts", {}),
    "mcts, untuned": ("mcts", UNTUNED),
    "ab": ("ab", {}),
    "evolve": ("evolve", {}),
}
PEERS = {"treequest-ab": "treequest", "treequest-mcts": "treequest", "openevolve": "openevolve"}
MARKS = (10, 25, 50, 100)
TIMEOUT_S = 600.0
COLOURS = ("#888888", "#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#ff7f0e", "#17becf")


class NotRunError(Exception):
    """A peer could not be run, and why."""


def our_scores(name: str, problem: Any, seed: int) -> list[float]:
    """One search; the scores of its evaluations in order."""
    code_of = {"start": problem.first()}
    plugin, parameters = OURS[name]
    strategy: Any = Registry().get("scillm.strategies", plugin)
    scores: list[float] = []

    async def evaluate(trial: Trial) -> Outcome:
        code = code_of.get(trial.arm)
        if code is None:
            parent = None if trial.parent is None else code_of[trial.parent]
            code = problem.rewrite(parent, luck(seed, trial.number))
            code_of[code] = code
        scores.append(problem.score(code))
        return Outcome(
            score=scores[-1],
            arm=code if trial.new else None,
            features={"sum": float(sum(choices_of(code)))},
        )

    async def main() -> None:
        await search(
            strategy(["start"], seed=seed, rollouts=problem.budget, generate=True, **parameters),
            evaluate,
        )

    anyio.run(main)
    return scores


def python_of(venvs: Path, package: str) -> Path:
    """The interpreter of a peer's environment, made if it is not there."""
    home = venvs / package
    python = home / "bin" / "python"
    if python.exists():
        return python
    if package == "treequest" and sys.version_info < (3, 11):
        raise NotRunError("treequest needs Python 3.11 or newer")
    print(f"Installing {package} into {home} …", flush=True)
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [str(python), "-m", "pip", "install", "-q", package],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotRunError(
                f"{' '.join(command)} ended with {done.returncode}: {tail(done.stderr)}"
            )
    return python


def peer_scores(python: Path, peer: str, problem: str, seed: int, budget: int) -> list[float]:
    """One run of a peer in its own process."""
    command = [str(python), str(HERE / "search_peer.py"), peer, problem, str(seed), str(budget)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotRunError(f"no end within {TIMEOUT_S:g} s") from error
    if done.returncode:
        raise NotRunError(f"it ended with {done.returncode}: {tail(done.stderr)}")
    return json.loads(done.stdout)


def tail(text: str) -> str:
    """The last line that says something."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "nothing said")


def best_so_far(scores: Sequence[float], budget: int) -> list[float]:
    """The best score after each evaluation; a run that ended early keeps its last."""
    best: list[float] = []
    for score in scores[:budget]:
        best.append(max(score, best[-1]) if best else score)
    return best + best[-1:] * (budget - len(best))


def spread(values: Sequence[float]) -> str:
    """Mean and standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {error:.4f}"


def row(name: str, problem: Any, runs: Sequence[Sequence[float]]) -> str:
    """One line of the table."""
    curves = [best_so_far(scores, problem.budget) for scores in runs]
    cells = [spread([curve[mark - 1] for curve in curves]) for mark in MARKS]
    if problem.solved is not None:
        counts = [curve.index(problem.solved) + 1 for curve in curves if problem.solved in curve]
        mean = f"{statistics.mean(counts):.1f}" if counts else "-"
        cells += [f"{len(counts)}/{len(curves)}", mean]
    cells.append(str(min(map(len, runs))))
    return f"| {name} | " + " | ".join(cells) + " |"


def measure(kind: str, seeds: int, peers: Callable[[str, str, int, int], list[float]] | None):
    """Scores of every search on one problem: by name, one list for each seed."""
    made = [PROBLEMS[kind](seed) for seed in range(seeds)]
    runs: dict[str, list[list[float]]] = {}
    absent: dict[str, str] = {}
    for name in OURS:
        runs[name] = [our_scores(name, problem, seed) for seed, problem in enumerate(made)]
    for name in PEERS:
        if peers is None:
            absent[name] = "left out by --no-peers"
            continue
        try:
            runs[name] = [peers(name, kind, seed, made[seed].budget) for seed in range(seeds)]
        except NotRunError as reason:
            absent[name] = str(reason)
    return made[0], runs, absent


def table(problem: Any, runs: Any, absent: Any) -> None:
    """Print one problem's table."""
    heads = ["search", *(f"best after {mark}" for mark in MARKS)]
    if problem.solved is not None:
        heads += ["solved", "evaluations until then"]
    heads.append("evaluations made")
    print(f"\n## {problem.name}\n")
    print("| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads))
    for name, scores in runs.items():
        print(row(name, problem, scores))
    for name, reason in absent.items():
        print(f"| {name} | not run: {reason} |" + " |" * (len(heads) - 2))


def bookkeeping(rollouts: int) -> None:
    """Print the seconds of asking and telling alone."""
    print(f"\n## Bookkeeping, {rollouts:,} rollouts\n")
    print("| search | CPU s | wall s |\n| --- | --- | --- |")
    tree = [f"{a}/{b}/{c}" for a in range(5) for b in range(5) for c in range(5)]
    outcome = Outcome(score=0.5)
    cases: list[tuple[str, str, list[str], dict[str, Any]]] = [
        ("ucb, 5 arms", "ucb", list("abcde"), {}),
        ("uniform, 5 arms", "uniform", list("abcde"), {}),
        ("thompson, 5 arms", "thompson", list("abcde"), {}),
        ("mcts, 125 arms 3 deep", "mcts", tree, {"separator": "/"}),
    ]
    for label, name, arms, more in cases:
        make: Any = Registry().get("scillm.strategies", name)
        strategy = make(arms, rollouts=rollouts, cases=None, bounds=(0, 1), **more)
        started, worked = time.perf_counter(), time.process_time()
        while (trial := strategy.ask()) is not None:
            strategy.tell(trial, outcome)
        cpu, wall = time.process_time() - worked, time.perf_counter() - started
        print(f"| {label} | {cpu:.2f} | {wall:.2f} |")


def drawn(panels: Sequence[tuple[Any, dict[str, list[list[float]]]]]) -> str:
    """An SVG: for each problem the mean best score over evaluations."""
    wide, high, left, top = 420, 260, 50, 30
    parts = []
    for column, (problem, runs) in enumerate(panels):
        curves = {
            name: [
                statistics.mean(values)
                for values in zip(
                    *(best_so_far(scores, problem.budget) for scores in lists), strict=True
                )
            ]
            for name, lists in runs.items()
        }
        low = min(min(curve) for curve in curves.values())
        peak = max(max(curve) for curve in curves.values())
        span = (peak - low) or 1.0
        x0 = left + column * (wide + 80)
        parts.append(f'<text x="{x0}" y="18" font-weight="bold">{escape(problem.name)}</text>')
        parts.append(
            f'<rect x="{x0}" y="{top}" width="{wide}" height="{high}" fill="none" stroke="#999"/>'
        )
        parts.extend(
            f'<text x="{x0 - 6}" y="{top + high * (1 - part) + 4:.0f}" text-anchor="end">'
            f"{low + span * part:.3f}</text>"
            for part in (0, 0.5, 1)
        )
        parts.append(
            f'<text x="{x0 + wide}" y="{top + high + 16}" text-anchor="end">'
            f"{problem.budget} evaluations</text>"
        )
        for place, (name, curve) in enumerate(curves.items()):
            points = " ".join(
                f"{x0 + wide * n / (len(curve) - 1):.1f},{top + high * (1 - (v - low) / span):.1f}"
                for n, v in enumerate(curve)
            )
            colour = COLOURS[place % len(COLOURS)]
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
            parts.append(
                f'<text x="{x0 + 70 + 130 * (place % 3)}" y="{top + high + 34 + 16 * (place // 3)}"'
                f' fill="{colour}">{escape(name)}</text>'
            )
    width = left + len(panels) * (wide + 80)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + high + 90}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        + "".join(parts)
        + "</svg>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Searches side by side.")
    parser.add_argument("--quick", action="store_true", help="two seeds and few rollouts")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--venvs", type=Path, help="where the peers' environments are, or are made")
    parser.add_argument("--plot", type=Path, help="an .svg to draw")
    asked = parser.parse_args()
    if asked.plot is not None and asked.plot.suffix != ".svg":
        parser.error(f"the plot is drawn as SVG, so its name ends in .svg, not {asked.plot.suffix}")
    seeds = 2 if asked.quick else asked.seeds
    with tempfile.TemporaryDirectory() as throw_away:
        venvs = asked.venvs or Path(throw_away)

        def peers(peer: str, kind: str, seed: int, budget: int) -> list[float]:
            return peer_scores(python_of(venvs, PEERS[peer]), peer, kind, seed, budget)

        panels = []
        for kind in PROBLEMS:
            problem, runs, absent = measure(kind, seeds, None if asked.no_peers else peers)
            table(problem, runs, absent)
            panels.append((problem, runs))
    bookkeeping(2000 if asked.quick else 100_000)
    if asked.plot is not None:
        asked.plot.write_text(drawn(panels), encoding="utf-8")
        print(f"\nPlot: {asked.plot}")


if __name__ == "__main__":
    main()
