"""How far two measurements may lie apart and be the same; how good one is beside others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NOISE = 0.05
NOISE_S = 0.000_5
"""A round trip to a child varies by about this much, whatever it computes."""
DIGITS = 4


def floor_of(repeats: Sequence[Sequence[float]]) -> float | None:
    """The noise of a sum of minima, from the repeats of each case; None without any.

    A case's part is the distance from its fastest repeat to its second fastest, and never less
    than NOISE_S: two repeats that agree by luck do not make a better clock.
    """
    if not repeats or any(not times for times in repeats):
        return None
    total = 0.0
    for times in repeats:
        first, *rest = sorted(times)
        total += max(NOISE_S, rest[0] - first) if rest else NOISE_S
    return total


def relative(
    values: Mapping[str, float], *, floors: Mapping[str, float], share: float = NOISE
) -> dict[str, float]:
    """Least value / own value, by name; those within the noise of a group's least are its equals.

    The noise between two is the larger of their floors, and never less than `share` of the least.
    """
    found: dict[str, float] = {}
    least = min(values.values(), default=0.0)
    leader, leader_floor = least, 0.0
    for place, (name, value) in enumerate(sorted(values.items(), key=lambda pair: pair[1])):
        floor = floors.get(name, 0.0)
        if place == 0 or value - leader > max(share * leader, floor, leader_floor):
            leader, leader_floor = value, floor
        found[name] = round(least / leader, DIGITS) if leader > 0 else 1.0
    return found
