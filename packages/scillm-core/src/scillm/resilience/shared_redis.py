"""The Redis that processes share their pace through (redis-py's door)."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from anyio.lowlevel import RunVar, current_token

from scillm.errors import EngineError, UsageError
from scillm.http.loops import PerLoop
from scillm.resilience.shared_limiter import SharedLimiter
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


def _text(argument: float | str) -> str:
    return argument if isinstance(argument, str) else repr(argument)
