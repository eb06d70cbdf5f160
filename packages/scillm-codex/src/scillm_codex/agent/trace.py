"""Traces on disk: one journal per run in a folder, written as the run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import StoredRunError
from scillm.runs.journal import Journal, Row, scan

from scillm_codex.agent.rows import Replayed, replayed

if TYPE_CHECKING:
    from scillm.records import Json

SUFFIX = ".jsonl"


class Trace:
    """Where the rows of one run go. Without a folder they go nowhere. Holds its journal."""

    def __init__(self, folder: Path | None, run_id: str) -> None:
        self.path = None if folder is None else folder / f"{run_id}{SUFFIX}"
        self._journal = None if self.path is None else Journal(self.path, sync_every=None)

    def note(self, row: Mapping[str, Json]) -> None:
        """Keep `row`; a killed process loses none, a power cut may."""
        if self._journal is not None:
            self._journal.append(dict(row))

    def close(self) -> None:
        """Force it to the disk."""
        if self._journal is not None:
            self._journal.close()


def replay(path: Path) -> Replayed:
    """Walk the run of a trace again, with no model and no tool.

    Raises `StoredRunError` when there is none, `JournalDamagedError` when it was changed.
    """
    rows: list[Mapping[str, Json]] = []

    def seen(row: Row) -> None:
        rows.append(row.data)

    try:
        scan(path, seen)
    except FileNotFoundError:
        raise StoredRunError(f"There is no trace {path}.") from None
    return replayed(rows)
