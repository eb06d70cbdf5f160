"""What all Chutes calls of a process share: a gate for each key and a market for each site.

A ban hits a key whichever Router used it, so these cannot belong to one Router.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.resilience.account import key_name

from scillm_chutes.gate import KeyGate
from scillm_chutes.market import FEED_TTL_S, Market
from scillm_chutes.pausefile import PauseFile

if TYPE_CHECKING:
    from scillm_chutes.pacing import PaceRules
    from scillm_chutes.sites import Site


class Desk:
    """Finds gates and markets, and makes them at first use. Remembers them.

    `clock` (monotonic seconds) and `wall` (Unix time) can be replaced for virtual time.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.wall = wall
        self.kept: dict[Hashable, object] = {}
        """What helpers keep from one call to the next."""
        self._gates: dict[str, KeyGate] = {}
        self._markets: dict[Site, Market] = {}
        self._lock = threading.Lock()

    def gate(
        self, site: Site, api_key: str, rules: PaceRules, *, cache_dir: Path | None = None
    ) -> KeyGate:
        """The gate of a key at a service; the other arguments count only at its first use.

        The hosts of one service share it: the edge counts keys, not base URLs.
        """
        service = hashlib.sha256((site.management or site.api_base).encode()).hexdigest()[:8]
        name = f"{key_name(api_key)}-{service}"
        with self._lock:
            if name not in self._gates:
                file = None if cache_dir is None else PauseFile(cache_dir, name)
                self._gates[name] = KeyGate(rules, clock=self.clock, wall=self.wall, file=file)
            return self._gates[name]

    def market(
        self, site: Site, *, cache_dir: Path | None = None, feed_ttl_s: float = FEED_TTL_S
    ) -> Market:
        """The market of a site; the other arguments count only at its first use."""
        with self._lock:
            if site not in self._markets:
                self._markets[site] = Market(
                    site,
                    clock=self.clock,
                    wall=self.wall,
                    cache_dir=cache_dir,
                    feed_ttl_s=feed_ttl_s,
                )
            return self._markets[site]


_DESK = Desk()


def shared_desk() -> Desk:
    """The desk of this process."""
    return _DESK
