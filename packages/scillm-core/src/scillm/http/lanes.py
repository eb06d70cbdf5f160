"""Lanes: idle single connections of httpcore, by the origin they lead to (httpx's door)."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import anyio
import httpcore
import httpx
from attrs import frozen

from scillm.http.outcomes import unusable_url

MAX_IDLE_LANES = 512
"""Idle lanes kept per origin; further ones are closed after their call, and a burst of as many
calls as the one before would begin with opening them again."""
KEEPALIVE_S = 30.0
CLOSE_S = 5.0
"""Seconds a connection may take to close before it is dropped."""

Connection: TypeAlias = httpcore.AsyncHTTPConnection | httpcore.AsyncHTTPProxy
Origin: TypeAlias = tuple[bytes, bytes, int]


@frozen(kw_only=True)
class Target:
    """Where a URL leads."""

    scheme: bytes
    host: bytes
    port: int
    path: bytes
    authority: bytes
    """The value of the Host header."""

    @property
    def origin(self) -> Origin:
        """What a connection belongs to."""
        return self.scheme, self.host, self.port


class Lanes:
    """The idle lanes of one event loop. Remembers them by origin."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[tuple[float, Connection]]] = {}

    async def take(self, origin: Origin) -> Connection | None:
        """The lane that was used last and is still open, or None."""
        idle = self._idle.get(origin)
        while idle:
            _, lane = idle.pop()
            if isinstance(lane, httpcore.AsyncHTTPProxy) or not lane.has_expired():
                return lane
            await close(lane)
        return None

    async def give(self, origin: Origin, lane: Connection, now: float) -> None:
        """Keep a lane for a next call; the oldest is closed when it is too old or too many."""
        idle = self._idle.setdefault(origin, [])
        idle.append((now, lane))
        if len(idle) > MAX_IDLE_LANES or now - idle[0][0] > KEEPALIVE_S:
            await close(idle.pop(0)[1])

    async def aclose(self) -> None:
        """Close every idle lane."""
        idle, self._idle = self._idle, {}
        for _, lane in (pair for lanes in idle.values() for pair in lanes):
            await close(lane)


@lru_cache(maxsize=256)
def target_of(text: str) -> Target:
    """Where `text` leads; `UsageError` unless it is an http URL with a host."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise unusable_url(text, str(error)) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise unusable_url(text)
    return Target(
        scheme=url.raw_scheme,
        host=url.raw_host,
        port=url.port or (443 if url.scheme == "https" else 80),
        path=url.raw_path,
        authority=url.netloc,
    )


async def close(lane: Connection) -> None:
    """Close a connection, whatever becomes of the caller."""
    with anyio.move_on_after(CLOSE_S, shield=True):
        await lane.aclose()
