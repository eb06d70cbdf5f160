"""Verdicts kept by what was asked, and one flight for callers who ask the same at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import anyio

from scillm_certainly.records import INCONCLUSIVE, UNAVAILABLE, ProofVerdict

PASSING = frozenset({"timeout", "died", "busy", "unavailable", "worker", "memory"})
"""Limits that tell about this moment; another try may go better, so they are not kept."""


def is_lasting(verdict: ProofVerdict) -> bool:
    """Whether the same question will get the same verdict."""
    return verdict.status not in (INCONCLUSIVE, UNAVAILABLE) or verdict.limit not in PASSING


class Memory:
    """The last verdicts by key. Remembers which questions are in the air."""

    def __init__(self, *, entries: int) -> None:
        self._entries = entries
        self._kept: OrderedDict[str, ProofVerdict] = OrderedDict()
        self._flying: dict[str, anyio.Event] = {}
        self.hits = 0

    async def through(
        self, key: str, work: Callable[[], Awaitable[ProofVerdict]]
    ) -> tuple[ProofVerdict, bool]:
        """The verdict under `key`, from memory (True) or from `work` (False)."""
        while True:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                self.hits += 1
                return kept, True
            landing = self._flying.get(key)
            if landing is None:
                return await self._fly(key, work), False
            await landing.wait()

    async def _fly(self, key: str, work: Callable[[], Awaitable[ProofVerdict]]) -> ProofVerdict:
        landing = self._flying[key] = anyio.Event()
        try:
            verdict = await work()
            if is_lasting(verdict):
                self._keep(key, verdict)
            return verdict
        finally:
            # Also when it failed or was cancelled: one of those who wait flies next.
            del self._flying[key]
            landing.set()

    def _keep(self, key: str, verdict: ProofVerdict) -> None:
        self._kept[key] = verdict
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def forget(self) -> None:
        """Drop every verdict."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
