"""Which child to look into: upper confidence bounds with pending counts (WU-UCT)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from attrs import define
from scillm.errors import UsageError

from scillm_codeworld.strategies.book import Tally

if TYPE_CHECKING:
    from scillm_codeworld.strategies.book import Scale

BACKUPS = {"mean": 0.0, "max": 1.0, "mixed": 0.5}
"""Share of the highest score below in the value of a node."""


@define(kw_only=True)
class Edge(Tally):
    """A tally that can be chosen. `left` counts the pulls below that were not yet asked for."""

    left: float = math.inf


Choice = TypeVar("Choice", bound=Edge)


def open_children(children: Sequence[Choice]) -> list[Choice]:
    """Children that are not exhausted; the unvisited ones alone, where there are any."""
    live = [child for child in children if child.left > 0]
    fresh = [child for child in live if not (child.scored or child.failed or child.pending)]
    return fresh or live


def best_children(
    children: Sequence[Choice], *, visits: int, c: float, scale: Scale, share: float, prior: float
) -> list[Choice]:
    """The children whose bound is highest; several when they tie.

    `visits` counts told and pending pulls of the parent, `c` is in units of the range of scores,
    `share` of the highest score goes into a value, `prior` stands for a child that only has pending
    pulls. Pending pulls count in the bonus and never in the value (Liu et al. 2018).
    """
    log_visits = math.log(visits) if visits > 1 else 0.0
    floor, span = scale.floor, scale.span
    # Values are compared on the raw scale, with c stretched to it: one division less per child.
    reach = c * c * (span * span if span > 0 else 1.0) * log_visits
    most, chosen = -math.inf, []
    for child in children:
        told = child.scored + child.failed
        if told:
            value = (child.total + child.failed * floor) / told
            if share and child.scored:
                value += share * (child.top - value)
        else:
            value = prior
        value += math.sqrt(reach / (told + child.pending))
        if value > most:
            most, chosen = value, [child]
        elif value == most:
            chosen.append(child)
    return chosen


def share_of(backup: str) -> float:
    """How much of the highest score a value takes on under `backup`."""
    if backup not in BACKUPS:
        raise UsageError(f"backup must be one of {', '.join(BACKUPS)}, but is {backup!r}.")
    return BACKUPS[backup]
