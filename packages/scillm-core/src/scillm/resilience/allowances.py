"""What an upstream said may still be used before it resets, heeded until then. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from scillm.resilience.remaining import Remaining, Unit

MAX_HEEDED_S = 60.0
"""Headers of an answer hold calls back no longer: who wants more says so with a refusal. A wrong
reset, of a day say, would otherwise end a run that the upstream would have gone on answering."""


@define
class Allowance:
    """So many units of one kind may still be used until then."""

    left: float
    until: float


@define
class Allowances:
    """Calls and tokens that may still be used. Remembers those that have not reset."""

    _by_unit: dict[Unit, Allowance] = field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self._by_unit)

    def heed(self, now: float, found: Iterable[Remaining]) -> None:
        """A reply says so."""
        for row in found:
            old = self._by_unit.get(row.unit)
            left = row.left
            if old is not None and old.until > now:
                # Replies overtake each other, and what is in the air is not counted in them yet.
                left = min(left, old.left)
            self._by_unit[row.unit] = Allowance(left, now + min(row.reset_s, MAX_HEEDED_S))

    def take(self, tokens: float) -> None:
        """A call of `tokens` starts."""
        self._use(1.0, tokens)

    def give_back(self, tokens: float) -> None:
        """A call of `tokens` that was to start did not."""
        self._use(-1.0, -tokens)

    def wait_s(self, now: float, tokens: float) -> float:
        """Seconds until a call of `tokens` is allowed; what has reset is forgotten."""
        wait = 0.0
        for unit, allowance in list(self._by_unit.items()):
            if allowance.until <= now:
                del self._by_unit[unit]
            elif allowance.left < max(1.0, 1.0 if unit == "requests" else tokens):
                wait = max(wait, allowance.until - now)
        return wait

    def _use(self, calls: float, tokens: float) -> None:
        for unit, allowance in self._by_unit.items():
            allowance.left -= calls if unit == "requests" else tokens
