"""Whether slowing down spares refusals, found by trying; and how fast then. Pure.

Two kinds of upstream refuse: one that counts, where a slower caller is refused less, and one that
is short of capacity or refuses at random, where a slower caller only gets fewer answers. What they
send looks the same, so a slower pace is tried for a moment, and kept only if it helps.
"""

from __future__ import annotations

from typing import Literal

from attrs import define

OUTCOMES, FEW_OUTCOMES = 30, 10
"""A pace is judged by so many answers and refusals together; by few after a while."""
WINDOW_S, WHILE_S, LONGEST_S = 0.25, 2.0, 10.0
"""It is judged after the first time at the earliest. Of an upstream that does not bring enough
outcomes within the last one nothing can be learnt."""
MANY_REFUSED, FEW_REFUSED = 0.1, 0.05
"""Above the first share of refusals a slower pace is tried; the second is as good as none."""
HELPED, HELPING = 1 / 3, 0.7
"""A trial ends well with this part of the refusals there were; with the other it goes on."""
BELOW = 0.9
"""The pace that is tried, as part of the answers per second so far."""
SLOWER, FASTER, CAREFUL = 0.75, 1.25, 1.02
"""What a refusal does to a pace that helps, and a second without; careful where it was refused."""
AGAIN_S, MOST_AGAIN_S = 60.0, 600.0
"""After a trial that did not help so long passes before the next; it doubles up to the most."""
LEAST_PER_S, MOST_PER_S = 1.0, 10_000.0


@define
class Probing:
    """The pace of an upstream without a configured rate. Remembers outcomes since its last change.

    `rate_per_s` is None while calls are not held back.
    """

    rate_per_s: float | None = None
    state: Literal["free", "trial", "kept"] = "free"
    _since: float | None = None
    _answered: int = 0
    _refused: int = 0
    _first_share: float = 0.0
    """Refused before the trials, and before the last of them."""
    _last_share: float = 0.0
    _changed_at: float = 0.0
    _ceiling: float = MOST_PER_S
    """Where the pace was refused last."""
    _again_at: float = 0.0
    _again_s: float = AGAIN_S

    def note(
        self,
        now: float,
        *,
        started_at: float,
        refused: bool,
        held_back: bool,
        rest_until: float,
    ) -> None:
        """A call ended that began at `started_at`.

        `held_back` says whether others wait for their turn, `rest_until` when they may go on.
        """
        if self._since is None:
            self._since = started_at
        if started_at < self._since:
            return  # it left at an earlier pace
        self._refused += refused
        self._answered += not refused
        if self.state == "kept":
            self._steer(now, started_at, refused=refused, held_back=held_back)
        elapsed_s = now - self._since
        if self._is_enough(elapsed_s):
            self._judge(now, elapsed_s, rest_until)
        elif elapsed_s > LONGEST_S:
            self._begin(now)

    def _is_enough(self, elapsed_s: float) -> bool:
        seen = self._refused + self._answered
        if seen >= OUTCOMES:
            return elapsed_s >= WINDOW_S
        if self.state == "trial" and seen >= FEW_OUTCOMES:
            return elapsed_s >= WHILE_S
        return self.state != "free" and elapsed_s > LONGEST_S

    def _judge(self, now: float, elapsed_s: float, rest_until: float) -> None:
        share = self._refused / (self._refused + self._answered)
        per_s, begin_at = self._answered / elapsed_s, now
        if self.state == "free":
            if share > MANY_REFUSED and now >= self._again_at:
                self._first_share = self._last_share = share
                begin_at = self._try(per_s, now, rest_until)
        elif share <= max(HELPED * self._first_share, FEW_REFUSED):
            if self.state == "trial":
                self.state, self._again_s, self._changed_at = "kept", AGAIN_S, now
        elif self.state == "trial" and share <= HELPING * self._last_share:
            self._last_share = share
            begin_at = self._try(per_s, now, rest_until)
        else:
            self.state, self.rate_per_s = "free", None
            self._again_at = now + self._again_s
            self._again_s = min(2.0 * self._again_s, MOST_AGAIN_S)
        self._begin(begin_at)

    def _try(self, per_s: float, now: float, rest_until: float) -> float:
        self.rate_per_s, self.state = max(BELOW * per_s, LEAST_PER_S), "trial"
        self._ceiling = MOST_PER_S
        return max(now, rest_until)  # the rest before the trial is not a part of it

    def _steer(self, now: float, started_at: float, *, refused: bool, held_back: bool) -> None:
        assert self.rate_per_s is not None
        if refused:
            if started_at < self._changed_at:
                return  # of the same herd
            self._ceiling = self.rate_per_s
            self.rate_per_s = max(SLOWER * self.rate_per_s, LEAST_PER_S)
        elif held_back and now - self._changed_at >= 1.0:
            faster = self.rate_per_s * FASTER
            self.rate_per_s = faster if faster < self._ceiling else self.rate_per_s * CAREFUL
            self._ceiling = max(self._ceiling, self.rate_per_s)
        else:
            return
        self._changed_at = now

    def _begin(self, now: float) -> None:
        self._since, self._answered, self._refused = now, 0, 0
