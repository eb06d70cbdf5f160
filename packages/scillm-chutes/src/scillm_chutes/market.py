"""One site as we know it: its catalog, its utilization feed and what our own calls met.

The last good state of each stays until a better one comes; failures are kept to be shown.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

import anyio
from scillm.errors import MalformedReplyError, ProviderError, ScillmError
from scillm.protocols import Closes
from scillm.providers.failures import excerpt, read_complaint
from scillm.providers.secrets import masked
from scillm.records import HttpCall

from scillm_chutes.cachefile import CacheFile
from scillm_chutes.latency import Latencies
from scillm_chutes.memory import Memory
from scillm_chutes.ranking import RankRules, rank
from scillm_chutes.reading import read_catalog, read_feed

if TYPE_CHECKING:
    from scillm.protocols import Transport

    from scillm_chutes.records import Catalog, Feed, Ranked
    from scillm_chutes.sites import Site

log = logging.getLogger("scillm.chutes")

MODELS_TTL_S = 300.0
"""The server itself renews the list this often."""
FEED_TTL_S = 45.0
TRUSTED_S = 3600.0
"""A catalog older than this is no reason to refuse a model it lacks."""
FETCH_S = 10.0
AFTER_FAILURE_S = 15.0
"""A fetch that failed is tried again this soon, once somebody calls."""


class Market:
    """Remembers catalog, feed, refusals, and who wants to hear of news.

    `clock` is monotonic, `wall` Unix time; both in seconds.
    """

    def __init__(
        self,
        site: Site,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        cache_dir: Path | None = None,
        feed_ttl_s: float = FEED_TTL_S,
    ) -> None:
        self.site = site
        self.catalog: Catalog | None = None
        self.feed: Feed | None = None
        self.memory = Memory()
        self.latencies = Latencies()
        self.problems: dict[str, str] = {}
        """What the last fetch of `catalog` and `feed` failed with, while it still fails."""
        self._clock = clock
        self._wall = wall
        self._feed_ttl_s = feed_ttl_s
        self._cache = CacheFile(cache_dir, site.api_base) if cache_dir is not None else None
        self._looked_in_cache = False
        self._fetched_at: dict[str, float] = {}
        self._warmed_at: dict[str, float] = {}
        self._listeners: list[WeakMethod[Callable[[], None]]] = []
        self._lock = threading.RLock()
        self._refreshing = False

    # -- knowing -------------------------------------------------------------------------------

    def known(self) -> Catalog | None:
        """The catalog in memory, else the persisted one; never asks the network."""
        if self.catalog is None and not self._looked_in_cache:
            self._looked_in_cache = True
            if self._cache is not None:
                self.catalog = self._cache.read()
        return self.catalog

    def trusted(self) -> Catalog | None:
        """The catalog if it is young enough to say that a model does not exist."""
        catalog = self.known()
        if catalog is None or not catalog.models or self._wall() - catalog.at > TRUSTED_S:
            return None
        return catalog

    def ranked(self, rules: RankRules, *, incumbent: str | None = None) -> list[Ranked]:
        """The models of the catalog, best first; empty while no catalog is known."""
        catalog = self.known()
        if catalog is None:
            return []
        with self._lock:
            seen = self.memory.seen(self._clock())
        return rank(
            catalog, self.feed, now=self._wall(), rules=rules, seen=seen, incumbent=incumbent
        )

    def is_idle(self, model: str) -> bool:
        """Whether the feed, if fresh, says that no instance of the model runs."""
        feed = self.feed
        if feed is None or self._wall() - feed.at > RankRules().stale_s:
            return False
        row = feed.rows.get(model)
        return row is not None and row.active == 0 and self._warmed_at.get(model, 0.0) <= feed.at

    # -- what our calls met --------------------------------------------------------------------

    def answered(self, model: str, *, took_s: float | None = None) -> None:
        """A model answered, after `took_s` seconds if it did so in one piece."""
        with self._lock:
            self.memory.answered(model, self._clock())
            if took_s is not None:
                self.latencies.took(model, took_s)

    def patience_s(self, model: str, left_s: float) -> float:
        """How long a call with `left_s` may wait for its turn and still be answered in time."""
        with self._lock:
            return self.latencies.patience_s(model, left_s)

    def refused(self, model: str, *, rest_s: float, reason: str) -> None:
        """A model refused."""
        with self._lock:
            self.memory.refused(model, self._clock(), rest_s=rest_s, reason=reason)
        self._tell()

    def warmed(self, model: str) -> None:
        """A model was warmed up; the feed knows it half an hour later."""
        with self._lock:
            self.memory.wake(model)
            self._warmed_at[model] = self._wall()

    def rest_s(self, model: str) -> tuple[float, str]:
        """How long the model still rests, and why."""
        with self._lock:
            return self.memory.rest_s(model, self._clock()), self.memory.reason(model)

    # -- fetching ------------------------------------------------------------------------------

    async def refresh(self, transport: Transport, *, force: bool = False) -> None:
        """Fetch what is due, catalog and feed at once; failures are kept in `problems`."""
        async with anyio.create_task_group() as group:
            if force or self._is_due("catalog", MODELS_TTL_S):
                group.start_soon(self._fetch, "catalog", transport)
            if self.site.management and (force or self._is_due("feed", self._feed_ttl_s)):
                group.start_soon(self._fetch, "feed", transport)
        self._tell()

    async def refresh_catalog(self, transport: Transport) -> None:
        """Fetch the catalog now."""
        await self._fetch("catalog", transport)

    def follow(self, listener: Callable[[], None]) -> None:
        """Call a bound method after every change, for as long as its object lives."""
        with self._lock:
            self._listeners.append(WeakMethod(listener))

    def keep_fresh(self, make_transport: Callable[[], Transport]) -> None:
        """Start a refresh in a thread of its own if one is due and somebody follows.

        A call never waits for it: whatever is known serves meanwhile.
        """
        with self._lock:
            self._listeners = [ref for ref in self._listeners if ref() is not None]
            due = self._is_due("catalog", MODELS_TTL_S) or self._is_due("feed", self._feed_ttl_s)
            if self._refreshing or not self._listeners or not due:
                return
            self._refreshing = True
        work = partial(self._refresh_apart, make_transport)
        threading.Thread(target=anyio.run, args=(work,), name="chutes-refresh", daemon=True).start()

    async def _refresh_apart(self, make_transport: Callable[[], Transport]) -> None:
        try:
            transport = make_transport()
            try:
                await self.refresh(transport)
            finally:
                if isinstance(transport, Closes):
                    await transport.aclose()
        finally:
            self._refreshing = False

    def _is_due(self, what: str, ttl_s: float) -> bool:
        if what == "feed" and self.site.management is None:
            return False
        if what == "catalog" and self.known() is None:
            return True  # nothing works without one, and only who waits for it asks
        wait_s = min(ttl_s, AFTER_FAILURE_S) if what in self.problems else ttl_s
        return self._clock() - self._fetched_at.get(what, float("-inf")) >= wait_s

    async def _fetch(self, what: str, transport: Transport) -> None:
        self._fetched_at[what] = self._clock()
        try:
            if what == "catalog":
                await self._fetch_catalog(transport)
            else:
                document = await fetch_json(
                    transport, self.site.at_management("/chutes/utilization")
                )
                self.feed = read_feed(document, now=self._wall())
        except ScillmError as error:
            self.problems[what] = error.message
            known = self.known() if what == "catalog" else self.feed
            log.warning(
                "the %s of %s cannot be fetched, %s: %s",
                what,
                self.site.api_base,
                "none is known" if known is None else "the last known serves",
                error,
            )
        else:
            self.problems.pop(what, None)

    async def _fetch_catalog(self, transport: Transport) -> None:
        document = await fetch_json(transport, self.site.catalog)
        catalog = read_catalog(document, now=self._wall())
        if not catalog.models:
            raise MalformedReplyError(f"{self.site.catalog} lists no model; the last list is kept.")
        self.catalog = catalog
        if self._cache is not None:
            try:
                self._cache.write(document, at=catalog.at)
            except OSError as error:
                self.problems["cache"] = f"{self._cache.path}: {error}"
                log.warning("the catalog cannot be stored: %s", error)

    def _tell(self) -> None:
        with self._lock:
            listeners = [listener for ref in self._listeners if (listener := ref()) is not None]
        for listener in listeners:
            listener()


async def fetch_json(
    transport: Transport, url: str, *, key: str | None = None, timeout_s: float = FETCH_S
) -> Any:
    """The JSON behind a GET; raises `ProviderError`, in which the key never stands."""
    secrets = (key,) if key else ()
    headers = {"accept": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    reply = await transport.send(
        HttpCall(method="GET", url=url, headers=headers, timeout_s=timeout_s)
    )
    if reply.status != 200:
        raise ProviderError(
            f"GET {url} answered {reply.status}: {detail_of(reply.body, secrets)}",
            provider="chutes",
            status_code=reply.status,
        )
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        raise MalformedReplyError(
            f"GET {url} should have answered with JSON, but did not ({error}).",
            provider="chutes",
        ) from error


def detail_of(body: bytes, secrets: Iterable[str] = ()) -> str:
    """What an error reply says, in short and without secrets."""
    return excerpt(masked(read_complaint(body).text, secrets), 200)
