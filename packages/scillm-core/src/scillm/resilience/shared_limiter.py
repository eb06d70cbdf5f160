"""A limiter whose rates and rests hold for several processes."""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
from attrs import evolve, frozen

from scillm.errors import EngineError
from scillm.resilience.limiter import Limiter
from scillm.resilience.limits import GRAIN_S, bucket_of
from scillm.resilience.slot import Slot

if TYPE_CHECKING:
    from types import TracebackType

    from scillm.resilience.limits import Rates
    from scillm.resilience.shared_redis import RedisPacing

log = logging.getLogger("scillm.resilience")


@frozen
class _Ticket:
    """A reservation: how long to wait for it, and what the books said after it."""

    wait_s: float
    epoch: str
    requests: str
    tokens: str


class SharedSlot(Slot):
    """A slot whose turn, rest and tokens count in every process."""

    __slots__ = ("_more_tokens", "_rest_s", "_shared")

    def __init__(self, limiter: SharedLimiter, tokens: float, max_wait_s: float) -> None:
        super().__init__(limiter, tokens, max_wait_s)
        self._shared = limiter
        self._rest_s = 0.0
        self._more_tokens = 0.0

    async def __aenter__(self) -> SharedSlot:
        entered = self._shared.clock()
        await super().__aenter__()
        is_mine = False
        try:
            await self._shared.shared_turn(self.tokens, entered + self.max_wait_s)
            is_mine = True
        finally:
            if not is_mine:
                self._shared.leave()
        self.started_at = self._shared.clock()
        self.waited_s = self.started_at - entered
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shared.leave()
        if self._rest_s:
            await self._shared.tell("rest", self._rest_s)
        if self._more_tokens:
            await self._shared.tell("settle", self._more_tokens)

    def limited(self, retry_after: float | None = None, headers: Any = None) -> None:
        """As `Slot.limited`; the other processes are told when the slot is left."""
        super().limited(retry_after, headers)
        self._rest_s = self._shared.rest_s()

    def used(self, tokens: float) -> None:
        """As `Slot.used`."""
        self._more_tokens += tokens - self.tokens
        self.tokens = tokens


class SharedLimiter(Limiter):
    """A `Limiter` whose `rpm`, `tpm`, `burst` and rests are shared; made by `RedisPacing`.

    Concurrency, adaptation and what headers say count per process. Each process sends one waiter
    at a time to the shared line, so within a process the order of arrival holds. A waiter that is
    cancelled gives its reservation back if no other came after it; else its token is lost.
    """

    def __init__(self, pacing: RedisPacing, rates: Rates, name: str) -> None:
        super().__init__(evolve(rates, rpm=None, tpm=None, burst=None), name=name)
        self._pacing = pacing
        self._shared_name = name
        self._gate = Limiter(evolve(self.rates, max_concurrency=1, adaptive=False), name=name)
        self._alone = Limiter(evolve(rates, max_concurrency=None, adaptive=False), name=name)
        self._buckets: list[float] = []
        for bucket in (bucket_of(rates.rpm, rates.burst), bucket_of(rates.tpm, None)):
            self._buckets += [0.0, 1.0] if bucket is None else [bucket.rate, bucket.burst]

    def slot(self, tokens: float = 0.0, *, max_wait_s: float = inf) -> SharedSlot:
        """As `Limiter.slot`; raises `EngineError` when Redis does not answer."""
        return SharedSlot(self, tokens, max_wait_s)

    def is_free(self) -> bool:
        """As `Limiter.is_free`, as far as this process knows; the shared line may yet say no."""
        return super().is_free() and self._gate.is_free()

    async def shared_turn(self, tokens: float, deadline: float) -> None:
        """Wait until this process's next call may start; alone, if that is allowed and must be."""
        try:
            async with self._gate.slot():
                while not self._pacing.is_away():
                    if await self._is_my_turn(tokens, deadline):
                        return
        except EngineError:
            if not self._pacing.may_go_alone:
                raise
        left_s = max(0.0, deadline - self.clock())
        async with self._alone.slot(tokens, max_wait_s=left_s):
            pass
        while self.rest_s() > GRAIN_S:
            self._check(self.rest_s(), deadline)
            await self._sleep(self.rest_s())

    async def tell(self, verb: str, *arguments: float | str) -> None:
        """Tell the other processes, even while this call is being cancelled."""
        if self._pacing.is_away():
            # They were told that the pace is lost. Rests and tokens count here alone.
            if verb == "settle":
                more = float(arguments[0])
                self._alone.settle(expected=max(0.0, -more), used=max(0.0, more))
            return
        with anyio.move_on_after(self._pacing.timeout_s, shield=True) as scope:
            try:
                await self._run(verb, *arguments)
            except EngineError as error:
                # The call itself has an outcome by now, and it must not be lost to this.
                log.warning("The shared pace was not told to %s: %s", verb, error.message)
        if scope.cancelled_caught:
            log.warning("The shared pace was not told to %s: Redis took too long.", verb)

    async def _is_my_turn(self, tokens: float, deadline: float) -> bool:
        ticket = _ticket(await self._run("reserve", tokens))
        wait = max(ticket.wait_s, self.rest_s())
        if wait <= GRAIN_S:
            return True
        is_used = False
        try:
            self._check(wait, deadline)
            await self._sleep(wait)
            (epoch,) = await self._run("confirm", tokens)
            is_used = epoch == ticket.epoch and self.rest_s() <= GRAIN_S
        finally:
            if not is_used:
                await self.tell("give_back", tokens, ticket.epoch, ticket.requests, ticket.tokens)
        return is_used

    async def _run(self, verb: str, *arguments: float | str) -> list[str]:
        return await self._pacing.run(self._shared_name, verb, *self._buckets, *arguments)


def _ticket(reply: list[str]) -> _Ticket:
    wait, epoch, requests, tokens = reply
    return _Ticket(float(wait), epoch, requests, tokens)
