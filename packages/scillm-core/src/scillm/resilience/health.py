"""Health: which deployment rests until when. A decision machine; every method takes `now`.

Rules measured on LiteLLM's Router (cooldown handlers), stated in `docs/guide/routing.md`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from scillm.errors import PaymentRequiredError, ProviderError, RateLimitError
from scillm.resilience.retry_after import wait_meant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.errors import ScillmError

WINDOW_S = 60.0
FEW_REQUESTS = 5
MANY_REQUESTS = 1000
AT_ONCE = frozenset({401, 402})
"""Statuses that rest a deployment at the first failure: waiting will not mend a key."""


@frozen(kw_only=True)
class CooldownRules:
    """When a deployment rests, and for how long by default (seconds; 0 means never)."""

    default_s: float = 5.0
    disabled: bool = False
    allowed_fails: int | None = None
    """Failures per minute that are tolerated; None for the default rules."""
    allowed_fails_by_error: Mapping[str, int] = field(factory=dict)


@define
class _Second:
    """What ended in one second."""

    number: int
    total: int = 0
    fails: int = 0


@define
class _Record:
    """What is remembered of one deployment: its last minute and the end of its rest.

    Counted by the second, so that it does not grow with the number of calls.
    """

    seconds: deque[_Second] = field(factory=deque)
    total: int = 0
    fails: int = 0
    rest_until: float = 0.0

    def add(self, now: float, *, failed: bool) -> None:
        number = int(now // 1.0)
        seconds = self.seconds
        if not seconds or seconds[-1].number != number:
            seconds.append(_Second(number))
            while seconds[0].number + 1 <= now - WINDOW_S:
                old = seconds.popleft()
                self.total -= old.total
                self.fails -= old.fails
        second = seconds[-1]
        second.total += 1
        second.fails += failed
        self.total += 1
        self.fails += failed


class Health:
    """The rests of all deployments of a Router, shared by its flights."""

    def __init__(self, rules: CooldownRules | None = None) -> None:
        self.rules = rules or CooldownRules()
        self._records: dict[str, _Record] = {}
        self._any_rest_until = 0.0

    def anything_rests(self, now: float) -> bool:
        """Whether any deployment may be resting; False is certain."""
        return now < self._any_rest_until

    def rest_s(self, name: str, now: float) -> float:
        """Seconds until `name` may be asked again; 0 when it may be asked now."""
        if now >= self._any_rest_until:
            return 0.0
        record = self._records.get(name)
        return 0.0 if record is None else max(0.0, record.rest_until - now)

    def resting(self, now: float) -> dict[str, float]:
        """Who rests, and for how many seconds yet."""
        left = {name: record.rest_until - now for name, record in self._records.items()}
        return {name: rest_s for name, rest_s in left.items() if rest_s > 0}

    def succeeded(self, name: str, now: float) -> None:
        """Note an answer."""
        self._note(name, now, failed=False)

    def failed(
        self,
        name: str,
        error: ScillmError,
        now: float,
        *,
        siblings: int,
        cooldown_s: float | None = None,
    ) -> float:
        """Note a failure; returns how long `name` now rests (0 for not at all).

        `siblings` counts the other deployments of its group. `cooldown_s` is the deployment's
        own; it wins over the error's Retry-After, which wins over the default.
        """
        record = self._note(name, now, failed=True)
        if self.rules.disabled or not may_cool(error):
            return 0.0
        if not self._is_enough(record, error, siblings=siblings):
            return 0.0
        rest_s = self._rest_for(error, cooldown_s)
        self._rest(record, now + rest_s)
        return rest_s

    def rest(self, name: str, now: float, rest_s: float) -> None:
        """Let `name` rest, whatever it has answered."""
        self._rest(self._records.setdefault(name, _Record()), now + rest_s)

    def _rest(self, record: _Record, until: float) -> None:
        record.rest_until = max(record.rest_until, until)
        self._any_rest_until = max(self._any_rest_until, until)

    def _note(self, name: str, now: float, *, failed: bool) -> _Record:
        record = self._records.get(name)
        if record is None:
            record = self._records[name] = _Record()
        record.add(now, failed=failed)
        return record

    def _is_enough(self, record: _Record, error: ScillmError, *, siblings: int) -> bool:
        fails = record.fails
        allowed = self._allowed(error)
        if allowed is not None:
            return fails > allowed
        total = record.total
        if siblings == 0:
            return total >= MANY_REQUESTS and fails == total
        status = error.status_code if isinstance(error, ProviderError) else None
        if isinstance(error, (RateLimitError, PaymentRequiredError)) or status in AT_ONCE:
            return True
        return total >= FEW_REQUESTS and fails * 2 > total

    def _allowed(self, error: ScillmError) -> int | None:
        for cls in type(error).__mro__:
            if cls.__name__ in self.rules.allowed_fails_by_error:
                return self.rules.allowed_fails_by_error[cls.__name__]
        return self.rules.allowed_fails

    def _rest_for(self, error: ScillmError, cooldown_s: float | None) -> float:
        if cooldown_s is not None:
            return cooldown_s
        announced = error.retry_after if isinstance(error, ProviderError) else None
        return self.rules.default_s if announced is None else wait_meant(announced)


def may_cool(error: ScillmError) -> bool:
    """Whether an error says something about the deployment: 429, 401, 402, 404, 408 and 5xx do."""
    if isinstance(error, PaymentRequiredError):
        return True  # some upstreams say with 400 or 429 that there is no credit
    status = error.status_code if isinstance(error, ProviderError) else None
    return status is not None and (status in (401, 402, 404, 408, 429) or status >= 500)
