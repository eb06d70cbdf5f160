"""Whether a session still gets better: the newest value beside the few before it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm.records import Json

BEFORE = 5
GAIN = 0.005
"""A gain below this over the mean of the BEFORE runs before it is none."""


def signals(values: Sequence[float]) -> dict[str, Json]:
    """What the values of a session so far, oldest first, say of its newest one.

    `plateau` is None while there is nothing to compare with.
    """
    if not values:
        return {"current": None, "previous_mean": None, "plateau": None, "runs": 0}
    current, before = values[-1], values[:-1][-BEFORE:]
    mean = sum(before) / len(before) if before else None
    return {
        "current": current,
        "previous_mean": mean,
        "plateau": None if mean is None else current - mean < GAIN,
        "runs": len(values),
    }


def value_of(results: Sequence[Mapping[str, Json]]) -> float | None:
    """What one run is worth to its session: the mean over its items of the best aggregate.

    An item without a scored variant counts as 0; None when there are no items.
    """
    best = [
        max((row["aggregate"] for row in result["variants"] if row["aggregate"] is not None),
            default=0.0)
        for result in results
    ]  # fmt: skip
    return sum(best) / len(best) if best else None
