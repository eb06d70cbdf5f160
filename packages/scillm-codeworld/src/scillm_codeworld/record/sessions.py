"""Sessions and their tracks: what each run was worth, kept in one SQLite file (SQLite's door)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import StoredRunError, UsageError

from scillm_codeworld.record.plateau import signals

if TYPE_CHECKING:
    from scillm.records import Json

NAME = "codeworld_sessions.sqlite"
WAIT_S = 30.0
KEPT = 50
"""Runs of one track that are looked at; older ones stay in the file."""
MAX_ID_CHARS = 200
TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL, track TEXT NOT NULL,
    run_id TEXT NOT NULL, value REAL NOT NULL, at TEXT NOT NULL
)
"""


class Sessions:
    """The sessions in the file at `path`. Remembers only where; several processes may write."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    def note(
        self, session: str, track: str, *, run_id: str, value: float, at: str
    ) -> dict[str, Json]:
        """Add a run and say how the track stands; see `plateau.signals`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self.path, timeout=WAIT_S)) as base, base:
                base.execute("BEGIN IMMEDIATE")
                base.execute(TABLE)
                base.execute(
                    "INSERT INTO runs (session, track, run_id, value, at) VALUES (?, ?, ?, ?, ?)",
                    (session, track, run_id, value, at),
                )
                values = _values(base, session, track)
        except sqlite3.Error as error:
            raise StoredRunError(f"The sessions in {self.path} cannot be kept: {error}.") from error
        return {"session_id": session, "track_id": track or None, **signals(values)}


def _values(base: sqlite3.Connection, session: str, track: str) -> list[float]:
    rows = base.execute(
        "SELECT value FROM runs WHERE session = ? AND track = ? ORDER BY number DESC LIMIT ?",
        (session, track, KEPT),
    ).fetchall()
    return [float(value) for (value,) in reversed(rows)]


def session_id(given: Json, *, name: str) -> str | None:
    """`given` as the name of a session or track; `UsageError` for what is none."""
    if given is None:
        return None
    if not isinstance(given, str) or not given.strip() or len(given) > MAX_ID_CHARS:
        raise UsageError(
            f"{name} must be a text of at most {MAX_ID_CHARS} characters, but is {given!r}."
        )
    return given
