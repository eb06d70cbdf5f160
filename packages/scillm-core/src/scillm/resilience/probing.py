"""Whether slowing down spares refusals, found by trying; and how fast then. Pure.

Two kinds of upstream refuse: one that counts, where a slower caller is refused less, and one that
is short of capacity or refuses at random, where a slower caller only gets fewer answers. What they
send looks the same, so a slower pace is tried for a moment, and kept only if it helps.
"""

from __future__ import annotations

from typing import Literal

from attrs import define, field

from scillm.resilience.outstanding import Outstanding

OUTCOMES, FEW_OUTCOMES = 30, 10
"""A pace is judged by so many answers and refusals together; by few after a while."""
WINDOW_S, WHILE_S, LONGEST_S = 0.25, 2.0, 10.0
"""It is judged after the first time at the earliest. Of an upstream that does not bring enough
outcomes within the last one nothing can be learnt."""
MANY_REFUSED, FEW_REFUSED = 0.1, 0.05
"""Above the first share of refusals a slower pace is tried; the second is as good as none."""
HELPED, HELPING = 1 / 3, 0.7
"""A trial ends well with this part of the refusals there were; with the other it goes on."""
MOSTLY_REFUSED = 0.5
"""Above this share nobody waits for the end of the window: a herd is refused meanwhile."""
BELOW, HASTY = 0.9, 0.5
"""The pace that is tried, as part of the answers per second so far; less of them before the end of
the window, because a bucket that was full has let in more than it is filled with."""
SLOWER, BELOW_SEEN = 0.75, 0.97
"""What a refusal does to a pace that helps; where `FEW_OUTCOMES` answers in `WINDOW_S` or more show
how many the upstream lets in, the second is the part of them that is asked."""
SEARCHING, FASTER, CAREFUL = 2.0, 1.25, 1.02
"""What some time without refusals does to it: before it was ever refused, and after; careful where
it was refused last."""
SEARCH_S, CLIMB_S = 0.5, 1.0
"""Between two steps up; while it searches `WINDOW_S`, where `FEW_OUTCOMES` answers came in it."""
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
    _won: int = 0
    """Answers to calls that began since then."""
    _out: Outstanding = field(factory=Outstanding)
    _is_hasty: bool = False
    """Whether the trial began before the end of its window."""
    _full_from: float | None = None
    """The first refusal of this window, and answers after it: a bucket that was full is empty."""
    _won_when_full: int = 0
    _ceiling: float = MOST_PER_S
    """Where the pace was refused last."""
    _again_at: float = 0.0
    _again_s: float = AGAIN_S

    def began(self, now: float) -> None:
        """A call starts."""
        self._out.began(now)

    def gave_back(self) -> None:
        """A call that was to start did not."""
        self._out.gave_back()

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
        self._out.ended(started_at)
        self._won += not refused and started_at >= self._changed_at
        if started_at < self._since:
            return  # it left at an earlier pace
        self._refused += refused
        self._answered += not refused
        if refused:
            self._out.refused(now - started_at)
            self._full_from = now if self._full_from is None else self._full_from
        elif self._full_from is not None:
            self._won_when_full += started_at >= self._full_from
        if self.state == "kept":
            self._steer(now, started_at, rest_until, refused=refused, held_back=held_back)
        elapsed_s = now - self._since
        if self._is_enough(now, elapsed_s, rest_s=rest_until - now):
            self._judge(now, elapsed_s, rest_until)
        elif elapsed_s > LONGEST_S:
            self._begin(now)

    def _let_in(self, now: float) -> int:
        return self._answered + self._out.let_in(now, self._since or 0.0)

    def _is_enough(self, now: float, elapsed_s: float, *, rest_s: float) -> bool:
        let_in = self._let_in(now)
        seen = self._refused + let_in
        if seen >= OUTCOMES:
            # In a long rest nobody is refused meanwhile.
            return elapsed_s >= WINDOW_S or (rest_s < WINDOW_S and self._is_urgent(let_in))
        if self.state == "trial" and seen >= FEW_OUTCOMES:
            return elapsed_s >= (WINDOW_S if self._is_clear() else WHILE_S)
        return self.state != "free" and elapsed_s > LONGEST_S

    def _is_clear(self) -> bool:
        # None is refused where most were, or so many that it is hardly chance.
        if not self._refused:
            return self._first_share > MOSTLY_REFUSED
        return self._refused >= FEW_OUTCOMES / 2

    def _is_urgent(self, let_in: int) -> bool:
        if self.state != "free" or let_in < FEW_OUTCOMES:
            return False
        # Refusals come before answers: what is out may have been let in.
        asked = self._refused + self._answered + self._out.count(self._since or 0.0)
        return self._refused > MOSTLY_REFUSED * asked

    def _judge(self, now: float, elapsed_s: float, rest_until: float) -> None:
        share = self._refused / (self._refused + self._let_in(now))
        per_s, begin_at = self._per_s(now, elapsed_s), now
        if self.state == "free":
            if share > MANY_REFUSED and now >= self._again_at:
                self._first_share = self._last_share = share
                self._is_hasty = elapsed_s < WINDOW_S
                begin_at = self._try((HASTY if self._is_hasty else BELOW) * per_s, now, rest_until)
        elif share <= max(HELPED * self._first_share, FEW_REFUSED):
            if self.state == "trial":
                self.state, self._again_s = "kept", AGAIN_S
                self._changes(now)
        elif self._may_yet_help(share):
            self._last_share, self._is_hasty = share, False
            begin_at = self._try(BELOW * per_s, now, rest_until)
        else:
            self.state, self.rate_per_s = "free", None
            self._again_at = now + self._again_s
            self._again_s = min(2.0 * self._again_s, MOST_AGAIN_S)
        self._begin(begin_at)

    def _may_yet_help(self, share: float) -> bool:
        # A pace that was found too high is not one that does not help.
        if self.state == "kept" or self._is_hasty:
            return True
        return share <= HELPING * self._last_share

    def _per_s(self, now: float, elapsed_s: float) -> float:
        # A bucket that was full at first lets more in than it is filled with.
        full_from = now if self._full_from is None else self._full_from
        when_full = self._won_when_full + self._out.let_in(now, full_from)
        if when_full >= FEW_OUTCOMES and now - full_from >= WINDOW_S / 2:
            return when_full / (now - full_from)
        return self._let_in(now) / elapsed_s

    def _try(self, per_s: float, now: float, rest_until: float) -> float:
        self.rate_per_s, self.state = max(per_s, LEAST_PER_S), "trial"
        self._ceiling = MOST_PER_S
        return max(now, rest_until)  # the rest before the trial is not a part of it

    def _steer(
        self, now: float, started_at: float, rest_until: float, *, refused: bool, held_back: bool
    ) -> None:
        assert self.rate_per_s is not None
        unrefused_s = now - self._changed_at
        if refused:
            if started_at < self._changed_at:
                return  # of the same herd
            self._ceiling = self.rate_per_s
            self.rate_per_s = max(self._below(now), LEAST_PER_S)
            self._changes(max(now, rest_until))
        elif held_back and unrefused_s >= self._step_s(now):
            faster = self.rate_per_s * (FASTER if self._was_refused() else SEARCHING)
            self.rate_per_s = faster if faster < self._ceiling else self.rate_per_s * CAREFUL
            self._ceiling = max(self._ceiling, self.rate_per_s)
            self._changes(now)

    def _below(self, now: float) -> float:
        assert self.rate_per_s is not None
        elapsed_s = now - self._changed_at
        won = self._won + self._out.let_in(now, self._changed_at)
        if won < FEW_OUTCOMES or elapsed_s < WINDOW_S:
            return SLOWER * self.rate_per_s
        return BELOW_SEEN * min(won / elapsed_s, self.rate_per_s)

    def _was_refused(self) -> bool:
        return self._ceiling < MOST_PER_S

    def _step_s(self, now: float) -> float:
        if self._was_refused():
            return CLIMB_S
        won = self._won + self._out.let_in(now, self._changed_at)
        return WINDOW_S if won >= FEW_OUTCOMES else SEARCH_S

    def _changes(self, at: float) -> None:
        self._changed_at, self._won = at, 0

    def _begin(self, now: float) -> None:
        self._since, self._answered, self._refused = now, 0, 0
        self._out.forget(before=self._changed_at if self.state == "kept" else None)
        self._full_from, self._won_when_full = None, 0
