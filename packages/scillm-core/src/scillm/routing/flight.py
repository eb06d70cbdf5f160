"""One call in the air: rounds through the legs of a group, waits in between, then the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import anyio

from scillm.errors import RateLimitError, ScillmError
from scillm.models import Answered
from scillm.protocols import RetryState
from scillm.resilience.attempts import try_again
from scillm.resilience.retry import announced_wait, budget_of, decide
from scillm.routing.flightlog import FlightLog
from scillm.routing.opened import OpenStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.events import Event
    from scillm.routing.hedging import Runner
    from scillm.routing.legs import Leg, Legs
    from scillm.routing.rules import Rules
    from scillm.routing.spending import Paid

Answer = TypeVar("Answer")
Ask: TypeAlias = Callable[["Leg"], "Paid[Answer]"]


class Flight:
    """Asks until somebody answers or the budget ends. Remembers its story in `log`."""

    def __init__(
        self, *, model: str, call_id: str, rules: Rules, emit: Callable[[Event], None] | None
    ) -> None:
        self.log = FlightLog(
            model=model, call_id=call_id, emit=emit, lines=rules.log, callbacks=rules.callbacks
        )
        self._model = model
        self._rules = rules
        self._failures: tuple[ScillmError, ...] = ()

    async def fly(self, legs: Legs, ask: Ask[Answer]) -> tuple[Leg, Answer]:
        """The first answer from `legs`; otherwise the last error, with every attempt on it."""
        self.log.rounds = 0
        try:
            return await self._round(legs, ask)
        except ScillmError as error:
            if not self._rules.options.enabled:
                raise
            first = error
        one_round = partial(self._round, legs, ask)
        found = await try_again(first, one_round, lambda error: self._wait_for(error, legs))
        self.log.won()
        return found

    async def _round(self, legs: Legs, ask: Ask[Answer]) -> tuple[Leg, Answer]:
        self.log.round_begins()
        self._failures = ()
        tried: set[str] = set()
        last: ScillmError | None = None
        while True:
            leg = legs.next(tried)
            if leg is None:
                raise last or self._all_rest(legs)
            try:
                if self._rules.hedge_after_s is None or self.log.hedges:
                    return leg, await self._attempt(legs, leg, ask(leg), hedge=False)
                return await self._hedged(legs, leg, ask, tried)
            except ScillmError as error:
                if not error.try_elsewhere:
                    raise
                last = error
                self._failures += (error,)
                tried.add(leg.key)

    async def _attempt(self, legs: Legs, leg: Leg, paid: Paid[Answer], *, hedge: bool) -> Answer:
        started, number = time.monotonic(), 0
        legs.began(leg)
        try:
            number = self.log.began(leg)
            if self._rules.pacing.paces(leg, may_wait=self._rules.options.enabled):
                answer = await self._paced(leg, paid, number, hedge=hedge)
            else:
                self.log.leaves(number)
                answer = await paid.send()
        except ScillmError as error:
            legs.ended(leg)
            if self.log.has_left(number) and error.try_elsewhere:
                legs.failed(leg, error)
            self.log.failed(error, leg, number, time.monotonic() - started, hedge=hedge)
            raise
        except BaseException as error:
            legs.ended(leg)
            if isinstance(error, anyio.get_cancelled_exc_class()):
                self.log.cancelled(leg, number, time.monotonic() - started, hedge=hedge)
            raise
        finally:
            paid.drop()
        elapsed_s = time.monotonic() - started
        self._landed(legs, leg, answer, elapsed_s)
        self.log.answered(leg, number, elapsed_s, hedge=hedge)
        return answer

    async def _paced(self, leg: Leg, paid: Paid[Answer], number: int, *, hedge: bool) -> Answer:
        most_s = self._rules.options.time_budget_s
        left_s = 0.0 if hedge else max(0.0, most_s - self.log.elapsed_s)
        slot = self._rules.pacing.slot(leg, max_wait_s=left_s)
        async with slot:
            self.log.leaves(number)
            try:
                answer = await paid.send()
            except RateLimitError as error:
                slot.limited(error.retry_after)
                raise
            slot.succeeded(headers_of(answer))
            slot.used(tokens_of(answer))
            if isinstance(answer, OpenStream):
                # The place is held until the stream is closed, which may be in another task.
                answer.at_close.append(slot.hold())
            return answer

    def _landed(self, legs: Legs, leg: Leg, answer: object, elapsed_s: float) -> None:
        if isinstance(answer, OpenStream):
            # A stream is in flight until it is closed; its time is that of its first chunk.
            answer.at_close.append(lambda: legs.ended(leg))
        else:
            legs.ended(leg)
        legs.answered(leg, elapsed_s, tokens_of(answer))

    # -- hedging -------------------------------------------------------------------------------

    async def _hedged(
        self, legs: Legs, leg: Leg, ask: Ask[Answer], tried: set[str]
    ) -> tuple[Leg, Answer]:
        from scillm.routing.hedging import Race

        after_s = self._rules.hedge_after_s or 0.0
        started = time.monotonic()

        async def first() -> tuple[Leg, Answer]:
            return leg, await self._attempt(legs, leg, ask(leg), hedge=False)

        async def extra(other: Leg) -> tuple[Leg, Answer]:
            paid = ask(other)
            self.log.hedged(leg, other, after_s)
            return other, await self._attempt(legs, other, paid, hedge=True)

        def second() -> Runner[tuple[Leg, Answer]] | None:
            other = self._hedge_leg(legs, leg, tried)
            if other is None:
                return None
            tried.add(other.key)
            return partial(extra, other)

        race = Race(first, second, after_s=after_s, discard=_discard)
        try:
            winner, answer = await race.run()
        except ScillmError as error:
            self.log.tell_attempts(error)
            raise
        if winner is not leg and self.log.hedges:
            # Without this a slow deployment that is always overtaken would never be measured.
            legs.overtaken(leg, time.monotonic() - started)
        return winner, answer

    def _hedge_leg(self, legs: Legs, slow: Leg, tried: set[str]) -> Leg | None:
        """Where the extra request may go now: to another deployment, else to the same."""
        other = legs.next({*tried, slow.key}) or legs.again(slow)
        if other is None:
            return None
        pacing = self._rules.pacing
        is_paced = pacing.paces(other, may_wait=self._rules.options.enabled)
        return other if not is_paced or pacing.is_free(other) else None

    # -- between rounds ------------------------------------------------------------------------

    def _all_rest(self, legs: Legs) -> RateLimitError:
        rest_s = legs.rest_s()
        error = RateLimitError(
            f"Every deployment of {self._model!r} rests; try again in {rest_s:.1f} s.",
            provider="router",
            model=self._model,
            status_code=429,
            retry_after=rest_s,
        )
        self.log.tell_attempts(error)
        return error

    def _wait_for(self, error: ScillmError, legs: Legs) -> float | None:
        log, rules = self.log, self._rules
        elapsed_s = log.elapsed_s
        state = RetryState(
            attempt=log.rounds, elapsed_s=elapsed_s, slept_s=log.slept_s, draw=rules.draw()
        )
        decision = decide(
            self._soonest(error),
            state,
            policy=rules.policy,
            budget=budget_of(rules.options, error),
            rest_s=max(legs.rest_s(), rules.options.least_s),
        )
        if decision.wait_s is None:
            log.gave_up(error, decision, elapsed_s)
            return None
        log.retry(error, decision, elapsed_s)
        log.slept_s += decision.wait_s
        return decision.wait_s

    def _soonest(self, error: ScillmError) -> ScillmError:
        """Of the round that ended with `error`, the failure that may be tried again first.

        A deployment that announced a long pause must not hold up its siblings' next round.
        """
        if not error.retryable:
            return error
        again = [failure for failure in self._failures if failure.retryable]
        return min(again, key=lambda failure: announced_wait(failure) or 0.0, default=error)


async def _discard(late: tuple[Leg, object]) -> None:
    if isinstance(late[1], OpenStream):
        await late[1].aclose()


def tokens_of(answer: object) -> int:
    """Tokens an answer says it cost; 0 when it does not say, and for a stream that has begun."""
    usage = answer.usage if isinstance(answer, Answered) else None
    return (usage.total_tokens or 0) if usage is not None else 0


def headers_of(answer: object) -> Mapping[str, str] | None:
    """What the reply's headers said about rate limits, where the provider has kept them."""
    if isinstance(answer, Answered):
        side = answer.additional_kwargs.get("scillm")
    else:
        side = answer.side if isinstance(answer, OpenStream) else None
    return side.get("additional_headers") if isinstance(side, dict) else None
