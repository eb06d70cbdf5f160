"""How long answers usually take, by model: what a call must have left when its turn comes."""

from __future__ import annotations

from attrs import define, field

GAIN, SPREAD_GAIN = 0.125, 0.25
"""Weights of the newest answer, and the spread below: TCP's estimate (RFC 6298, 2.3)."""
SPREADS = 2.0
"""TCP adds four, where a guess too low costs a second copy; here a guess too high costs a turn."""

MOST_FOR_ANSWER = 0.5


@define
class _Usual:
    mean_s: float
    spread_s: float


@define
class Latencies:
    """Smoothed seconds and their spread by model. Remembers nothing of a model never answered."""

    usual: dict[str, _Usual] = field(factory=dict)

    def took(self, model: str, seconds: float) -> None:
        """An answer took so long."""
        known = self.usual.get(model)
        if known is None:
            self.usual[model] = _Usual(seconds, seconds / 2.0)
            return
        known.spread_s += SPREAD_GAIN * (abs(seconds - known.mean_s) - known.spread_s)
        known.mean_s += GAIN * (seconds - known.mean_s)

    def usual_s(self, model: str) -> float:
        """What an answer may be expected to take; 0 when nothing is known."""
        known = self.usual.get(model)
        return 0.0 if known is None else known.mean_s + SPREADS * known.spread_s

    def patience_s(self, model: str, left_s: float) -> float:
        """How long a call with `left_s` may wait for its turn and still be answered in time.

        At least half of it: answers differ, and a slow one must not shut out the short ones.
        """
        return left_s - min(self.usual_s(model), max(left_s, 0.0) * MOST_FOR_ANSWER)
