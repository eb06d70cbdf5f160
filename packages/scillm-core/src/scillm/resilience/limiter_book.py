"""The limiters of many upstreams: one for each deployment and one for each API key."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from weakref import WeakValueDictionary

from scillm.resilience.limiter import Limiter, Slot
from scillm.resilience.limits import Rates

DEPLOYMENT = "deployment-"
MOST_LIMITERS = 1024
"""Beyond this many, limiters that nobody uses and that remember nothing are forgotten."""


def key_name(api_key: str) -> str:
    """What a key is called in the book and in messages: a hash, never the key."""
    return f"key-{hashlib.sha256(api_key.encode()).hexdigest()[:16]}"


class LimiterBook:
    """Finds the limiter of a deployment or of a key, and makes it at first use. Remembers them.

    `new` makes a limiter from rates and a name (for virtual time, or shared between processes).
    `deployment_rates` and `key_rates` hold for those named without rates of their own.
    """

    def __init__(
        self,
        *,
        deployment_rates: Rates | None = None,
        key_rates: Rates | None = None,
        new: Callable[[Rates, str], Limiter] | None = None,
    ) -> None:
        self._deployment_rates = deployment_rates or Rates()
        self._key_rates = key_rates or Rates()
        self._new = new or _local
        self._limiters: dict[str, Limiter] = {}
        # Idle ones, for as long as somebody else still holds them: there are never two of a name.
        self._idle: WeakValueDictionary[str, Limiter] = WeakValueDictionary()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._limiters)

    def deployment(self, name: str, rates: Rates | None = None) -> Limiter:
        """The limiter of a deployment; `rates` count only at its first use."""
        return self._limiter(f"{DEPLOYMENT}{name}", rates or self._deployment_rates)

    def key(self, api_key: str, rates: Rates | None = None) -> Limiter:
        """The limiter of an API key; `rates` count only at its first use."""
        return self._limiter(key_name(api_key), rates or self._key_rates)

    def resting(self) -> dict[str, float]:
        """Deployments whose limiter rests, and for how many seconds yet."""
        with self._lock:
            known = list(self._limiters.items())
        rests = {name: one.rest_s() for name, one in known if name.startswith(DEPLOYMENT)}
        return {name.removeprefix(DEPLOYMENT): rest for name, rest in rests.items() if rest > 0}

    @asynccontextmanager
    async def slot(
        self,
        deployment: str,
        *,
        api_key: str | None = None,
        tokens: float = 0.0,
        max_wait_s: float = inf,
    ) -> AsyncIterator[Slot]:
        """A place at the deployment and, first, at the key; the slot is the deployment's.

        A refusal reported to the slot rests the deployment, not its siblings with the same key:
        upstreams limit models of one key separately. Report it to `key(…)` too where they do not.
        """
        own = self.deployment(deployment)
        if api_key is None:
            async with own.slot(tokens, max_wait_s=max_wait_s) as slot:
                yield slot
            return
        async with self.key(api_key).slot(tokens, max_wait_s=max_wait_s) as held:
            left_s = max(0.0, max_wait_s - held.waited_s)
            async with own.slot(tokens, max_wait_s=left_s) as slot:
                try:
                    yield slot
                finally:
                    held.used(slot.tokens)

    def _limiter(self, name: str, rates: Rates) -> Limiter:
        found = self._limiters.get(name)
        if found is not None:
            return found
        with self._lock:
            if len(self._limiters) >= MOST_LIMITERS:
                self._forget_idle()
            known = self._limiters.get(name) or self._idle.get(name) or self._new(rates, name)
            self._limiters[name] = known
            return known

    def _forget_idle(self) -> None:
        idle = {name: one for name, one in self._limiters.items() if one.is_idle()}
        self._idle.update(idle)
        for name in idle:
            del self._limiters[name]


def _local(rates: Rates, name: str) -> Limiter:
    return Limiter(rates, name=name)
