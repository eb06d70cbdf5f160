"""One call through its model group, then through the groups it falls back to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field

from scillm.errors import ScillmError
from scillm.events import Event, FellBack
from scillm.records import evolve
from scillm.routing.arguments import checked_messages, sorted_arguments
from scillm.routing.fallback import Fallback, FallbackRules, next_groups
from scillm.routing.stamps import CallRecord

if TYPE_CHECKING:
    from scillm.routing.arguments import Arguments
    from scillm.routing.flight import Flight
    from scillm.routing.legs import Leg, Legs

Answer = TypeVar("Answer")


@define(kw_only=True)
class Call:
    """A call on its way. Remembers how often it fell back."""

    flight: Flight
    model: str
    arguments: Arguments
    fallbacks: FallbackRules
    legs_for: Callable[[Arguments, str], Legs]
    emit: Callable[[Event], None]
    with_retries: bool = False
    _fell_back: int = field(default=0, init=False)

    async def fly(self, ask: Callable[[Leg], Awaitable[Answer]]) -> tuple[Leg, Answer]:
        """The first answer of the group, or of its fallbacks in order; otherwise the last error."""
        try:
            return await self.flight.fly(self.legs_for(self.arguments, self.model), ask)
        except ScillmError as error:
            targets = self._targets(error)
            if not targets:
                raise
            last = error
        failed = self.model
        for target in targets:
            self._fell_back += 1
            self._announce(last, failed=failed, to=target.model)
            try:
                legs = self.legs_for(self._changed(target), target.model)
                return await self.flight.fly(legs, ask)
            except ScillmError as error:
                last, failed = error, target.model
        raise last

    def record(self, leg: Leg) -> CallRecord:
        """What there is to say about the answered call."""
        flight = self.flight
        retries = None
        if self.with_retries:
            retries = {
                "attempts": flight.rounds - 1,
                "total_sleep_s": flight.slept_s,
                "last_retry_after_s": flight.last_retry_after_s,
            }
        return CallRecord(
            requested_model=self.model,
            resolved_model=leg.request.model,
            provider=leg.endpoint.provider,
            endpoint=leg.endpoint.label,
            group=leg.group,
            attempts=tuple(flight.attempts),
            fallbacks=self._fell_back,
            retries=retries,
        )

    def _targets(self, error: ScillmError) -> list[Fallback]:
        # A group is not asked twice in one call.
        found = next_groups(error, self.model, self.fallbacks)
        others = [target for target in found if target.model != self.model]
        return others[: self.fallbacks.most]

    def _changed(self, target: Fallback) -> Arguments:
        """The call's arguments with what the fallback changes."""
        changes: Mapping[str, Any] = target.changes
        extra = sorted_arguments({k: v for k, v in changes.items() if k != "messages"})
        messages = self.arguments.messages
        if "messages" in changes:
            messages = checked_messages(changes["messages"])
        return evolve(
            self.arguments, messages=messages, params={**self.arguments.params, **extra.params}
        )

    def _announce(self, error: ScillmError, *, failed: str, to: str) -> None:
        self.emit(
            FellBack(call_id=self.flight.call_id, failed=failed, to=to, error=type(error).__name__)
        )
