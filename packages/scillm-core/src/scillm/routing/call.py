"""One call through its model group, then through the groups it falls back to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

from scillm.errors import ScillmError
from scillm.events import Event, FellBack
from scillm.records import evolve
from scillm.routing.changing import changed
from scillm.routing.continuing import asked_to_go_on, text_so_far
from scillm.routing.fallback import Fallback, FallbackRules, next_groups
from scillm.routing.stamps import CallRecord

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json
    from scillm.routing.arguments import Arguments
    from scillm.routing.flight import Ask, Flight
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

    async def fly(self, ask: Ask[Answer]) -> tuple[Leg, Answer]:
        """The first answer of the group, or of its fallbacks in order; otherwise the last error."""
        try:
            return await self.flight.fly(self.legs_for(self.arguments, self.model), ask)
        except ScillmError as error:
            targets = self._targets(error)
            if not targets:
                raise
            last = error
        failed, asked = self.model, {self.model}
        while targets and len(asked) <= self.fallbacks.most:
            target, *targets = targets
            asked.add(target.model)
            self._fell_back += 1
            self._announce(last, failed=failed, to=target.model)
            try:
                legs = self.legs_for(changed(self.arguments, target), target.model)
                return await self.flight.fly(legs, ask)
            except ScillmError as error:
                last, failed = error, target.model
            targets = self._after(target, last, targets, asked)
        raise last

    async def go_on(
        self,
        error: ScillmError,
        partial: Completion,
        ask: Ask[Answer],
    ) -> tuple[Leg, Answer] | None:
        """The rest of a broken stream from the first fallback that has it; None when none has."""
        text, failed = text_so_far(partial), self.model
        for target in self._targets(error) if text is not None else ():
            self._fell_back += 1
            self._announce(error, failed=failed, to=target.model)
            arguments = changed(self.arguments, target)
            messages = asked_to_go_on(arguments.messages, text or "")
            try:
                legs = self.legs_for(evolve(arguments, messages=messages), target.model)
                return await self.flight.fly(legs, ask)
            except ScillmError as found:
                error, failed = found, target.model
        return None

    def record(self, leg: Leg, *, reply: Mapping[str, Json] | None = None) -> CallRecord:
        """What there is to say about the answered call; `reply` is the side of a stream."""
        log = self.flight.log
        retries = None
        if self.with_retries:
            retries = {
                "attempts": log.rounds - 1,
                "total_sleep_s": log.slept_s,
                "last_retry_after_s": log.last_retry_after_s,
                "hedges": log.hedges,
            }
        return CallRecord(
            requested_model=self.model,
            resolved_model=leg.request.model,
            provider=leg.endpoint.provider,
            endpoint=leg.endpoint.label,
            group=leg.group,
            attempts=tuple(log.attempts),
            call_id=log.call_id,
            fallbacks=self._fell_back,
            hedges=log.hedges,
            reply=reply or {},
            retries=retries,
        )

    def _targets(self, error: ScillmError) -> list[Fallback]:
        # A group is not asked twice in one call.
        found = next_groups(error, self.model, self.fallbacks)
        others = [target for target in found if target.model != self.model]
        return others[: self.fallbacks.most]

    def _after(
        self, failed: Fallback, error: ScillmError, left: list[Fallback], asked: set[str]
    ) -> list[Fallback]:
        """The fallbacks of a fallback that failed, then those that are left of the group's own."""
        known = {*asked, *(target.model for target in left)}
        found = next_groups(error, failed.model, self.fallbacks)
        return [*(target for target in found if target.model not in known), *left]

    def _announce(self, error: ScillmError, *, failed: str, to: str) -> None:
        self.emit(
            FellBack(
                call_id=self.flight.log.call_id, failed=failed, to=to, error=type(error).__name__
            )
        )
