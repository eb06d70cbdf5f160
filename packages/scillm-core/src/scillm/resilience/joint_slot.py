"""One call's place at two limiters at once: that of its deployment and that of its key."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from scillm.resilience.limits import GRAIN_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from scillm.resilience.limiter import Limiter
    from scillm.resilience.slot import Slot


class JointSlot:
    """`async with JointSlot(gate, deployment, key) as slot`. Remembers the places it holds.

    Used as a `Slot`. Calls of one deployment pass `gate`, a limiter of its own for one at a time,
    so that they start in order and as both limiters allow: no call takes a turn at the one and then
    stays away from it while it waits for the other. Keys serve their deployments in turn.

    With `key_rests` the upstream counts by key: its refusals and its headers are about the key,
    otherwise about the deployment.
    """

    __slots__ = (
        "_deployment",
        "_gate",
        "_key",
        "_key_rests",
        "_places",
        "_tokens",
        "max_wait_s",
        "waited_s",
    )

    def __init__(
        self,
        gate: Limiter,
        deployment: Limiter,
        key: Limiter,
        *,
        tokens: float = 0.0,
        max_wait_s: float = inf,
        key_rests: bool = False,
    ) -> None:
        self._gate = gate
        self._deployment = deployment
        self._key = key
        self._key_rests = key_rests
        self._tokens = tokens
        self._places: tuple[Slot, ...] = ()
        self.max_wait_s = max_wait_s
        self.waited_s = 0.0
        """Seconds this call has waited for its turn."""

    async def __aenter__(self) -> JointSlot:
        clock = self._deployment.clock
        entered = clock()
        deadline = entered + self.max_wait_s
        for limiter in (self._deployment, self._key):
            limiter.check_wait(self._tokens, deadline, ahead=self._gate.waiting)
        async with self._gate.slot(max_wait_s=self.max_wait_s):
            while not await self._has_both(clock, deadline):
                pass  # a rest began meanwhile, and is waited for at the deployment
        self.waited_s = clock() - entered
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await _left(self._places, kind, error, trace)

    @property
    def tokens(self) -> float:
        """What the call is expected to cost, or has cost."""
        return self._tokens

    def succeeded(self, headers: Mapping[str, str] | None = None) -> None:
        """As `Slot.succeeded`."""
        self._places[-1 if self._key_rests else 0].succeeded(headers)

    def limited(
        self, retry_after: float | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """As `Slot.limited`."""
        self._places[-1 if self._key_rests else 0].limited(retry_after, headers)

    def used(self, tokens: float) -> None:
        """As `Slot.used`."""
        for place in self._places:
            place.used(tokens)
        self._tokens = tokens

    def hold(self) -> Callable[[], None]:
        """As `Slot.hold`."""
        leaves = [place.hold() for place in self._places]

        def leave() -> None:
            for each in leaves:
                each()

        return leave

    async def _has_both(self, clock: Callable[[], float], deadline: float) -> bool:
        own = self._deployment.slot(self._tokens, max_wait_s=max(0.0, deadline - clock()))
        await own.__aenter__()
        others = self._key.slot(self._tokens, max_wait_s=max(0.0, deadline - clock()))
        try:
            await others.__aenter__()
        except BaseException as error:
            await _left((own,), type(error), error, error.__traceback__)
            raise
        if self._deployment.rest_s() > GRAIN_S:
            others.take_back()
            await _left((own, others), None, None, None)
            return False
        if others.waited_s:
            own.starts_now()
        self._places = (own, others)
        return True


async def _left(
    places: tuple[Slot, ...],
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
) -> None:
    try:
        await places[0].__aexit__(kind, error, trace)
    finally:
        for other in places[1:]:
            await other.__aexit__(kind, error, trace)
