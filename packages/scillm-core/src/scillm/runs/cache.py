"""The response cache: rows of answers in a store, with their time to live."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import to_thread

from scillm.errors import UsageError
from scillm.plugins.settings import read
from scillm.runs.cache_rows import Kept, UnreadableRowError, read_row, row_of
from scillm.runs.cache_stores import MemoryStore, Store, StoreFaultError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.models import Completion
    from scillm.records import Json

Found = TypeVar("Found")
KINDS = ("memory", "sqlite", "redis")
DEFAULT_PATH = "~/.cache/scillm/answers.sqlite"


class ResponseCache:
    """Keeps answers by key. Remembers how often it had one.

    `ttl_s` is how long an answer counts (None: for ever). `namespace` keeps caches in one store
    apart. With `single_flight` identical requests in the air at once are asked once.
    """

    def __init__(
        self,
        store: Store,
        *,
        ttl_s: float | None = None,
        namespace: str = "",
        single_flight: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if ttl_s is not None and not 0 < ttl_s < 1e12:
            raise UsageError(f"ttl_s must be a number of seconds above 0, but is {ttl_s!r}.")
        self.ttl_s = ttl_s
        self.namespace = namespace
        self.single_flight = single_flight
        self._store = store
        self._clock = clock
        self._hits = self._misses = self._kept = self._faults = 0

    async def find(
        self, key: str, *, max_age_s: float | None, fault: Callable[[str], None]
    ) -> Kept | None:
        """The answer under `key`, no older than `max_age_s`; None when there is none that counts.

        A row that cannot be read is told to `fault`, forgotten, and no answer.
        """
        row = await self._try(lambda: self._store.get(key), fault)
        kept = None
        if row is not None:
            try:
                kept = read_row(key, row)
            except UnreadableRowError as error:
                self._fault(f"a stored row cannot be read: {error}", fault)
                await self._try(lambda: self._store.drop(key), fault)
        now = self._clock()
        if kept is not None and (
            (kept.expires_at is not None and kept.expires_at <= now)
            or (max_age_s is not None and now - kept.at > max_age_s)
        ):
            kept = None
        self._hits += kept is not None
        self._misses += kept is None
        return kept

    async def keep(
        self,
        key: str,
        completion: Completion,
        *,
        ttl_s: float | None,
        source: Mapping[str, Json],
        fault: Callable[[str], None],
    ) -> Kept | None:
        """Store an answer; None when it cannot be stored as it is."""
        at = self._clock()
        life_s = self.ttl_s if ttl_s is None else ttl_s
        expires_at = None if life_s is None else at + life_s
        row = row_of(key, completion, at=at, expires_at=expires_at, source=source)
        if row is None:
            return None

        def put() -> bool:
            self._store.put(key, row, expires_at)
            return True

        self._kept += await self._try(put, fault) is True
        return read_row(key, row)

    def stats(self) -> dict[str, Json]:
        """`backend, namespace, ttl`, and what happened: hits, misses, kept, faults, entries."""
        try:
            entries = self._store.count()
        except StoreFaultError:
            entries = None
        return {
            "backend": self._store.name,
            "namespace": self.namespace,
            "ttl": self.ttl_s,
            "hits": self._hits,
            "misses": self._misses,
            "kept": self._kept,
            "faults": self._faults,
            "entries": entries,
        }

    def clear(self) -> None:
        """Forget all answers in the store, of whatever namespace."""
        self._store.clear()

    def close(self) -> None:
        """Close what the store holds; the next use opens it again."""
        self._store.close()

    async def _try(self, work: Callable[[], Found], fault: Callable[[str], None]) -> Found | None:
        try:
            if self._store.is_quick:
                return work()
            return await to_thread.run_sync(work)
        except StoreFaultError as error:
            self._fault(str(error), fault)
            return None

    def _fault(self, reason: str, fault: Callable[[str], None]) -> None:
        self._faults += 1
        fault(reason)


def make_cache(
    type: str | None = None,
    *,
    path: str | Path | None = None,
    url: str | None = None,
    ttl_s: float | None = None,
    namespace: str | None = None,
    max_entries: int = 10_000,
    max_bytes: int = 100_000_000,
    single_flight: bool = False,
) -> ResponseCache:
    """A cache in `memory` (the default), in one `sqlite` file, or in `redis`.

    A `path` alone means sqlite, a `url` alone redis. Time to live, namespace and Redis default to
    the settings cache_ttl_s, cache_namespace and redis_url.
    """
    kind = type or ("sqlite" if path is not None else "redis" if url is not None else "memory")
    if kind not in KINDS:
        raise UsageError(f"A cache is of type {', '.join(KINDS)}, not {kind!r}.")
    if (path is not None and kind != "sqlite") or (url is not None and kind != "redis"):
        raise UsageError(f"A {kind} cache has no {'path' if path is not None else 'url'}.")
    return ResponseCache(
        _store(kind, path=path, url=url, max_entries=max_entries, max_bytes=max_bytes),
        ttl_s=read("cache_ttl_s", default=None) if ttl_s is None else ttl_s,
        namespace=read("cache_namespace", default="") if namespace is None else namespace,
        single_flight=single_flight,
    )


def _store(
    kind: str, *, path: str | Path | None, url: str | None, max_entries: int, max_bytes: int
) -> Store:
    if kind == "sqlite":
        from scillm.runs.cache_sqlite import SqliteStore

        return SqliteStore(path or DEFAULT_PATH)
    if kind == "redis":
        from scillm.runs.cache_redis import RedisStore

        found = url or read("redis_url", default=None)
        if not found:
            raise UsageError("A redis cache needs url=…, or SCILLM_REDIS_URL.")
        return RedisStore(found)
    for name, value in (("max_entries", max_entries), ("max_bytes", max_bytes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} must be a whole number above 0, but is {value!r}.")
    return MemoryStore(max_entries=max_entries, max_bytes=max_bytes)


_process: list[ResponseCache] = []


def initialize_cache(type: str | None = None, **options: Any) -> ResponseCache | None:
    """Give every Router without a cache of its own this one; arguments as `make_cache`.

    Returns it, or None where SCILLM_CACHE_DISABLE is set. `initialize_cache("off")` takes it away.
    """
    cache = None
    if type != "off" and not read("cache_disabled", default=False):
        cache = make_cache(type, **options)
    _process[:] = [] if cache is None else [cache]
    return cache


def process_cache() -> ResponseCache | None:
    """What `initialize_cache` made."""
    return _process[0] if _process else None


def cache_stats() -> dict[str, Json]:
    """`ResponseCache.stats` of the process's cache; backend None when there is none."""
    cache = process_cache()
    if cache is None:
        return {"backend": None, "namespace": None, "ttl": None}
    return cache.stats()
