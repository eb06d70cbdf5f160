"""Which calls are out, and how many of them an upstream must have let in. Pure.

Answers may take a minute where refusals come at once: who counts answers only believes that nearly
everything is refused.
"""

from __future__ import annotations

from attrs import define, field

PATIENCE = 2.0
"""A call that is out for so many times as long as the slowest refusal took was let in."""
MOST_OUT = 4096
"""Calls that are remembered. What ends without answer or refusal stays until it is forgotten."""


@define
class Outstanding:
    """Calls by the moment they began, oldest first. Remembers those that count yet."""

    refusal_s: float = 0.0
    """The slowest refusal; 0 before the first, and then nobody must have been let in."""
    _out: dict[float, int] = field(factory=dict)

    def began(self, now: float) -> None:
        """A call starts."""
        if len(self._out) >= MOST_OUT:
            self._out.clear()
        self._out[now] = self._out.get(now, 0) + 1

    def gave_back(self) -> None:
        """A call that was to start did not."""
        if self._out:
            self._less(next(reversed(self._out)))

    def ended(self, started_at: float) -> None:
        """A call that began then is answered or refused."""
        if started_at in self._out:
            self._less(started_at)
        elif self._out and started_at > (oldest := next(iter(self._out))):
            # A shared limiter lets a call wait once more, so that it begins later than was noted.
            self._less(oldest)

    def refused(self, took_s: float) -> None:
        """A refusal took so long."""
        self.refusal_s = max(self.refusal_s, took_s)

    def let_in(self, now: float, since: float) -> int:
        """How many that began at `since` or later are out for too long to be refused yet."""
        if not self.refusal_s:
            return 0
        until = now - PATIENCE * self.refusal_s
        return sum(count for at, count in self._out.items() if since <= at <= until)

    def count(self, since: float) -> int:
        """How many that began at `since` or later are out."""
        return sum(count for at, count in self._out.items() if since <= at)

    def forget(self, before: float | None) -> None:
        """Begin anew with calls that began at `before` or later; None remembers none."""
        self.refusal_s = 0.0
        kept = () if before is None else ((at, n) for at, n in self._out.items() if at >= before)
        self._out = dict(kept)

    def _less(self, at: float) -> None:
        self._out[at] -= 1
        if not self._out[at]:
            del self._out[at]
