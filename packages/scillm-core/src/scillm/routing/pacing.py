"""Pacing: which limiter a call to a deployment waits at, if it waits at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import evolve

from scillm.events import Event, SharedPaceChanged
from scillm.resilience.limiter_book import LimiterBook, key_name
from scillm.resilience.limits import rates_from

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.resilience.limiter import Limiter
    from scillm.resilience.shared_redis import RedisPacing
    from scillm.routing.legs import Leg


REDIS_S = 2.0
"""A call waits at most twice this long for Redis before it goes on without."""


def _nobody(_event: Event) -> None:
    return


class Pacing:
    """The limiters of a Router. Remembers them by deployment, or by endpoint and model.

    A limiter makes all calls of the Router share an upstream's pause. Calls go through one when
    they may retry, or when a rate or a number of concurrent calls is set; otherwise not at all.
    With `redis_url` rates and rests hold for every process that names the same Redis; while it
    does not answer, this process paces itself alone and tells `emit` so, once.
    """

    def __init__(
        self,
        settings: Mapping[str, Json],
        *,
        redis_url: str | None = None,
        width: int | None = None,
        emit: Callable[[Event], None] = _nobody,
    ) -> None:
        qps = settings.get("rate_limit_qps")
        most = width or settings.get("max_concurrency")
        self._always = qps is not None or most is not None
        adaptive = settings.get("adaptive_pace")
        self._shared: RedisPacing | None = None
        self._emit = emit
        if redis_url:
            from scillm.resilience.shared_redis import RedisPacing

            self._shared = RedisPacing(redis_url, timeout_s=REDIS_S, on_change=self._changed)
        self._rates = evolve(
            rates_from(settings),
            max_concurrency=most,
            adaptive=qps is not None if adaptive is None else adaptive,
        )
        self._book = LimiterBook(
            deployment_rates=self._rates, new=self._shared.limiter if self._shared else None
        )

    def resting(self) -> dict[str, float]:
        """Who rests, as `limiter` names them, and for how many seconds yet."""
        return self._book.resting()

    async def aclose(self) -> None:
        """Close the connections to Redis of the running event loop, if there are any."""
        if self._shared is not None:
            await self._shared.aclose()

    def _changed(self, lost: str | None) -> None:
        self._emit(SharedPaceChanged(shared=lost is None, reason=lost or ""))

    def limiter(self, leg: Leg, *, may_wait: bool) -> Limiter | None:
        """The limiter for `leg`, or None when nothing paces it."""
        row = leg.deployment
        own = None if row is None else row.max_parallel_requests
        if not (may_wait or self._always or own):
            return None
        if row is not None:
            rates = evolve(self._rates, max_concurrency=own) if own else None
            return self._book.deployment(row.id, rates)
        endpoint = leg.endpoint
        key = key_name(endpoint.api_key) if endpoint.api_key else ""
        return self._book.deployment(
            f"{endpoint.provider} {endpoint.api_base} {leg.request.model} {key}"
        )
