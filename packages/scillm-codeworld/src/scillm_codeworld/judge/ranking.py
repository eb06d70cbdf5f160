"""From metrics to ranks: nobody outranks one that is right more often, and equals share a rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

from scillm_codeworld.judge.rule import CORRECTNESS, LEXICOGRAPHIC, PARETO

if TYPE_CHECKING:
    from scillm_codeworld.judge.rule import Rule

DIGITS = 4
Key: TypeAlias = "tuple[float, ...]"


@frozen(kw_only=True)
class Merit:
    """One variant as the judge sees it: no code, no name, only what was found.

    `gate` is what no other metric makes up for: whether it ran, then how often it was right.
    `metrics` are better the higher; a missing one counts as 0.
    """

    gate: tuple[float, float]
    metrics: Mapping[str, float] = field(factory=dict)


def aggregate(merit: Merit, rule: Rule) -> float:
    """The weighted mean of the metrics times the share of right cases; 0 for one that failed."""
    ran, right = merit.gate
    if not ran:
        return 0.0
    total = sum(rule.weights.values())
    parts = {**merit.metrics, CORRECTNESS: 1.0}
    value = sum(weight * parts.get(name, 0.0) for name, weight in rule.weights.items())
    return round(right * value / total, DIGITS)


def ranks(merits: Mapping[str, Merit], rule: Rule) -> dict[str, int]:
    """Rank by name; 1 is best, and as many as share a rank, so many are left out after it."""
    keys = _keys(merits, rule)
    return {name: 1 + sum(other > key for other in keys.values()) for name, key in keys.items()}


def front(merits: Mapping[str, Merit], names: Sequence[str]) -> list[str]:
    """The names no other of these merits beats in one metric without losing in another."""
    return [
        name
        for name, merit in merits.items()
        if not any(_dominates(other, merit, names) for other in merits.values())
    ]


def _keys(merits: Mapping[str, Merit], rule: Rule) -> dict[str, Key]:
    if rule.mode == PARETO:
        return _pareto(merits, rule.order)
    if rule.mode == LEXICOGRAPHIC:
        return {
            name: (*merit.gate, *(merit.metrics.get(metric, 0.0) for metric in rule.order))
            for name, merit in merits.items()
        }
    return {name: (*merit.gate, aggregate(merit, rule)) for name, merit in merits.items()}


def _pareto(merits: Mapping[str, Merit], names: Sequence[str]) -> dict[str, Key]:
    """Behind each gate the fronts, one after the other: 0 for the first, -1 for the second."""
    keys: dict[str, Key] = {}
    for gate in {merit.gate for merit in merits.values()}:
        left = {name: merit for name, merit in merits.items() if merit.gate == gate}
        layer = 0
        while left:
            for name in front(left, names):
                keys[name] = (*gate, float(-layer))
            left = {name: merit for name, merit in left.items() if name not in keys}
            layer += 1
    return keys


def _dominates(one: Merit, other: Merit, names: Sequence[str]) -> bool:
    pairs = [(one.metrics.get(name, 0.0), other.metrics.get(name, 0.0)) for name in names]
    return all(mine >= its for mine, its in pairs) and any(mine > its for mine, its in pairs)
