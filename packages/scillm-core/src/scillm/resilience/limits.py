"""What an upstream may be asked: rates, and the token bucket that keeps to them.

Nothing here looks at a clock: `now` is any clock in seconds that does not go backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite
from typing import TYPE_CHECKING

from attrs import define, frozen

from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json

GRAIN_S = 1e-6
"""A shorter wait is none: clocks and sleeps are no finer. It adds nothing up, because a bucket
keeps its books by amounts, not by the moments at which waiters came back."""

LATE_S = 0.025
"""Timers ring late. At a pace that was found out, so much time is made up for; with one call at a
time, and nothing made up, 200 a second are 140 on a busy machine."""


@frozen(kw_only=True)
class Rates:
    """What one upstream may be asked. None means no limit known.

    In any time t at most `burst` + rate·t calls start. `burst` counts calls, and defaults to one
    second's worth, at least 1; for tokens one second's worth too, and a call that needs more than
    that starts when the bucket is full and is paid off afterwards.
    """

    rpm: float | None = None
    tpm: float | None = None
    burst: float | None = None
    max_concurrency: int | None = None
    cooldown_s: float = 1.0
    """Rest after a refusal that names no time; doubles while refusals go on, at most to 60 s."""
    adaptive: bool = True
    """Slow down after refusals, speed up with success."""
    probing: bool = False
    """Without `adaptive` and without `rpm`: slow down as long as that is found to help."""
    heeding: bool = True
    """Start no more calls than the headers of the last reply say are left, until they reset."""

    def __attrs_post_init__(self) -> None:
        least = {"rpm": 0.0, "tpm": 0.0, "burst": 1.0, "max_concurrency": 1.0, "cooldown_s": 0.0}
        for name, floor in least.items():
            value = getattr(self, name)
            strict = name in ("rpm", "tpm")
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (
                is_number and isfinite(value) and value >= floor and not (strict and value == 0)
            ):
                wanted = "a number above 0" if strict else f"a number, {floor:g} or more"
                raise UsageError(
                    f"{name} must be {wanted}, but is {value!r}. To have no limit, leave it out."
                )


def rates_from(settings: Mapping[str, Json]) -> Rates:
    """The rates of SCILLM_RATE_LIMIT_QPS, SCILLM_MAX_CONCURRENCY and SCILLM_COOLDOWN_429_S."""
    qps = settings.get("rate_limit_qps")
    return Rates(
        rpm=None if qps is None else qps * 60.0,
        max_concurrency=settings.get("max_concurrency"),
        cooldown_s=settings.get("cooldown_429_s", 1.0),
    )


@define
class Bucket:
    """A token bucket. Remembers one moment: when it will be full again.

    With unit amounts, the N-th acquisition of a bucket that was full starts (N - burst) / rate
    seconds after the first at the earliest.
    """

    rate: float
    """Units per second."""
    burst: float
    full_at: float = -inf

    def wait_s(self, now: float, amount: float = 1.0, *, ahead: float = 0.0) -> float:
        """Seconds until `amount` may be taken, after `ahead` units that others take first."""
        need = ahead + min(amount, self.burst) - self.burst
        wait = max(self.full_at - now, 0.0) + need / self.rate
        return wait if wait > GRAIN_S else 0.0

    def take(self, now: float, amount: float = 1.0) -> None:
        """Use up `amount`; what is not there is paid off by later waits."""
        self.full_at = max(self.full_at, now) + amount / self.rate

    def reserve(self, now: float, amount: float = 1.0) -> float:
        """Take `amount` now and return the seconds to wait before using it.

        Later reservations never start before earlier ones of the same or a smaller amount.
        """
        wait = self.wait_s(now, amount)
        self.take(now, amount)
        return wait

    def give_back(self, amount: float) -> None:
        """Return units that were taken and used for nothing."""
        self.full_at -= amount / self.rate

    def set_rate(self, now: float, rate: float) -> None:
        """From now on fill at `rate`; what is missing stays missing."""
        if self.full_at > now:
            self.full_at = now + (self.full_at - now) * self.rate / rate
        self.rate = rate

    def drain(self, until: float) -> None:
        """At `until` hold one unit at most, so that waiters leave one by one."""
        self.full_at = max(self.full_at, until + (self.burst - 1.0) / self.rate)


def found_bucket(rate: float) -> Bucket:
    """A full bucket for a pace that was found out, in units per second."""
    return Bucket(rate=rate, burst=1.0 + LATE_S * rate)


def bucket_of(per_min: float | None, burst: float | None) -> Bucket | None:
    """A full bucket for `per_min` units a minute; None has none."""
    if per_min is None:
        return None
    rate = per_min / 60.0
    return Bucket(rate=rate, burst=max(1.0, rate) if burst is None else burst)
