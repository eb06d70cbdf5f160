"""Starts kept processes: a zygote for each program, for as long as something lives in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakSet

from scillm.errors import SandboxError

from scillm_codeworld.sandbox.kept import KeptProcess, unkept
from scillm_codeworld.sandbox.kept_program import order_for
from scillm_codeworld.sandbox.talk import Silence
from scillm_codeworld.sandbox.zygotes import Order, Zygote

if TYPE_CHECKING:
    from scillm.protocols import KeptProgram
    from scillm.records import Json

    from scillm_codeworld.sandbox.spawned import Spawned


class Keeping:
    """What one sandbox keeps. Remembers its zygotes, and who lives in them.

    `spawn(zygote, memory_mb)` orders a child of a zygote.
    """

    def __init__(self, level: str, spawn: Callable[[Zygote, int], Spawned]) -> None:
        self._level = level
        self._spawn = spawn
        self._zygotes: dict[Order, Zygote] = {}
        self._kept: dict[Order, WeakSet[KeptProcess]] = {}

    def keep(self, program: KeptProgram, holds: Mapping[str, Json]) -> KeptProcess:
        """See `Keeps`; `holds` is what the sandbox puts on besides."""
        order = order_for(program, level=self._level)
        self._sweep(order)
        try:
            kept = self._started(order, program, holds)
        except BlockingIOError as error:
            raise SandboxError(
                "The sandbox has as many orders as it can hold; try again."
            ) from error
        except (OSError, Silence) as error:
            raise unkept(str(error)) from error
        self._kept.setdefault(order, WeakSet()).add(kept)
        return kept

    def _started(
        self, order: Order, program: KeptProgram, holds: Mapping[str, Json]
    ) -> KeptProcess:
        zygote = self._zygote(order)
        try:
            spawned = self._spawn(zygote, program.memory_mb)
        except ConnectionError:  # it ended, but is not reaped yet; why, the next one says
            zygote.lost = True
            zygote = self._zygote(order)
            spawned = self._spawn(zygote, program.memory_mb)
        return KeptProcess(zygote, spawned, program, holds)

    def _zygote(self, order: Order) -> Zygote:
        zygote = self._zygotes.get(order)
        if zygote is None or not zygote.alive:
            if zygote is not None:
                zygote.end()
            zygote = self._zygotes[order] = Zygote(order)
        return zygote

    def _sweep(self, wanted: Order) -> None:
        """End the zygotes in which nothing lives any more; `wanted` stays warm."""
        for order in [order for order in self._zygotes if order != wanted]:
            if not any(kept.alive for kept in self._kept.get(order, ())):
                self._zygotes.pop(order).end()
                self._kept.pop(order, None)

    async def aclose(self) -> None:
        """End every process that is kept."""
        self._kept.clear()
        while self._zygotes:
            await self._zygotes.popitem()[1].aclose()
