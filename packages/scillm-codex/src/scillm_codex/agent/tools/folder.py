"""A work folder nobody gets out of: every step of a path is opened without following links."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from scillm.errors import UsageError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


MOST_PATH_CHARS = 1000


class OutsideError(UsageError):
    """A path is not one of the work folder."""


def steps_of(path: str) -> list[str]:
    """The names of a relative path; `OutsideError` for one that leads anywhere else."""
    if len(path) > MOST_PATH_CHARS:
        raise OutsideError(f"A path has at most {MOST_PATH_CHARS} characters, not {len(path)}.")
    if "\0" in path or not _is_text(path):
        raise OutsideError(f"{path!r} is no path: it holds a character that no file name can.")
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise OutsideError(
            f"{path!r} is outside the work folder; give a path relative to it, without '..'."
        )
    return list(pure.parts)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


class WorkFolder:
    """Files under one root. Remembers only where it is."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str, *, most_bytes: int) -> tuple[bytes, int]:
        """Up to `most_bytes` of a file, and its whole size."""
        with self._parent(path) as (parent, name):
            fd = os.open(name, os.O_RDONLY | FILE, dir_fd=parent)
            with os.fdopen(fd, "rb") as file:
                size = _regular(fd, path)
                return file.read(most_bytes), size

    def write(self, path: str, data: bytes) -> None:
        """Write a file, with the folders above it."""
        with self._parent(path, make=True) as (parent, name):
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | FILE, 0o666, dir_fd=parent)
            with os.fdopen(fd, "wb") as file:
                _regular(fd, path)
                file.truncate(0)
                file.write(data)

    def names(self, path: str, *, most: int) -> tuple[list[str], int]:
        """Names in a folder, folders with a slash, sorted; at most so many, and how many more."""
        with self._folder(steps_of(path)) as fd:
            found = sorted(
                entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                for entry in os.scandir(fd)
            )
        return found[:most], max(0, len(found) - most)

    @contextmanager
    def _parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        steps = steps_of(path)
        if not steps:
            raise OutsideError(f"{path!r} is the work folder itself; a file in it was wanted.")
        with self._folder(steps[:-1], make=make) as parent:
            yield parent, steps[-1]

    @contextmanager
    def _folder(self, steps: list[str], *, make: bool = False) -> Iterator[int]:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for step in steps:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(step, dir_fd=fd)
                inner = os.open(step, FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)


def _regular(fd: int, path: str) -> int:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise OutsideError(f"{path!r} is no ordinary file.")
    if found.st_nlink > 1:
        # A hard link is how a file from elsewhere can stand here without a link to be seen.
        raise OutsideError(f"{path!r} has another name elsewhere, so it is not touched.")
    return found.st_size
