"""Pacing: which limiter a call to a deployment waits at, if it waits at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm.resilience.limiter_book import LimiterBook, key_name
from scillm.resilience.limits import Rates

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.resilience.limiter import Limiter
    from scillm.routing.legs import Leg


class Pacing:
    """The limiters of a Router. Remembers them by deployment, or by endpoint and model.

    A limiter makes all calls of the Router share an upstream's pause. Calls go through one when
    they may retry, or when a rate or a number of concurrent calls is set; otherwise not at all.
    """

    def __init__(self, settings: Mapping[str, Json]) -> None:
        qps = settings.get("rate_limit_qps")
        most = settings.get("max_concurrency")
        self._always = qps is not None or most is not None
        adaptive = settings.get("adaptive_pace")
        self._book = LimiterBook(
            deployment_rates=Rates(
                rpm=None if qps is None else qps * 60.0,
                max_concurrency=most,
                cooldown_s=settings.get("cooldown_429_s", 1.0),
                adaptive=qps is not None if adaptive is None else adaptive,
            )
        )

    def limiter(self, leg: Leg, *, may_wait: bool) -> Limiter | None:
        """The limiter for `leg`, or None when nothing paces it."""
        if not (may_wait or self._always):
            return None
        if leg.deployment is not None:
            return self._book.deployment(leg.deployment.id)
        endpoint = leg.endpoint
        key = key_name(endpoint.api_key) if endpoint.api_key else ""
        return self._book.deployment(
            f"{endpoint.provider} {endpoint.api_base} {leg.request.model} {key}"
        )
