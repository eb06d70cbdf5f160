"""Choosing among the deployments of one order level: five strategies, each a pure pick."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.routing.deployment import Deployment

STRATEGIES = (
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "usage-based-routing",
    "cost-based-routing",
)
UNKNOWN_COST = 5.0
"""Price per token assumed, for input and output each, where a deployment names none."""
LUCKY_DRAWS = 8


@frozen(kw_only=True)
class Level:
    """Deployments that share an `order`, with what a pick needs worked out beforehand."""

    deployments: Sequence[Deployment]
    positions: Sequence[int]
    """Index of each deployment in the Router's list; loads are kept by it."""
    cumulative: Sequence[float] = field(repr=False)
    costs: Sequence[float] = field(repr=False)
    limited: bool
    """Whether any deployment has an rpm or tpm."""
    gather: Callable[[Sequence[float]], Sequence[float]] = field(repr=False)
    """The numbers of this level out of a list over all positions."""


def levels_of(deployments: Sequence[tuple[int, Deployment]]) -> tuple[Level, ...]:
    """The order levels of one group, lowest first. `deployments` come with their position."""
    orders = sorted({deployment.order for _, deployment in deployments})
    return tuple(_level([d for d in deployments if d[1].order == order]) for order in orders)


def _level(rows: Sequence[tuple[int, Deployment]]) -> Level:
    deployments = tuple(deployment for _, deployment in rows)
    positions = tuple(position for position, _ in rows)
    first, *others = positions
    # itemgetter gathers in C, but gives a bare value for a single position.
    getter = itemgetter(first, *others) if others else itemgetter(slice(first, first + 1))
    return Level(
        deployments=deployments,
        positions=positions,
        cumulative=tuple(accumulate(weights_of(deployments))),
        costs=tuple(cost_of(deployment) for deployment in deployments),
        limited=any(d.rpm is not None or d.tpm is not None for d in deployments),
        gather=getter,
    )


def weights_of(deployments: Sequence[Deployment]) -> tuple[float, ...]:
    """Shuffle weights: the first of weight, rpm, tpm that any has; who lacks it gets 0."""
    for name in ("weight", "rpm", "tpm"):
        values = [getattr(deployment, name) for deployment in deployments]
        if any(value is not None for value in values):
            return tuple(float(value or 0.0) for value in values)
    return (1.0,) * len(deployments)


def cost_of(deployment: Deployment) -> float:
    """Price of one input and one output token together."""
    return sum(
        UNKNOWN_COST if price is None else price
        for price in (deployment.input_cost_per_token, deployment.output_cost_per_token)
    )


def pick(
    level: Level,
    eligible: Callable[[int], bool] | None,
    *,
    strategy: str,
    metric: Sequence[float],
    draw: Callable[[], float],
    buffer: float = 0.0,
) -> int | None:
    """Index into `level.deployments` of the one to ask, or None when none is eligible.

    `eligible` is None where all are. `metric` has one number per deployment of the level, lower is
    better; simple-shuffle does not look at it. Ties, and everything within `buffer` (a fraction)
    of the best, are drawn.
    """
    size = len(level.deployments)
    if size == 1 and eligible is None:
        return 0
    if strategy == "simple-shuffle":
        return _shuffled(level, eligible or _all, draw)
    if eligible is None and buffer == 0.0:
        return _lowest(metric, start=int(draw() * size))
    open_ = [index for index in range(size) if eligible is None or eligible(index)]
    if not open_:
        return None
    slack = min(metric[index] for index in open_) * (1.0 + buffer)
    near = [index for index in open_ if metric[index] <= slack]
    return near[int(draw() * len(near))]


def _all(_index: int) -> bool:
    return True


def _lowest(metric: Sequence[float], *, start: int) -> int:
    """The first index from `start` on, round the end, with the lowest number."""
    least = min(metric)
    try:
        return metric.index(least, start)
    except ValueError:
        return metric.index(least)


def _shuffled(
    level: Level, eligible: Callable[[int], bool], draw: Callable[[], float]
) -> int | None:
    total = level.cumulative[-1]
    if total > 0.0:
        # Mostly the first draw is eligible, so that a thousand deployments cost what ten do.
        for _ in range(LUCKY_DRAWS):
            index = bisect(level.cumulative, draw() * total)
            if eligible(index):
                return index
    open_ = [index for index in range(len(level.deployments)) if eligible(index)]
    if not open_:
        return None
    weights = [level.cumulative[i] - (level.cumulative[i - 1] if i else 0.0) for i in open_]
    sums = tuple(accumulate(weights))
    if sums[-1] <= 0.0:
        return open_[int(draw() * len(open_))]
    return open_[min(bisect(sums, draw() * sums[-1]), len(open_) - 1)]


def with_tags(deployments: Sequence[Deployment], tags: Collection[str]) -> tuple[Deployment, ...]:
    """Deployments for a call with `tags`: those sharing one, else the `default` ones, else none.

    A call without tags goes to the `default` ones where there are any, else to all.
    """
    default = tuple(d for d in deployments if "default" in d.tags)
    if not tags:
        return default or tuple(deployments)
    return tuple(d for d in deployments if set(tags) & set(d.tags)) or default


def known_strategy(name: str) -> str:
    """`name`, or its v2 spelling's base; `UsageError` lists what there is."""
    base = name.removesuffix("-v2")
    if base not in STRATEGIES:
        raise UsageError(f"routing_strategy must be one of {', '.join(STRATEGIES)}, not {name!r}.")
    return base
