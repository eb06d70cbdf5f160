"""A day at Chutes in virtual time: our router beside three others, bare and with our manners.

python benchmarks/chutes.py [--calls 100000] [--seeds 7] [--worlds mild,rough] [--svg FILE]

The worlds are invented (load waves, outages, an edge limiter with doubling bans as the fake has it,
a feed that is up to fifty minutes old; in the rough one other programs overrun the limit of the
same keys); the decisions are `rank`, `Memory`, `KeyPace`, `Latencies`, `classify` and the core's
`Backoff` as they ship. A seed gives the same world to every policy, and the same table. With
several seeds the mean of each number is shown with its range.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from pathlib import Path
from statistics import fmean

from chutes_drawing import svg
from chutes_policies import POLICIES, Steps
from chutes_world import HOUR_S, WORLDS, Day, Score, World, arrivals

BRIEF = ("answered %", "wasted", "p95 all", "wait p95")


def play(name: str, *, world: World, calls: int, seed: int) -> Score:
    """One policy's day."""
    score = Score(name)
    day = Day(world, seed)
    policy = POLICIES[name](day, score, seed)
    heap: list[tuple[float, int, float, Steps]] = []
    for number, at in enumerate(arrivals(calls, seed)):
        heap.append((at, number, at, policy.call(at)))
    heapq.heapify(heap)
    while heap:
        now, number, began, steps = heapq.heappop(heap)
        try:
            heapq.heappush(heap, (max(now, next(steps)), number, began, steps))
        except StopIteration as ended:
            hour = score.by_hour[min(23, int(began / HOUR_S))]
            score.calls += 1
            hour[1] += 1
            if ended.value is not None:
                score.answered += 1
                hour[0] += 1
                score.latencies.append(now - began)
                score.waits.append(ended.value)
    return score


def table(days: list[list[Score]]) -> str:
    """A line per policy; `days` has a list of policies for each seed."""
    found = [[score.numbers() for score in day] for day in days]
    columns = list(found[0][0]) if len(days) == 1 else list(BRIEF)
    several = len(days) > 1
    wide = 30 if several else 10
    rows = [f"{'policy':<26}" + "".join(f"{column:>{wide}}" for column in columns)]
    for name, numbers in zip(
        (score.name for score in days[0]), zip(*found, strict=True), strict=True
    ):
        cells = []
        for column in columns:
            values = [one[column] for one in numbers]
            mean, low, high = (shown(v, column) for v in (fmean(values), min(values), max(values)))
            cells.append(f"{mean} ({low}..{high})" if several else mean)
        rows.append(f"{name:<26}" + "".join(f"{cell:>{wide}}" for cell in cells))
    return "\n".join(rows)


def shown(value: float, column: str) -> str:
    return f"{value:,.0f}" if column in ("wasted", "in bans") else f"{value:.2f}"


def verdict(scores: list[Score]) -> tuple[str, bool]:
    """Where ours is not ahead in answers or waste, and whether nobody is better."""
    ours, said, good = scores[-1], [], True
    for other in scores[:-1]:
        found = {
            "answers": word(ours.answered - other.answered),
            "waste": word(other.wasted - ours.wasted),
        }
        good = good and "behind" not in found.values()
        said += [f"{what} {how} {other.name}" for what, how in found.items() if how != "ahead of"]
    return "; ".join(said) or "ahead of all in answers and waste", good


def word(more: int) -> str:
    return "ahead of" if more > 0 else "tie with" if more == 0 else "behind"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seeds", default="7", help="numbers with commas")
    parser.add_argument("--worlds", default=",".join(WORLDS), help="names with commas")
    parser.add_argument("--svg", type=Path, help="draws the last world's first seed")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    unbeaten = True
    for name in args.worlds.split(","):
        days = [
            [play(policy, world=WORLDS[name], calls=args.calls, seed=seed) for policy in POLICIES]
            for seed in seeds
        ]
        print(f"{name} world, {args.calls:,} calls, seed {seeds[0]}\n{table(days[:1])}")
        if len(seeds) > 1:
            print(f"{name} world, seeds {args.seeds}: mean (lowest..highest)\n{table(days)}")
        for seed, scores in zip(seeds, days, strict=True):
            said, good = verdict(scores)
            unbeaten = unbeaten and good
            print(f"seed {seed}: {said}")
        if args.svg is not None:
            args.svg.parent.mkdir(parents=True, exist_ok=True)
            args.svg.write_text(svg(days[0], name, args.calls, seeds[0]), "utf-8")
    print("better in answers or waste than ours:", "nobody" if unbeaten else "SOMEBODY")
    return 0 if unbeaten else 1


if __name__ == "__main__":
    sys.exit(main())
