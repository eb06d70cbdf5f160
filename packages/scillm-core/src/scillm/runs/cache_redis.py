"""A response cache in Redis (redis-py's second door, extra `redis`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from scillm.errors import UsageError
from scillm.runs.cache_stores import StoreFaultError

if TYPE_CHECKING:
    from redis import Redis

Found = TypeVar("Found")

TIMEOUT_S = 2.0
PREFIX = "scillm:cache:"


class RedisStore:
    """Rows in the Redis at `url`, which forgets them when they expire. Remembers its client."""

    name = "redis"
    is_quick = False

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Redis | None = None
        try:
            self._do(lambda client: client.get(f"{PREFIX}probe"))
        except (StoreFaultError, ValueError) as error:
            self.close()
            raise UsageError(
                f"The Redis for the response cache cannot be used: {error}. Check its URL "
                "(redis://[:password@]host:port[/db]), which is not shown here."
            ) from error

    def get(self, key: str, /) -> bytes | None:
        """The row, or None."""
        return self._do(lambda client: cast("bytes | None", client.get(PREFIX + key)))

    def put(self, key: str, row: bytes, expires_at: float | None, /) -> None:
        """Keep a row until it expires."""
        left_ms = None if expires_at is None else round((expires_at - time.time()) * 1000)
        if left_ms is None or left_ms > 0:
            self._do(lambda client: client.set(PREFIX + key, row, px=left_ms))

    def drop(self, key: str, /) -> None:
        """Forget a row."""
        self._do(lambda client: client.delete(PREFIX + key))

    def clear(self) -> None:
        """Forget the rows of all caches in this Redis, and nothing else."""

        def forget(client: Redis) -> None:
            for name in client.scan_iter(match=f"{PREFIX}*", count=500):
                client.delete(name)

        self._do(forget)

    def count(self) -> int | None:
        """Not known: counting would look through all of Redis."""
        return None

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _do(self, work: Callable[[Redis], Found]) -> Found:
        try:
            from redis.exceptions import RedisError
        except ImportError as error:
            raise UsageError(
                "A response cache in Redis needs redis-py: pip install 'scillm-core[redis]'."
            ) from error
        try:
            return work(self._opened())
        except (RedisError, OSError) as error:
            raise StoreFaultError(f"{type(error).__name__}: {error}") from error

    def _opened(self) -> Redis:
        if self._client is None:
            from redis import Redis

            options: dict[str, Any] = {
                "socket_timeout": TIMEOUT_S,
                "socket_connect_timeout": TIMEOUT_S,
            }
            self._client = Redis.from_url(self._url, **options)
        return self._client
