"""Places for processes: so many at once over a whole job, or one that has the machine alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Slots:
    """`count` places. Remembers how many are free, and how many wait to be alone.

    Who waits to be alone is let in before newcomers, so that timing is not put off for ever.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = count
        self._solitary = 0
        self._changed = anyio.Condition()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """One place among others."""
        async with self._changed:
            while self._free == 0 or self._solitary:
                await self._changed.wait()
            self._free -= 1
        try:
            yield
        finally:
            await self._give_back(1)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Every place: nothing else of this job runs meanwhile."""
        async with self._changed:
            self._solitary += 1
            try:
                while self._free < self._count:
                    await self._changed.wait()
                self._free = 0
            finally:
                self._solitary -= 1
                self._changed.notify_all()  # who gave way to one that gave up
        try:
            yield
        finally:
            await self._give_back(self._count)

    async def _give_back(self, places: int) -> None:
        with anyio.CancelScope(shield=True):
            async with self._changed:
                self._free += places
                self._changed.notify_all()
