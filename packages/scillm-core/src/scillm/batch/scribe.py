"""Entries into the ledger, off the event loop; those that wait together share one flush."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from attrs import define

if TYPE_CHECKING:
    from scillm.batch.ledger import Ledger
    from scillm.records import Json


@define
class _Note:
    """An entry on its way. Remembers how that ended."""

    entry: Json
    written: bool = False
    error: Exception | None = None


class Scribe:
    """Writes to one ledger. Remembers what waits while the disk is busy."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[_Note] = []
        self._turn = anyio.Lock()
        # Of its own: the default one can be full of functions that wait for this very disk.
        self._thread = anyio.CapacityLimiter(1)

    async def write(self, entry: Json) -> None:
        """Return when `entry` is on the disk; cancelling does not interrupt that."""
        note = _Note(entry)
        with anyio.CancelScope(shield=True):
            self._waiting.append(note)
            async with self._turn:
                if not note.written and note.error is None:
                    await self._flush()
        if note.error is not None:
            raise note.error

    async def _flush(self) -> None:
        notes, self._waiting = self._waiting, []
        entries = [note.entry for note in notes]
        try:
            await to_thread.run_sync(self._ledger.record, entries, limiter=self._thread)
        except Exception as error:  # noqa: BLE001 - raised in every task whose entry it was
            for note in notes:
                note.error = error
        else:
            for note in notes:
                note.written = True
