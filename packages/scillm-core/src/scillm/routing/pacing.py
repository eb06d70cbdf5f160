"""Pacing: which limiters a call to a deployment waits at, if it waits at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import evolve

from scillm.events import Event, SharedPaceChanged
from scillm.resilience.account import account_name
from scillm.resilience.joint_slot import JointSlot
from scillm.resilience.limiter_book import LimiterBook
from scillm.resilience.limits import Rates, rates_from
from scillm.routing.key_limits import KeyLimits

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.resilience.limiter import Limiter
    from scillm.resilience.shared_redis import RedisPacing
    from scillm.resilience.slot import Slot
    from scillm.routing.legs import Leg


MOST_NAMES = 1000
"""Names of keys that are kept, so that they need not be hashed for every call."""
REDIS_S = 2.0
"""A call waits at most twice this long for Redis before it goes on without."""


def _nobody(_event: Event) -> None:
    return


class Pacing:
    """The limiters of a Router. Remembers them by deployment, or by endpoint and model, and by key.

    A limiter makes all calls of the Router share an upstream's pause. Calls go through one when
    they may retry, or when a rate or a number of concurrent calls is set; otherwise not at all.
    A rate holds for all deployments with the same address and key together, and for each of them.
    With `redis_url` rates and rests hold for every process that names the same Redis; while it
    does not answer, this process paces itself alone and tells `emit` so, once.
    """

    def __init__(
        self,
        settings: Mapping[str, Json],
        *,
        redis_url: str | None = None,
        width: int | None = None,
        limits: KeyLimits | None = None,
        emit: Callable[[Event], None] = _nobody,
    ) -> None:
        rates, limits = rates_from(settings), limits or KeyLimits()
        rpm = rates.rpm if limits.rpm is None else limits.rpm
        has_rate = rpm is not None or limits.tpm is not None
        most = width or settings.get("max_concurrency")
        adaptive = settings.get("adaptive_pace")
        self._settings = settings
        self._key_rests = limits.key_rests
        self._has_keys = has_rate or self._key_rests
        self._always = has_rate or most is not None
        self._shared: RedisPacing | None = None
        self._emit = emit
        if redis_url:
            from scillm.resilience.shared_redis import RedisPacing

            self._shared = RedisPacing(redis_url, timeout_s=REDIS_S, on_change=self._changed)
        paced = evolve(
            rates,
            rpm=rpm,
            tpm=limits.tpm,
            max_concurrency=None,
            adaptive=has_rate if adaptive is None else adaptive,
            probing=adaptive is None,
        )
        # Whoever hears the refusals adapts: the other one only keeps to the rate.
        deaf = evolve(paced, adaptive=False, probing=False)
        bare = Rates(cooldown_s=rates.cooldown_s, adaptive=False)
        self._rates = evolve(bare if self._key_rests else paced, max_concurrency=most)
        self._book = LimiterBook(
            deployment_rates=self._rates,
            key_rates=paced if self._key_rests else deaf,
            new=self._shared.limiter if self._shared else None,
        )
        self._accounts: dict[tuple[str, str | None, str | None], str] = {}

    def resting(self) -> dict[str, float]:
        """Who rests, by deployment or address and key, and for how many seconds yet."""
        return self._book.resting()

    async def aclose(self) -> None:
        """Close the connections to Redis of the running event loop, if there are any."""
        if self._shared is not None:
            await self._shared.aclose()

    def paces(self, leg: Leg, *, may_wait: bool) -> bool:
        """Whether a call to `leg` goes through limiters at all."""
        row = leg.deployment
        return may_wait or self._always or (row is not None and bool(row.max_parallel_requests))

    def slot(self, leg: Leg, *, max_wait_s: float) -> Slot | JointSlot:
        """A place for a call to `leg`."""
        name, own = self._deployment(leg)
        if not self._has_keys:
            return own.slot(max_wait_s=max_wait_s)
        return JointSlot(
            self._book.gate(name),
            own,
            self._book.account(self._account(leg)),
            max_wait_s=max_wait_s,
            key_rests=self._key_rests,
        )

    def is_free(self, leg: Leg) -> bool:
        """Whether a call to `leg` would start at once."""
        name, own = self._deployment(leg)
        if not self._has_keys:
            return own.is_free()
        key = self._book.account(self._account(leg))
        return self._book.gate(name).is_free() and own.is_free() and key.is_free()

    def _changed(self, lost: str | None) -> None:
        self._emit(SharedPaceChanged(shared=lost is None, reason=lost or ""))

    def _deployment(self, leg: Leg) -> tuple[str, Limiter]:
        row = leg.deployment
        if row is None:
            provider, account = leg.endpoint.provider, self._account(leg)
            name = " ".join(dict.fromkeys((provider, account, leg.request.model)))
            return name, self._book.deployment(name)
        own = row.max_parallel_requests
        rates = evolve(self._rates, max_concurrency=own) if own else None
        return row.id, self._book.deployment(row.id, rates)

    def _account(self, leg: Leg) -> str:
        at = leg.endpoint
        place = (at.provider, at.api_base, at.api_key)
        name = self._accounts.get(place)
        if name is None:
            from scillm.providers.openai_like import resolved

            whole = resolved(at, self._settings)
            if len(self._accounts) >= MOST_NAMES:
                self._accounts.clear()
            name = account_name(whole.provider, whole.api_base, whole.api_key)
            self._accounts[place] = name
        return name
