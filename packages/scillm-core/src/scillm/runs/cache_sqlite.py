"""A response cache in one SQLite file that several processes share (sqlite3's door)."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from scillm.errors import UsageError
from scillm.runs.cache_stores import StoreFaultError

Found = TypeVar("Found")

BUSY_S = 5.0
SWEEP_EVERY = 1000
"""Rows written between two sweeps of those that have expired."""
TABLE = """CREATE TABLE IF NOT EXISTS scillm_answers
(key TEXT PRIMARY KEY, expires_at REAL, row BLOB NOT NULL) WITHOUT ROWID"""


class SqliteStore:
    """Rows in a file, in WAL mode. Remembers its connection, one for each process.

    Raises `UsageError` when the file cannot be such a store.
    """

    name = "sqlite"
    is_quick = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._written = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._do(self._sweep)
        except (OSError, StoreFaultError) as error:
            self.close()
            raise UsageError(
                f"{self.path} cannot hold a response cache: {error}. Name a new file, or one that "
                "a cache has made."
            ) from error

    def get(self, key: str, /) -> bytes | None:
        """The row, or None."""

        def read(db: sqlite3.Connection) -> bytes | None:
            found = db.execute("SELECT row FROM scillm_answers WHERE key = ?", (key,)).fetchone()
            if found is None or isinstance(found[0], bytes):
                return None if found is None else found[0]
            # Somebody else has written here; whoever reads the row finds out.
            return str(found[0]).encode("utf-8", "surrogatepass")

        return self._do(read)

    def put(self, key: str, row: bytes, expires_at: float | None, /) -> None:
        """Keep a row; now and then those that have expired go."""

        def write(db: sqlite3.Connection) -> None:
            values = (key, expires_at, row)
            db.execute("INSERT OR REPLACE INTO scillm_answers VALUES (?, ?, ?)", values)
            self._written += 1
            if self._written % SWEEP_EVERY == 0:
                self._sweep(db)

        self._do(write)

    def drop(self, key: str, /) -> None:
        """Forget a row."""
        self._do(lambda db: db.execute("DELETE FROM scillm_answers WHERE key = ?", (key,)))

    def clear(self) -> None:
        """Forget all rows."""
        self._do(lambda db: db.execute("DELETE FROM scillm_answers"))

    def count(self) -> int | None:
        """Rows kept, expired ones included."""
        return int(
            self._do(lambda db: db.execute("SELECT count(*) FROM scillm_answers").fetchone())[0]
        )

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            self._let_go()

    def _do(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        with self._lock:
            try:
                return work(self._open())
            except sqlite3.Error as error:
                # A broken file stays broken on this connection; the next use tries a new one.
                self._let_go()
                raise StoreFaultError(f"{type(error).__name__}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        # A connection does not survive a fork: the child opens its own, and forgets the parent's.
        if self._connection is None or self._pid != os.getpid():
            db = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute(TABLE)
            except BaseException:
                db.close()
                raise
            self._connection, self._pid = db, os.getpid()
        return self._connection

    def _let_go(self) -> None:
        db, self._connection = self._connection, None
        if db is not None and self._pid == os.getpid():
            with suppress(sqlite3.Error):
                db.close()

    @staticmethod
    def _sweep(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM scillm_answers WHERE expires_at < ?", (time.time(),))
