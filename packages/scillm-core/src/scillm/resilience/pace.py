"""When the next call to one upstream may start, and how that pace follows refusals and success.

Nothing here looks at a clock: `now` is any clock in seconds that does not go backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING

from scillm.resilience.allowances import Allowances
from scillm.resilience.limits import GRAIN_S, LATE_S, bucket_of, found_bucket
from scillm.resilience.probing import Probing
from scillm.resilience.remaining import remaining
from scillm.resilience.retry_after import SOON_S

if TYPE_CHECKING:
    from scillm.resilience.limits import Rates

RECOVER_S = 10.0
"""Seconds of success under load in which a pace climbs from nothing to where it was refused."""
RECOVER_ANSWERS = 50
"""So many answers do it too: a fast upstream that refuses one call in fifty is not slow."""
LEAST_SHARE = 0.05
"""A configured rate is never lowered below this part of itself."""
LEAST_LEARNT_PER_S = 1.0
"""The slowest pace for an upstream that refuses without any rate being configured."""
MOST_PER_S = 10_000.0
"""A learnt pace above this is no limit any more."""
MAX_GUESSED_REST_S = 60.0
"""The longest rest when the upstream does not say how long."""


class Pace:
    """When the next call to one upstream may start. Remembers buckets, the rest, the last refusal.

    After a refusal nothing starts until the rest ends, and then calls start one by one at half the
    pace, which grows again by equal steps with success under load. Where no rate is configured, the
    first refusal sets one: the rate of success seen so far; it doubles each second until the next
    refusal, and from then on behaves as above. An upstream that refuses at random, whatever the
    pace, is slowed to the floor: give it rates with `adaptive=False`, so that only rests hold, and
    `probing`, which slows down only where that is found to help.
    """

    def __init__(self, rates: Rates) -> None:
        self.rates = rates
        self.share = 1.0
        """The part of the configured (or learnt) rate that is used now."""
        self.rest_until = -inf
        self.requests = bucket_of(rates.rpm, rates.burst)
        self.tokens = bucket_of(rates.tpm, None)
        self._allowances = Allowances()
        self._base = {"requests": 0.0, "tokens": 0.0}
        if self.requests is not None:
            self._base["requests"] = self.requests.rate
        if self.tokens is not None:
            self._base["tokens"] = self.tokens.rate
        is_probing = rates.probing and not rates.adaptive and rates.rpm is None
        self._probing = Probing() if is_probing else None
        self._learnt = False
        self._peak: float | None = 1.0  # None: searching
        self._limited_at = -inf
        self._shortest_said_s = SOON_S
        self._grown_at = -inf
        self._streak = 0
        self._wins = 0
        self._wins_since: float | None = None
        self._wins_per_s = 0.0

    @property
    def rate_per_s(self) -> float | None:
        """Calls per second at present, or None while no rate is known."""
        return None if self.requests is None else self.requests.rate

    def is_fresh(self, now: float) -> bool:
        """Whether nothing that was learnt or taken still matters."""
        buckets = [bucket for bucket in (self.requests, self.tokens) if bucket is not None]
        full = all(bucket.full_at <= now for bucket in buckets)
        unlearnt = self.share == 1.0 and not self._learnt and not self._allowances
        if self._probing is not None and self._probing.state != "free":
            return False
        return full and unlearnt and self.rest_until <= now

    # -- asking --------------------------------------------------------------------------------

    def wait_s(
        self, now: float, tokens: float = 0.0, *, calls_ahead: int = 0, tokens_ahead: float = 0.0
    ) -> float:
        """Seconds until a call of `tokens` may start; 0 means now."""
        wait = 0.0
        if self.requests is not None:
            wait = self.requests.wait_s(now, 1.0, ahead=calls_ahead)
        if self.tokens is not None:
            wait = max(wait, self.tokens.wait_s(now, tokens, ahead=tokens_ahead))
        if self.rest_until - now > wait:
            wait = self.rest_until - now
        if self._allowances:
            wait = max(wait, self._allowances.wait_s(now, tokens))
        return wait if wait > GRAIN_S else 0.0

    def take(self, now: float, tokens: float = 0.0) -> None:
        """A call of `tokens` starts now."""
        if self.requests is not None:
            self.requests.take(now)
        if self.tokens is not None:
            self.tokens.take(now, tokens)
        if self._probing is not None:
            self._probing.began(now)
        if self._allowances:
            self._allowances.take(tokens)

    def give_back(self, tokens: float = 0.0) -> None:
        """A call of `tokens` that was to start did not."""
        if self.requests is not None:
            self.requests.give_back(1.0)
        if self.tokens is not None:
            self.tokens.give_back(tokens)
        if self._probing is not None:
            self._probing.gave_back()
        self._allowances.give_back(tokens)

    def settle(self, now: float, *, expected: float, used: float) -> None:
        """A call that was started with `expected` tokens really used `used`."""
        if self.tokens is None:
            return
        if used > expected:
            self.tokens.take(now, used - expected)
        else:
            self.tokens.give_back(expected - used)

    # -- learning ------------------------------------------------------------------------------

    def after_limit(
        self, now: float, retry_after: float | None = None, *, started_at: float | None = None
    ) -> None:
        """A call was refused for the rate. `started_at` tells refusals of one herd apart."""
        began = now if started_at is None else started_at
        # Calls that were in the air when the first refusal came tell nothing new about the pace.
        news = began > self._limited_at and (started_at is not None or now >= self.rest_until)
        self._streak += news
        if retry_after is None:
            rest = min(self.rates.cooldown_s * self._growth(), MAX_GUESSED_REST_S)
        else:
            rest = self._meant_s(retry_after)
        self.rest_until = max(self.rest_until, now + rest)
        if news:
            self._limited_at = now
            if self.rates.adaptive:
                self._slow_down(now)
        self._grown_at = self.rest_until
        self._probe(now, began, refused=True)
        if self.requests is not None:
            self.requests.drain(self.rest_until)

    def after_success(self, now: float, *, started_at: float | None = None) -> None:
        """A call was answered."""
        self._count_win(now)
        self._probe(now, now if started_at is None else started_at, refused=False)
        if (now if started_at is None else started_at) <= self._limited_at:
            return
        self._streak = 0
        gained = min(now - self._grown_at, 1.0)
        at_full = self.share >= 1.0 and not self._learnt
        if gained <= 0 or at_full or not self._is_short(now):
            return
        self._grown_at = now
        if self._peak is None:
            share = self.share * (1.0 + gained)
        else:
            share = self.share + self._peak * max(gained / RECOVER_S, 1.0 / RECOVER_ANSWERS)
        self._set_share(now, share)

    def after_headers(self, now: float, headers: Mapping[str, str], *, unix_now: float) -> None:
        """A reply came with these headers; names are lower case, `unix_now` is Unix time."""
        if self.rates.heeding:
            self._allowances.heed(now, remaining(headers, unix_now=unix_now))

    # -- inside --------------------------------------------------------------------------------

    def _growth(self) -> float:
        return 2.0 ** min(max(self._streak, 1) - 1, 30)

    def _meant_s(self, said_s: float) -> float:
        # A 0 is what a shorter wait than any that the upstream can name was rounded to, unless it
        # goes on refusing. The refused call itself waits for SOON_S; this is about all the others.
        if said_s <= 0:
            return min(self._shortest_said_s * self._growth(), SOON_S)
        self._shortest_said_s = min(self._shortest_said_s, said_s)
        return said_s

    def _is_short(self, now: float) -> bool:
        # Success says something about a faster pace only while this one holds calls back.
        buckets = (self.requests, self.tokens)
        return any(bucket is not None and bucket.wait_s(now) > 0 for bucket in buckets)

    def _probe(self, now: float, began: float, *, refused: bool) -> None:
        if self._probing is None:
            return
        before = self._probing.rate_per_s
        self._probing.note(
            now,
            started_at=began,
            refused=refused,
            held_back=self._is_short(now),
            rest_until=self.rest_until,
        )
        rate = self._probing.rate_per_s
        if rate is None:
            self.requests = None
        elif self.requests is None:
            self.requests = found_bucket(rate)
        elif rate != before:
            self.requests.set_rate(now, rate)
            self.requests.burst = 1.0 + LATE_S * rate

    def _slow_down(self, now: float) -> None:
        if self.requests is None:
            self._learn(now)
            return
        self._peak = self.share if self._learnt else 1.0
        self._set_share(now, self.share / 2.0)

    def _learn(self, now: float) -> None:
        since = now if self._wins_since is None else self._wins_since
        seen = max(self._wins_per_s, self._wins / max(now - since, 1.0), LEAST_LEARNT_PER_S)
        self._learnt = True
        self._peak = None
        self._base["requests"] = seen
        self.requests = found_bucket(seen)

    def _set_share(self, now: float, share: float) -> None:
        least, most = LEAST_SHARE, 1.0
        if self._learnt:
            base = self._base["requests"]
            least, most = LEAST_LEARNT_PER_S / base, max(1.0, MOST_PER_S / base)
        self.share = min(max(share, least), most)
        shares = (
            (self.requests, "requests", self.share),
            (self.tokens, "tokens", min(self.share, 1)),
        )
        for bucket, unit, part in shares:
            if bucket is not None:
                bucket.set_rate(now, self._base[unit] * part)

    def _count_win(self, now: float) -> None:
        if self._wins_since is None:
            self._wins_since = now
        self._wins += 1
        elapsed = now - self._wins_since
        if elapsed >= 1.0:
            self._wins_per_s = self._wins / elapsed
            self._wins, self._wins_since = 0, now
