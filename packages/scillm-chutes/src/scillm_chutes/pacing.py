"""How fast one key may be used, and how long it pauses when the edge has banned it.

The limit is about 60 requests a minute; overrunning it starts a ban that doubles each time, up to
a day, and no header says how long. Nothing here looks at a clock: `now` is monotonic seconds.
"""

from __future__ import annotations

from math import inf

from attrs import define, frozen

FIRST_BAN_S = 60.0
LONGEST_BAN_S = 86_400.0
FORGET_S = 86_400.0
"""After a day without a ban the next one counts as the first."""
CAREFUL = 1.1
"""A pause is this much longer than the ban is thought to be: a call inside it may renew it."""
LIMIT_PER_MIN = 60.0
SHARE = 0.8
"""The part of the announced limit that is used; other programs may use the same key."""
SLOWEST_PER_S = 0.05
FASTEST_PER_S = 20.0
PROOF = 20
"""Answers in a row that allow a faster pace."""
STEP = 0.1
URGENT = 5.0
"""Places that failovers may use ahead of the pace: with the burst they stay within a minute's
limit, and a call whose model is full must not wait a second for the next one."""


@frozen(kw_only=True)
class PaceRules:
    """The pace of a key: `per_s` calls a second, `burst` at once after a quiet time."""

    per_s: float = SHARE * LIMIT_PER_MIN / 60.0
    burst: float = 3.0


@define
class KeyPace:
    """When a key may be used next. Remembers its pace, its pause and its bans."""

    rules: PaceRules
    per_s: float = 0.0
    ceiling_per_s: float = 0.0
    full_at: float = -inf
    paused_until: float = -inf
    paused_at: float = -inf
    bans: int = 0
    streak: int = 0
    urgent: int = 0

    def __attrs_post_init__(self) -> None:
        self.per_s = self.per_s or self.rules.per_s
        self.ceiling_per_s = self.ceiling_per_s or self.rules.per_s

    def pause_s(self, now: float) -> float:
        """Seconds until the pause ends; 0 when there is none."""
        return max(0.0, self.paused_until - now)

    def reserve(self, now: float) -> float:
        """Take a place and return the seconds to wait for it.

        Later places never come earlier, but for the one after a `hurry`.
        """
        ahead = self.rules.burst - 1.0
        if self.urgent:
            self.urgent -= 1
            # A pace that a ban has halved has yet to prove that there is room to spare.
            ahead += 0.0 if self.per_s < self.rules.per_s else URGENT
        start = max(now, self.full_at - ahead / self.per_s)
        self.full_at = max(now, self.full_at) + 1.0 / self.per_s
        return max(0.0, start - now)

    def give_back(self) -> None:
        """A place that was taken is not used."""
        self.full_at -= 1.0 / self.per_s

    def hurry(self) -> None:
        """A model was full: the call goes on at once to the next one."""
        self.urgent += 1

    def answered(self, *, limit_per_min: float | None = None) -> None:
        """A call was not refused by the edge. `limit_per_min` is what the reply announced."""
        if limit_per_min is not None and limit_per_min > 0:
            announced = min(SHARE * limit_per_min / 60.0, FASTEST_PER_S)
            self.ceiling_per_s = max(announced, self.rules.per_s)
        self.streak += 1
        if self.streak >= PROOF and self.per_s < self.ceiling_per_s:
            self.streak = 0
            step = STEP * max(self.per_s, self.rules.per_s)
            self.per_s = min(self.per_s + step, self.ceiling_per_s)

    def limited(self, now: float, *, started_at: float, announced_s: float | None = None) -> float:
        """The edge refused a call begun at `started_at`; returns how long the key now pauses.

        Refusals of calls that were on their way when the pause began are the same refusal.
        """
        if started_at <= self.paused_at:
            return self.pause_s(now)
        if now - self.paused_until > FORGET_S:
            self.bans = 0
        self.streak = 0
        self.paused_at = now
        if announced_s is None:
            self.bans += 1
            ban = min(FIRST_BAN_S * 2.0 ** min(self.bans - 1, 20), LONGEST_BAN_S)
            announced_s = ban * CAREFUL
            self.per_s = max(self.per_s / 2.0, SLOWEST_PER_S)
        self.paused_until = max(self.paused_until, now + announced_s)
        self.full_at = self.paused_until + (self.rules.burst - 1.0) / self.per_s
        return self.pause_s(now)

    def heard(self, now: float, *, until: float, bans: int) -> None:
        """Somebody else with this key met a ban that lasts `until`, the last of `bans` in a row."""
        if now - until > FORGET_S:
            return
        if bans > self.bans:
            self.bans, self.streak = bans, 0
            self.per_s = max(self.per_s / 2.0, SLOWEST_PER_S)
        if until > self.paused_until:
            self.paused_until = until
        if self.paused_until > now:
            self.paused_at = now
            self.full_at = self.paused_until + (self.rules.burst - 1.0) / self.per_s

    def stop(self, now: float, seconds: float) -> None:
        """Pause without a ban: a quota is used up."""
        self.paused_at = now
        self.paused_until = max(self.paused_until, now + seconds)


def announced_limit(text: str) -> float | None:
    """The calls per minute that `X-Chutes-RL-User` announces; None for anything unreadable."""
    if text.strip().lower() in ("inf", "infinity"):
        return inf
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value > 0 else None
