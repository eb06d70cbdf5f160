"""One writer per file: an advisory lock beside it that ends with the process, however it ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.runs.chain import JournalLockedError

if TYPE_CHECKING:
    from types import TracebackType

TRIES = 10
PAUSE_S = 0.01
"""Between tries: `writer_of` looks by locking for an instant, which must not refuse a writer."""


def lock_path(path: Path) -> Path:
    """The lock's file for `path`, whatever links lead there; it holds the pid of the writer."""
    real = path.resolve()
    return real.with_name(f"{real.name}.lock")


class WriterLock:
    """The right to write `path`, held until `release`. Remembers the open lock file.

    Raises `JournalLockedError` at once when somebody else has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = lock_path(path)
        self._pid = os.getpid()
        self._fd: int | None = None
        for tried in range(TRIES):
            if tried:
                time.sleep(PAUSE_S)
            self._fd = _taken(self._path)
            if self._fd is not None:
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, f"{self._pid}\n".encode(), 0)
                return
        raise _busy(path, _pid_in(self._path))

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        # In a forked child the lock is still the parent's. Otherwise the file is removed while
        # it is held, so that nobody can lock a file that is about to go.
        if os.getpid() == self._pid:
            self._path.unlink(missing_ok=True)
        os.close(fd)

    def __enter__(self) -> WriterLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def writer_of(path: Path) -> int | None:
    """The pid of the process that writes `path` now, 0 when it did not say, None when nobody."""
    import fcntl

    try:
        fd = os.open(lock_path(path), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(lock_path(path)) or 0
    finally:
        os.close(fd)
    return None


def _taken(path: Path) -> int | None:
    """The open lock file, locked; None when another has it or has just removed it."""
    import fcntl

    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _pid_in(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None


def _busy(path: Path, pid: int | None) -> JournalLockedError:
    who = "another process" if pid is None else f"process {pid}"
    if pid == os.getpid():
        who = f"this process ({pid}) itself, in another place"
    return JournalLockedError(
        f"{path} is being written by {who}; a journal has one writer. Wait for it to end, or "
        "write to another file.",
        pid=pid,
    )
