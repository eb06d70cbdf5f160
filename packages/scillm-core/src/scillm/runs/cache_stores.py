"""Where a response cache keeps its rows: the role of a store, and the one in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol


class StoreFaultError(Exception):
    """A store could not be read or written; the cache says so and goes on without."""


class Store(Protocol):
    """Keeps rows by key. Its methods may block, and raise `StoreFaultError`."""

    name: str
    is_quick: bool
    """Whether its methods return at once; others are called in a thread."""

    def get(self, key: str, /) -> bytes | None:
        """The row, or None."""
        ...

    def put(self, key: str, row: bytes, expires_at: float | None, /) -> None:
        """Keep a row; `expires_at` in seconds since 1970."""
        ...

    def drop(self, key: str, /) -> None:
        """Forget a row."""
        ...

    def clear(self) -> None:
        """Forget all rows."""
        ...

    def count(self) -> int | None:
        """Rows kept; None when that is not known."""
        ...

    def close(self) -> None:
        """Release what is held; the next use takes it again."""
        ...


class MemoryStore:
    """Rows of this process. Remembers the most recently used, as many as the bounds allow."""

    name = "memory"
    is_quick = True

    def __init__(self, *, max_entries: int = 10_000, max_bytes: int = 100_000_000) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._rows: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str, /) -> bytes | None:
        """The row, now the most recently used."""
        with self._lock:
            row = self._rows.get(key)
            if row is not None:
                self._rows.move_to_end(key)
            return row

    def put(self, key: str, row: bytes, _expires_at: float | None, /) -> None:
        """Keep a row and let the least recently used go; one larger than all is not kept."""
        with self._lock:
            self._forget(key)
            if len(row) > self._max_bytes:
                return
            self._rows[key] = row
            self._bytes += len(row)
            while len(self._rows) > self._max_entries or self._bytes > self._max_bytes:
                self._forget(next(iter(self._rows)))

    def drop(self, key: str, /) -> None:
        """Forget a row."""
        with self._lock:
            self._forget(key)

    def clear(self) -> None:
        """Forget all rows."""
        with self._lock:
            self._rows.clear()
            self._bytes = 0

    def count(self) -> int | None:
        """Rows kept."""
        return len(self._rows)

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows."""
        return self._bytes

    def close(self) -> None:
        """Nothing is held."""

    def _forget(self, key: str) -> None:
        row = self._rows.pop(key, None)
        if row is not None:
            self._bytes -= len(row)
