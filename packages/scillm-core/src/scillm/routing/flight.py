"""One call in the air: rounds through the legs of a group, waits in between, then the answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen

from scillm.errors import ProviderError, RateLimitError, ScillmError
from scillm.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    GaveUp,
    RetryScheduled,
)
from scillm.models import Completion
from scillm.protocols import RetryState
from scillm.records import Attempt
from scillm.resilience.attempts import try_again
from scillm.resilience.retry import Decision, RetryOptions, announced_wait, budget_of, decide
from scillm.routing.opened import OpenStream

if TYPE_CHECKING:
    from scillm.protocols import RetryPolicy
    from scillm.routing.legs import Leg, Legs
    from scillm.routing.pacing import Pacing
    from scillm.routing.policy import Callbacks
    from scillm.routing.retry_log import RetryLog

Answer = TypeVar("Answer")


@frozen(kw_only=True)
class Rules:
    """How a flight deals with failure."""

    options: RetryOptions
    policy: RetryPolicy
    callbacks: Callbacks
    log: RetryLog
    pacing: Pacing
    draw: Callable[[], float]


class Flight:
    """Asks until somebody answers or the budget ends. Remembers every attempt and every wait."""

    def __init__(
        self, *, model: str, call_id: str, rules: Rules, emit: Callable[[Event], None]
    ) -> None:
        self.attempts: list[Attempt] = []
        self.rounds = 0
        self.slept_s = 0.0
        self.last_retry_after_s: float | None = None
        self._model = model
        self.call_id = call_id
        self._rules = rules
        self._emit = emit
        self._started = time.monotonic()
        self._round_started = self._started

    async def fly(self, legs: Legs, ask: Callable[[Leg], Awaitable[Answer]]) -> tuple[Leg, Answer]:
        """The first answer from `legs`; otherwise the last error, with every attempt on it."""
        self.rounds = 0

        async def one_round() -> tuple[Leg, Answer]:
            return await self._round(legs, ask)

        try:
            found = await one_round()
        except ScillmError as error:
            if not self._rules.options.enabled:
                raise
            first = error
        else:
            return found
        found = await try_again(first, one_round, lambda error: self._wait_for(error, legs))
        self._tell(self._rules.callbacks.on_success, self._success())
        return found

    async def _round(
        self, legs: Legs, ask: Callable[[Leg], Awaitable[Answer]]
    ) -> tuple[Leg, Answer]:
        self.rounds += 1
        self._round_started = time.monotonic()
        tried: set[str] = set()
        last: ScillmError | None = None
        while True:
            leg = legs.next(tried)
            if leg is None:
                raise last or self._all_rest(legs)
            try:
                return leg, await self._attempt(legs, leg, ask)
            except ScillmError as error:
                if not error.try_elsewhere:
                    raise
                last = error
                tried.add(leg.key)

    async def _attempt(
        self, legs: Legs, leg: Leg, ask: Callable[[Leg], Awaitable[Answer]]
    ) -> Answer:
        number = len(self.attempts) + 1
        started = time.monotonic()
        self._emit(AttemptStarted(number=number, **self._where(leg)))
        legs.began(leg)
        try:
            answer = await self._paced(leg, ask)
        except ScillmError as error:
            legs.ended(leg)
            legs.failed(leg, error)
            self._failed(error, leg, number=number, elapsed_s=time.monotonic() - started)
            raise
        except BaseException:
            legs.ended(leg)
            raise
        elapsed_s = time.monotonic() - started
        self._landed(legs, leg, answer, elapsed_s)
        self.attempts.append(
            Attempt(
                endpoint=leg.endpoint.label,
                model=leg.request.model,
                outcome="ok",
                elapsed_s=elapsed_s,
            )
        )
        self._emit(AttemptSucceeded(number=number, elapsed_s=elapsed_s, **self._where(leg)))
        return answer

    async def _paced(self, leg: Leg, ask: Callable[[Leg], Awaitable[Answer]]) -> Answer:
        options = self._rules.options
        limiter = self._rules.pacing.limiter(leg, may_wait=options.enabled)
        if limiter is None:
            return await ask(leg)
        left_s = options.time_budget_s - (time.monotonic() - self._started)
        slot = limiter.slot(max_wait_s=max(0.0, left_s))
        async with slot:
            try:
                answer = await ask(leg)
            except RateLimitError as error:
                slot.limited(error.retry_after)
                raise
            slot.succeeded()
            slot.used(tokens_of(answer))
            if isinstance(answer, OpenStream):
                # The place is held until the stream is closed, which may be in another task.
                limiter.hold()
                answer.at_close.append(limiter.leave)
            return answer

    def _landed(self, legs: Legs, leg: Leg, answer: object, elapsed_s: float) -> None:
        if isinstance(answer, OpenStream):
            # A stream is in flight until it is closed; its time is that of its first chunk.
            answer.at_close.append(lambda: legs.ended(leg))
        else:
            legs.ended(leg)
        legs.answered(leg, elapsed_s, tokens_of(answer))

    def _failed(self, error: ScillmError, leg: Leg, *, number: int, elapsed_s: float) -> None:
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
            )
        )
        if retry_after is not None:
            self.last_retry_after_s = retry_after
        if isinstance(error, ProviderError):
            error.attempts = tuple(self.attempts)
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

    def _all_rest(self, legs: Legs) -> RateLimitError:
        rest_s = legs.rest_s()
        error = RateLimitError(
            f"Every deployment of {self._model!r} rests; try again in {rest_s:.1f} s.",
            provider="router",
            model=self._model,
            status_code=429,
            retry_after=rest_s,
        )
        error.attempts = tuple(self.attempts)
        return error

    def _wait_for(self, error: ScillmError, legs: Legs) -> float | None:
        elapsed_s = time.monotonic() - self._started
        rules = self._rules
        state = RetryState(
            attempt=self.rounds, elapsed_s=elapsed_s, slept_s=self.slept_s, draw=rules.draw()
        )
        decision = decide(
            error,
            state,
            policy=rules.policy,
            budget=budget_of(rules.options, error),
            rest_s=legs.rest_s(),
        )
        if decision.wait_s is None:
            self._give_up(error, decision, elapsed_s)
            return None
        self._schedule(error, decision, elapsed_s)
        self.slept_s += decision.wait_s
        return decision.wait_s

    def _schedule(self, error: ScillmError, decision: Decision, elapsed_s: float) -> None:
        is_limit = isinstance(error, RateLimitError)
        told = {
            "event": "429_retry" if is_limit else "retry",
            "model": self._model,
            "attempt": self.rounds,
            "attempt_no": self.rounds,
            "next_sleep_s": decision.wait_s,
            "reason": decision.reason,
            "retry_after": announced_wait(error),
            "elapsed_s": elapsed_s,
            "attempt_start_monotonic": self._round_started,
            "remaining_time_s": decision.remaining_time_s,
            "remaining_attempts": decision.remaining_attempts,
            "cumulative_sleep_s": self.slept_s,
        }
        self._rules.log.retry(told)
        self._tell(self._rules.callbacks.on_attempt, told)
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

    def _give_up(self, error: ScillmError, decision: Decision, elapsed_s: float) -> None:
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
        }
        self._rules.log.give_up(told)
        self._tell(self._rules.callbacks.on_giveup, told)
        self._emit(
            GaveUp(
                call_id=self.call_id,
                model=self._model,
                attempts=self.rounds,
                why=decision.why,
                reason=decision.reason,
            )
        )

    def _success(self) -> dict[str, Any]:
        return {
            "model": self._model,
            "latency_ms": (time.monotonic() - self._round_started) * 1000.0,
            "attempts": self.rounds,
            "retries": self.rounds - 1,
            "cumulative_sleep_s": self.slept_s,
        }

    def _tell(
        self, callback: Callable[[Mapping[str, Any]], object] | None, told: Mapping[str, Any]
    ) -> None:
        if callback is not None:
            self._rules.log.guarded(callback, told)

    def _where(self, leg: Leg) -> dict[str, str]:
        return {
            "call_id": self.call_id,
            "endpoint": leg.endpoint.label,
            "provider": leg.endpoint.provider,
            "model": leg.request.model,
        }


def tokens_of(answer: object) -> int:
    """Tokens an answer says it cost; 0 when it does not say, and for a stream that has begun."""
    usage = answer.usage if isinstance(answer, Completion) else None
    return (usage.total_tokens or 0) if usage is not None else 0
