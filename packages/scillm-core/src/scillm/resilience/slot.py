"""One call's place at a limiter."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from scillm.resilience.limiter import Limiter


class Slot:
    """One call's place: `async with limiter.slot(tokens=…) as slot`. Remembers when it began.

    Tell it how the call ended: `succeeded(headers)`, `limited(retry_after)`, `used(tokens)`. Other
    endings need no word.
    """

    __slots__ = ("_limiter", "max_wait_s", "started_at", "tokens", "waited_s")

    def __init__(self, limiter: Limiter, tokens: float, max_wait_s: float) -> None:
        self._limiter = limiter
        self.tokens = tokens
        self.max_wait_s = max_wait_s
        self.started_at = inf
        self.waited_s = 0.0
        """Seconds this call has waited for its turn."""

    async def __aenter__(self) -> Slot:
        limiter = self._limiter
        now = limiter.clock()
        if not limiter.enter_now(self.tokens, now):
            entered = now
            now = await limiter.wait_turn(self.tokens, now + self.max_wait_s)
            self.waited_s = now - entered
        self.started_at = now
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._limiter.leave()

    def succeeded(self, headers: Mapping[str, str] | None = None) -> None:
        """The upstream answered; `headers` of its reply, names in lower case."""
        self._limiter.succeeded(headers, started_at=self.started_at)

    def limited(
        self, retry_after: float | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """The upstream refused for the rate and asked for `retry_after` seconds, if it did."""
        self._limiter.limited(retry_after, headers, started_at=self.started_at)

    def used(self, tokens: float) -> None:
        """How many tokens the call really cost; corrects what was expected."""
        self._limiter.settle(expected=self.tokens, used=tokens)
        self.tokens = tokens

    def hold(self) -> Callable[[], None]:
        """Keep the place beyond the end of the slot, for a stream; returns what gives it back."""
        self._limiter.hold()
        return self._limiter.leave

    def starts_now(self) -> None:
        """The call has waited for something else meanwhile: its turn counts from now."""
        self._limiter.take_back(self.tokens)
        self.started_at = self._limiter.take(self.tokens)

    def take_back(self) -> None:
        """The call does not start after all: its turn is given to others."""
        self._limiter.take_back(self.tokens)
