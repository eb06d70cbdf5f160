"""The limiters of many upstreams: one for each deployment and one for each API key."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from scillm.resilience.account import key_name
from scillm.resilience.joint_slot import JointSlot
from scillm.resilience.limiter import Limiter
from scillm.resilience.limits import Rates

if TYPE_CHECKING:
    from scillm.resilience.slot import Slot

DEPLOYMENT, ACCOUNT, GATE = "deployment-", "account-", "gate-"
ONE_AT_A_TIME = Rates(max_concurrency=1, adaptive=False)
MOST_LIMITERS = 1024
"""Beyond this many, limiters that nobody uses and that remember nothing are forgotten."""


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
        return self.account(key_name(api_key), rates)

    def account(self, name: str, rates: Rates | None = None) -> Limiter:
        """The limiter of an `account_name`: a key at one upstream. `rates` as in `key`."""
        return self._limiter(f"{ACCOUNT}{name}", rates or self._key_rates)

    def gate(self, deployment: str) -> Limiter:
        """Where calls of a deployment line up one at a time, in this process."""
        return self._limiter(f"{GATE}{deployment}", ONE_AT_A_TIME, new=_local)

    def resting(self) -> dict[str, float]:
        """Deployments and accounts whose limiter rests, and for how many seconds yet."""
        with self._lock:
            known = list(self._limiters.items())
        rests = {}
        for prefix in (DEPLOYMENT, ACCOUNT):
            for name, one in known:
                if name.startswith(prefix) and (rest_s := one.rest_s()) > 0:
                    rests[name.removeprefix(prefix)] = rest_s
        return rests

    def slot(
        self,
        deployment: str,
        *,
        api_key: str | None = None,
        tokens: float = 0.0,
        max_wait_s: float = inf,
        key_rests: bool = False,
    ) -> Slot | JointSlot:
        """A place at the deployment and, where a key is named, at the key.

        A refusal reported to the slot rests the deployment, not its siblings with the same key:
        most upstreams limit the models of a key separately. With `key_rests` it rests the key.
        """
        own = self.deployment(deployment)
        if api_key is None:
            return own.slot(tokens, max_wait_s=max_wait_s)
        return JointSlot(
            self.gate(deployment),
            own,
            self.key(api_key),
            tokens=tokens,
            max_wait_s=max_wait_s,
            key_rests=key_rests,
        )

    def _limiter(
        self, name: str, rates: Rates, *, new: Callable[[Rates, str], Limiter] | None = None
    ) -> Limiter:
        found = self._limiters.get(name)
        if found is not None:
            return found
        with self._lock:
            if len(self._limiters) >= MOST_LIMITERS:
                self._forget_idle()
            known = self._limiters.get(name) or self._idle.get(name)
            if known is None:
                known = (new or self._new)(rates, name)
            self._limiters[name] = known
            return known

    def _forget_idle(self) -> None:
        idle = {name: one for name, one in self._limiters.items() if one.is_idle()}
        self._idle.update(idle)
        for name in idle:
            del self._limiters[name]


def _local(rates: Rates, name: str) -> Limiter:
    return Limiter(rates, name=name)
