"""What a search may use up, and which bound it reached first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import define, fields, frozen

from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Outcome

CHARGED = ("executions", "tokens", "usd")
"""The keys of `Outcome.cost` that a budget bounds."""


@frozen(kw_only=True)
class Budget:
    """Bounds of one search; None is no bound. Every bound is looked at before each window.

    A window under way is finished, so `executions`, `tokens` and `usd` may be overrun by what one
    window costs, and `seconds` by the time it takes. `rollouts` is exact.
    """

    rollouts: int | None = None
    """Trials that were told, without those withdrawn."""
    executions: float | None = None
    seconds: float | None = None
    """Wall time of this call of `search`; the only bound that depends on the machine."""
    tokens: float | None = None
    usd: float | None = None
    withdrawn: int | None = 100
    """Trials taken back because the evaluation failed; keeps a broken machine from looping."""

    def __attrs_post_init__(self) -> None:
        for attribute in fields(Budget):
            value = getattr(self, attribute.name)
            if value is not None and not value > 0:
                raise UsageError(f"A budget of {attribute.name} must be above 0, but is {value}.")


@define(kw_only=True)
class Spent:
    """What a search has used up so far. Remembers the sums, in the order told."""

    rollouts: int = 0
    executions: float = 0.0
    tokens: float = 0.0
    usd: float = 0.0
    withdrawn: int = 0

    def add(self, outcome: Outcome) -> None:
        """Charge one told trial; raises `UsageError` for a cost that is no finite amount."""
        for name in CHARGED:
            amount = outcome.cost.get(name, 0.0)
            if not (math.isfinite(amount) and amount >= 0):
                raise UsageError(f"A trial's cost in {name} must be 0 or more, but is {amount}.")
            setattr(self, name, getattr(self, name) + amount)
        if outcome.withdrawn:
            self.withdrawn += 1
        else:
            self.rollouts += 1

    def to_dict(self) -> Mapping[str, float]:
        """The sums by name."""
        return {a.name: getattr(self, a.name) for a in fields(Spent)}


def reached(budget: Budget, spent: Spent, *, elapsed_s: float) -> str | None:
    """The name of the first bound that is used up, in the order of the record, or None."""
    used = {**spent.to_dict(), "seconds": elapsed_s}
    for attribute in fields(Budget):
        bound = getattr(budget, attribute.name)
        if bound is not None and used[attribute.name] >= bound:
            return str(attribute.name)
    return None
