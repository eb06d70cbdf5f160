"""How far two measurements may lie apart and be the same; how good one is beside others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

NOISE = 0.05
NOISE_S = 0.000_5
"""A round trip to a child varies by about this much, whatever it computes."""
CHANCE = 0.01
"""How often two equal programs may be told apart by luck, going by how far apart they are."""
ORDER_CHANCE = 0.001
"""The same, going by the order of their repeats alone."""
DIGITS = 4


def floor_of(repeats: Sequence[Sequence[float]]) -> float | None:
    """The noise of a sum of minima, from the repeats of each case; None without any.

    Never less than NOISE_S for each case. One repeat alone shows no noise.
    """
    if not repeats or any(not times for times in repeats):
        return None
    return max(NOISE_S * len(repeats), _excess([times for times in repeats if len(times) > 1]))


def _excess(repeats: Sequence[Sequence[float]]) -> float:
    """What chance alone may put between two such sums, but for one in 1 / CHANCE.

    A time is the true one and what the machine adds, which is taken to be exponential. Then what a
    minimum of k lies above the true time has a k-th of that mean, and a sum of such is taken as a
    gamma of the same mean and variance (Welch-Satterthwaite). Beside the mean that two programs'
    repeats show, the sum follows F. Taking the larger of two samples' values, as `relative` does,
    errs on the side of a tie.
    """
    means = [
        sum(time - min(times) for time in times) / (len(times) - 1) / len(times)
        for times in repeats
    ]
    total = sum(means)
    if total == 0:
        return 0.0
    shape = total**2 / sum(mean**2 for mean in means)
    spare = min(len(times) for times in repeats) - 1
    return total * f_quantile(2 * shape, 4 * spare * shape)


def f_quantile(above: float, below: float) -> float:
    """What F with these degrees of freedom exceeds with probability CHANCE.

    Paulson, Annals of Mathematical Statistics 13 (1942) 233; from 4 degrees `below` it is at most a
    fifth above the true value, and below it by no more than a thousandth.
    """
    z = NormalDist().inv_cdf(1 - CHANCE)
    a, b = 2 / (9 * below), 2 / (9 * above)
    spread = a * (1 - b) ** 2 + b * (1 - a) ** 2 - z**2 * a * b
    root = ((1 - a) * (1 - b) + z * math.sqrt(spread)) / ((1 - a) ** 2 - z**2 * a)
    return root**3


def slower(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
    """Whether the repeats of `one`, case by case, rank behind those of `other` beyond chance.

    However unruly the machine is, it treats programs alike that take turns: of equal ones each
    order of their repeats is as likely. Mann & Whitney, Annals of Mathematical Statistics 18 (1947)
    50, summed over the cases, by the normal law with continuity correction, which at such a level
    errs on the side of a tie. Three repeats of three cases can show it, of two cases they cannot.
    """
    behind, variance = -0.5, 0.0
    for mine, theirs in zip(one, other, strict=False):
        pairs = len(mine) * len(theirs)
        variance += pairs * (len(mine) + len(theirs) + 1) / 12
        behind -= pairs / 2
        for time in mine:
            behind += sum(1.0 if time > than else 0.5 * (time == than) for than in theirs)
    return variance > 0 and behind / math.sqrt(variance) > NormalDist().inv_cdf(1 - ORDER_CHANCE)


def relative(
    values: Mapping[str, float],
    *,
    floors: Mapping[str, float],
    share: float = NOISE,
    apart: Callable[[str, str], bool] = lambda _name, _leader: False,
) -> dict[str, float]:
    """Least value / own value, by name; those within the noise of a group's least are its equals.

    The noise between two is the larger of their floors, unless `apart` tells them apart, and never
    less than `share` of the least.
    """
    found: dict[str, float] = {}
    least = min(values.values(), default=0.0)
    leader, leader_name = least, min(values, key=values.__getitem__, default="")
    for name, value in sorted(values.items(), key=lambda pair: pair[1]):
        floor = max(floors.get(name, 0.0), floors.get(leader_name, 0.0))
        beyond = value - leader > share * leader
        if beyond and (value - leader > floor or apart(name, leader_name)):
            leader, leader_name = value, name
        found[name] = round(least / leader, DIGITS) if leader > 0 else 1.0
    return found
