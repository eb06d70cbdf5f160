"""What a flight says of itself: attempts, and the events, log lines and callbacks about them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from scillm.errors import (
    APIConnectionError,
    MalformedReplyError,
    ProviderError,
    RateLimitError,
    ScillmError,
)
from scillm.events import (
    AttemptCancelled,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    GaveUp,
    Hedged,
    RetryScheduled,
)
from scillm.records import Attempt
from scillm.resilience.retry import announced_wait

if TYPE_CHECKING:
    from scillm.resilience.retry import Decision
    from scillm.routing.legs import Leg
    from scillm.routing.policy import Callbacks
    from scillm.routing.retry_log import RetryLog

CANCELLED = "cancelled"
"""Outcome of an attempt that was given up under way."""


def _nobody(_event: Event) -> None:
    return


class FlightLog:
    """The story of one call. Remembers its attempts, rounds, waits and hedges.

    `emit` is None when nobody listens.
    """

    def __init__(
        self,
        *,
        model: str,
        call_id: str,
        emit: Callable[[Event], None] | None,
        lines: RetryLog,
        callbacks: Callbacks,
    ) -> None:
        self.attempts: list[Attempt] = []
        self.rounds = 0
        self.slept_s = 0.0
        self.hedges = 0
        self.last_retry_after_s: float | None = None
        self.call_id = call_id
        self.started = time.monotonic()
        self.round_started = self.started
        self._model = model
        self._emit = emit or _nobody
        self._is_heard = emit is not None
        self._lines = lines
        self._callbacks = callbacks
        self._begun = 0
        self._left: tuple[int, ...] = ()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the call began."""
        return time.monotonic() - self.started

    # -- rounds and attempts -------------------------------------------------------------------

    def round_begins(self) -> None:
        """A round through the deployments begins."""
        self.rounds += 1
        self.round_started = time.monotonic()

    def began(self, leg: Leg) -> int:
        """An attempt begins; returns its number, from 1 within the call."""
        self._begun += 1
        if self._is_heard:
            self._emit(AttemptStarted(number=self._begun, **self._where(leg)))
        return self._begun

    def leaves(self, number: int) -> None:
        """The attempt has waited its turn, and its request leaves now."""
        self._left += (number,)

    def has_left(self, number: int) -> bool:
        """Whether the attempt's request was sent, as far as is known here."""
        return number in self._left

    def answered(self, leg: Leg, number: int, elapsed_s: float, *, hedge: bool) -> None:
        """An attempt was answered."""
        self.attempts.append(
            Attempt(
                endpoint=leg.endpoint.label,
                model=leg.request.model,
                outcome="ok",
                elapsed_s=elapsed_s,
                hedge=hedge,
                billed=True,
            )
        )
        if self._is_heard:
            self._emit(AttemptSucceeded(number=number, elapsed_s=elapsed_s, **self._where(leg)))

    def failed(
        self, error: ScillmError, leg: Leg, number: int, elapsed_s: float, *, hedge: bool
    ) -> None:
        """An attempt failed; the error is given every attempt so far."""
        status = error.status_code if isinstance(error, ProviderError) else None
        retry_after = error.retry_after if isinstance(error, ProviderError) else None
        self.attempts.append(
            Attempt(
                endpoint=leg.endpoint.label,
                model=leg.request.model,
                outcome=type(error).__name__,
                status_code=status,
                elapsed_s=elapsed_s,
                message=error.message,
                hedge=hedge,
                billed=self.has_left(number) and may_be_billed(error),
            )
        )
        if retry_after is not None:
            self.last_retry_after_s = retry_after
        self.tell_attempts(error)
        self._emit(
            AttemptFailed(
                number=number,
                elapsed_s=elapsed_s,
                error=type(error).__name__,
                status_code=status,
                retry_after=retry_after,
                **self._where(leg),
            )
        )

    def cancelled(self, leg: Leg, number: int, elapsed_s: float, *, hedge: bool) -> None:
        """An attempt was given up: an upstream that has its request may charge all the same."""
        self.attempts.append(
            Attempt(
                endpoint=leg.endpoint.label,
                model=leg.request.model,
                outcome=CANCELLED,
                elapsed_s=elapsed_s,
                hedge=hedge,
                billed=self.has_left(number),
            )
        )
        self._emit(AttemptCancelled(number=number, elapsed_s=elapsed_s, **self._where(leg)))

    def hedged(self, slow: Leg, to: Leg, after_s: float) -> None:
        """One more request leaves beside one that has not answered."""
        self.hedges += 1
        self._emit(
            Hedged(
                call_id=self.call_id,
                model=self._model,
                slow=slow.endpoint.label,
                to=to.endpoint.label,
                after_s=after_s,
            )
        )

    def tell_attempts(self, error: ScillmError) -> None:
        """Give the error every attempt so far."""
        if isinstance(error, ProviderError):
            error.attempts = tuple(self.attempts)

    # -- between rounds ------------------------------------------------------------------------

    def retry(self, error: ScillmError, decision: Decision, elapsed_s: float) -> None:
        """Another round follows after the decided wait."""
        told = {
            "event": "429_retry" if isinstance(error, RateLimitError) else "retry",
            "model": self._model,
            "attempt": self.rounds,
            "attempt_no": self.rounds,
            "next_sleep_s": decision.wait_s,
            "reason": decision.reason,
            "retry_after": announced_wait(error),
            "elapsed_s": elapsed_s,
            "attempt_start_monotonic": self.round_started,
            "remaining_time_s": decision.remaining_time_s,
            "remaining_attempts": decision.remaining_attempts,
            "cumulative_sleep_s": self.slept_s,
        }
        self._lines.retry(told)
        self._tell(self._callbacks.on_attempt, told)
        self._emit(
            RetryScheduled(
                call_id=self.call_id,
                model=self._model,
                attempt=self.rounds,
                wait_s=decision.wait_s or 0.0,
                reason=decision.reason,
                remaining_time_s=decision.remaining_time_s,
                remaining_attempts=decision.remaining_attempts,
            )
        )

    def gave_up(self, error: ScillmError, decision: Decision, elapsed_s: float) -> None:
        """No further round."""
        told = {
            "event": "429_giveup" if isinstance(error, RateLimitError) else "giveup",
            "model": self._model,
            "attempts": self.rounds,
            "elapsed_s": elapsed_s,
            "cumulative_sleep_s": self.slept_s,
            "last_error": error.message[:200],
            "reason": decision.reason,
            "why": decision.why,
            "retry_after": announced_wait(error),
            "attempt_start_monotonic": self.round_started,
            "remaining_time_s": decision.remaining_time_s,
            "remaining_attempts": decision.remaining_attempts,
        }
        self._lines.give_up(told)
        self._tell(self._callbacks.on_giveup, told)
        self._emit(
            GaveUp(
                call_id=self.call_id,
                model=self._model,
                attempts=self.rounds,
                why=decision.why,
                reason=decision.reason,
            )
        )

    def won(self) -> None:
        """The call was answered after more than one round."""
        told = {
            "model": self._model,
            "latency_ms": (time.monotonic() - self.round_started) * 1000.0,
            "attempts": self.rounds,
            "retries": self.rounds - 1,
            "hedges": self.hedges,
            "cumulative_sleep_s": self.slept_s,
        }
        self._tell(self._callbacks.on_success, told)

    def _tell(
        self, callback: Callable[[Mapping[str, Any]], object] | None, told: Mapping[str, Any]
    ) -> None:
        if callback is not None:
            self._lines.guarded(callback, told)

    def _where(self, leg: Leg) -> dict[str, str]:
        return {
            "call_id": self.call_id,
            "endpoint": leg.endpoint.label,
            "provider": leg.endpoint.provider,
            "model": leg.request.model,
        }


def may_be_billed(error: ScillmError) -> bool:
    """Whether a failed attempt may cost: a reply that never came whole, or that is useless."""
    if isinstance(error, APIConnectionError):
        return error.status_code is None and error.was_sent
    return isinstance(error, MalformedReplyError)
