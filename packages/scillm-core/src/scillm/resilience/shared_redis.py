"""Limiters whose rates and rests hold for several processes, through Redis (redis-py's door)."""

from __future__ import annotations

import logging
import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.lowlevel import RunVar, current_token
from attrs import evolve, frozen

from scillm.errors import EngineError, UsageError
from scillm.http.loops import PerLoop
from scillm.resilience.limiter import Limiter, Slot
from scillm.resilience.limits import GRAIN_S, bucket_of
from scillm.resilience.shared_script import SCRIPT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from scillm.resilience.limits import Rates

log = logging.getLogger("scillm.resilience")

AGAIN_S = 5.0
"""So long after a failure Redis is asked again."""


class RedisPacing:
    """Makes limiters that share their state in the Redis at `url`. Remembers a client per loop.

    `LimiterBook(new=pacing.limiter)` makes all limiters of a book shared. Works on asyncio, as
    redis-py does. `aclose`, or the end of an event loop, closes its connections.

    When Redis does not answer, a call does not start, and raises `EngineError`. With
    `on_change` it goes on instead: the limiters keep to their rates alone, Redis is asked again
    every `again_s`, and `on_change` is told once of the loss (why) and once of the return (None).
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "scillm:pace:",
        timeout_s: float = 5.0,
        again_s: float = AGAIN_S,
        on_change: Callable[[str | None], None] | None = None,
    ) -> None:
        self._url = url
        self._again_s = again_s
        self._on_change = on_change
        self._prefix = prefix
        self.timeout_s = timeout_s
        self._clients: RunVar[tuple[Any, Any]] = RunVar("scillm-redis-pacing")
        self._loop_ends = PerLoop(lambda: self)
        self._lock = threading.Lock()
        self._ask_again_at: float | None = None
        """When to try Redis again; None while it answers."""

    @property
    def may_go_alone(self) -> bool:
        """Whether calls go on, each process for itself, while Redis does not answer."""
        return self._on_change is not None

    def is_away(self) -> bool:
        """Whether Redis is known not to answer. Now and then one caller is told no, and tries."""
        if self._ask_again_at is None:
            return False
        now = time.monotonic()
        with self._lock:
            if self._ask_again_at is None or now < self._ask_again_at:
                return self._ask_again_at is not None
            self._ask_again_at = now + self._again_s
            return False

    def limiter(self, rates: Rates, name: str) -> SharedLimiter:
        """A limiter that shares rates and rests with all others of this name, anywhere."""
        return SharedLimiter(self, rates, name)

    async def run(self, name: str, verb: str, *arguments: float | str) -> list[str]:
        """Run one verb of the script; raises `EngineError` when Redis does not answer."""
        _, script = self._client()
        from redis.exceptions import RedisError

        await self._loop_ends.get()
        try:
            reply = await script(keys=[self._prefix + name], args=[verb, *map(_text, arguments)])
        except (RedisError, OSError) as error:
            self._lost(f"{type(error).__name__}: {error}")
            raise EngineError(
                f"The shared limiter {name!r} needs Redis, but Redis did not answer: "
                f"{type(error).__name__}: {error}. Nothing was sent. Start it, or pace this "
                "process alone with a Limiter."
            ) from error
        if self._ask_again_at is not None:
            self._returned()
        return cast("list[str]", reply)

    def _lost(self, reason: str) -> None:
        if self._on_change is None:
            return
        with self._lock:
            is_news = self._ask_again_at is None
            self._ask_again_at = time.monotonic() + self._again_s
        if is_news:
            log.warning(
                "The shared pace is lost, because Redis did not answer (%s); this process keeps to "
                "its rates alone until it does.",
                reason,
            )
            self._on_change(reason)

    def _returned(self) -> None:
        with self._lock:
            is_news = self._ask_again_at is not None
            self._ask_again_at = None
        if is_news and self._on_change is not None:
            log.warning("The shared pace is back: Redis answers again.")
            self._on_change(None)

    def _client(self) -> tuple[Any, Any]:
        found = self._clients.get(None)
        if found is not None:
            return found
        if not hasattr(current_token().native_token, "call_soon_threadsafe"):
            raise UsageError(
                "Pacing shared through Redis runs on asyncio only, but this is another event loop. "
                "Use a Limiter of this process."
            )
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError as error:
            raise UsageError(
                "Pacing shared through Redis needs redis-py: pip install 'scillm-core[redis]'."
            ) from error
        client = Redis.from_url(
            self._url,
            decode_responses=True,
            socket_timeout=self.timeout_s,
            socket_connect_timeout=self.timeout_s,
            retry=Retry(NoBackoff(), 1),
        )
        made = (client, client.register_script(SCRIPT))
        self._clients.set(made)
        return made

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a second call does nothing."""
        found = self._clients.get(None)
        if found is not None:
            self._clients.set(cast("Any", None))
            await cast("Awaitable[None]", found[0].aclose())

    async def __aenter__(self) -> RedisPacing:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


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


def _text(argument: float | str) -> str:
    return argument if isinstance(argument, str) else repr(argument)
