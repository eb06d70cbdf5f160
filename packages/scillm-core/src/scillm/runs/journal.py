"""The journal: an append-only JSON Lines file with one writer that survives a kill at any byte.

What its lines are made of is in `chain`. Cut off at the end of a line, a journal is still sound:
whoever must notice that keeps `head` elsewhere. It keeps what it is given: secrets stay outside.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from scillm.runs.chain import JournalError, Place, decode, decode_alone, encode, is_torn, not_torn
from scillm.runs.lock import WriterLock

if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO

    from scillm.records import Json

log = logging.getLogger("scillm.journal")


@frozen(kw_only=True)
class Row:
    """One row of a journal, and the byte its line begins at."""

    seq: int
    data: Json
    hash: str
    offset: int


@frozen(kw_only=True)
class Extent:
    """How far a journal goes: whole rows, the last hash, their bytes, torn bytes after them."""

    rows: int
    head: str
    size_bytes: int
    torn_bytes: int


def nothing(_: Row, /) -> None:
    """Visit a row without looking."""


def scan(path: Path, visit: Callable[[Row], None] = nothing) -> Extent:
    """Read and verify `path` from its first line to its last, keeping nothing.

    A torn last line is counted, not visited. Raises `JournalDamagedError` naming the line.
    """
    place, offset = Place(), 0
    with _reading(path) as file:
        for line in file:
            if not line.endswith(b"\n"):
                if not is_torn(line, place):
                    raise not_torn(str(path), place)
                return Extent(
                    rows=place.rows, head=place.head, size_bytes=offset, torn_bytes=len(line)
                )
            data, place = decode(line, place, where=str(path))
            visit(Row(seq=place.rows, data=data, hash=place.head, offset=offset))
            offset += len(line)
    return Extent(rows=place.rows, head=place.head, size_bytes=offset, torn_bytes=0)


def rows_at(path: Path, offsets: Iterable[int]) -> Iterator[Row]:
    """The rows that begin at these bytes of a scanned journal, in the order of `offsets`."""
    with _reading(path) as file:
        for offset in offsets:
            file.seek(offset)
            where = f"The line at byte {offset} of {path}"
            data, place = decode_alone(file.readline(), where=where)
            yield Row(seq=place.rows, data=data, hash=place.head, offset=offset)


class Journal:
    """The writer of one journal. Remembers its end, and nothing of its rows.

    Opening verifies the whole file once, shows each row to `visit`, and cuts off a torn last line:
    `cut_bytes` says how much, and a warning is logged. `sync_every` is the number of rows after
    which they are forced to the disk: 1 is the safest, None leaves it to `sync` and `close`.

    Raises `JournalLockedError` when it has a writer, `JournalDamagedError` when it was changed.
    Threads may share it; a forked child may not use it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        sync_every: int | None = 1,
        visit: Callable[[Row], None] = nothing,
    ) -> None:
        self.path = Path(path)
        self.cut_bytes = 0
        self._sync_every = sync_every
        self._unsynced = 0
        self._broken = ""
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(self.path)
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except BaseException:
            lock.release()
            raise
        # Also for callers that never close: the lock must not outlive the writer.
        self._finish = weakref.finalize(self, _finished, self._fd, lock)
        try:
            extent = scan(self.path, visit)
            self._place = Place(rows=extent.rows, head=extent.head)
            self._size = extent.size_bytes
            self._repair(extent)
            _sync_folder(self.path.parent)
        except BaseException:
            self._finish()
            raise

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self._place.rows

    @property
    def head(self) -> str:
        """The hash of its last row."""
        return self._place.head

    def append(self, data: Json, *, sync: bool = True) -> Row:
        """Add one row; see `extend`."""
        return self.extend([data], sync=sync)[0]

    def extend(self, values: Sequence[Json], *, sync: bool = True) -> list[Row]:
        """Add rows in order: all of them, or none and an error.

        They are on the disk when this returns, as far as `sync_every` says so and `sync` is left
        on. `TypeError`, `ValueError` or `RecursionError` for a value that is not plain JSON;
        `JournalError` when the file cannot be written.
        """
        with self._guard:
            self._check_usable()
            lines, found, place, offset = [], [], self._place, self._size
            for value in values:
                line, place = encode(value, place)
                found.append(Row(seq=place.rows, data=value, hash=place.head, offset=offset))
                lines.append(line)
                offset += len(line)
            self._write(b"".join(lines))
            self._place, self._size = place, offset
            self._unsynced += len(lines)
            if sync and self._sync_every is not None and self._unsynced >= self._sync_every:
                self._sync()
            return found

    def sync(self) -> None:
        """Force every row to the disk."""
        with self._guard:
            self._check_usable()
            self._sync()

    def close(self) -> None:
        """Force every row to the disk and let others write; a second call does nothing."""
        with self._guard:
            try:
                if self._finish.alive and not self._broken and os.getpid() == self._pid:
                    self._sync()
            finally:
                self._finish()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_usable(self) -> None:
        if not self._finish.alive:
            raise JournalError(f"{self.path} is closed; open it again to write.")
        if self._broken:
            raise JournalError(f"{self.path} cannot be written any more: {self._broken}.")
        if os.getpid() != self._pid:
            raise JournalError(
                f"{self.path} was opened by process {self._pid}; this is its child {os.getpid()}, "
                "which must not write it. Open journals after forking."
            )

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except BaseException as error:
            # Half a line must not stay in front of the next one.
            self._cut()
            if isinstance(error, OSError):
                raise JournalError(
                    f"{self.path} could not be written: {error.strerror}. Its {self.rows} rows so "
                    "far are whole; make room, or whatever is missing, and go on."
                ) from error
            raise

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            self._broken = f"half a row was written and cannot be cut off ({error.strerror})"

    def _sync(self) -> None:
        if not self._unsynced:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            # What the kernel holds after a failed fsync is not known: nothing may follow it.
            self._broken = f"the disk did not take its last rows ({error.strerror})"
            raise JournalError(
                f"{self.path} could not be forced to the disk: {error.strerror}. Open it again to "
                "see which rows it has."
            ) from error
        self._unsynced = 0

    def _repair(self, extent: Extent) -> None:
        if not extent.torn_bytes:
            return
        os.ftruncate(self._fd, extent.size_bytes)
        os.fsync(self._fd)
        self.cut_bytes = extent.torn_bytes
        log.warning(
            "%s ended inside row %d: %d bytes were cut off; the %d rows before it are whole.",
            self.path,
            extent.rows + 1,
            extent.torn_bytes,
            extent.rows,
        )


def _reading(path: Path) -> BinaryIO:
    # A device or a pipe may never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise JournalError(f"{path} must be an ordinary file to be a journal, but it is not.")
    return path.open("rb")


def _finished(fd: int, lock: WriterLock) -> None:
    os.close(fd)
    lock.release()


def _sync_folder(folder: Path) -> None:
    # A new file is safe only when its name is on the disk too.
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
