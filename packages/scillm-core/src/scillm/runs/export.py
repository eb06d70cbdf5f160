"""A stored run as one file: a zip that is the same to the byte whenever it is made."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import StoredRunError

if TYPE_CHECKING:
    from collections.abc import Iterator

EPOCH = (1980, 1, 1, 0, 0, 0)
MODE = 0o644 << 16
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # a compression this Python lacks
    RuntimeError,  # encrypted
    UnicodeDecodeError,
)
"""What `zipfile` raises for a file that is damaged, or is another's."""
LEFT_OUT = (".lock", ".partial")


def export(folder: Path, target: Path) -> int:
    """Write every file of the run in `folder` into the zip `target`; how many there were.

    Raises `StoredRunError` when `target` exists (a kept run is never overwritten) or cannot be
    written; then nothing is left of it.
    """
    files = list(_files(folder))
    try:
        archive = zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED)
    except FileExistsError:
        raise StoredRunError(f"{target} exists already; name another file.") from None
    except OSError as error:
        raise _unwritten(target, error) from error
    try:
        with archive:
            for path in files:
                name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
                entry = zipfile.ZipInfo(name, date_time=EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = MODE
                archive.writestr(entry, path.read_bytes())
    except BaseException as error:
        # Half a run must not stand there under the name of a whole one.
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritten(target, error) from error
        raise
    return len(files)


def _unwritten(target: Path, error: OSError) -> StoredRunError:
    return StoredRunError(
        f"{target} cannot be written: {error.strerror or error}. Name another place, or make room."
    )


def unpack(source: Path, root: Path) -> str:
    """Put the run in the zip `source` into the run store at `root`; its id.

    Raises `StoredRunError` for a file that is no exported run.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            names = archive.namelist()
            tops = {name.split("/", 1)[0] for name in names}
            plain = all(".." not in name.split("/") and not name.startswith("/") for name in names)
            if len(tops) != 1 or not plain or "" in tops:
                raise StoredRunError(f"{source} does not hold exactly one run.")
            (run_id,) = tops
            if (root / run_id).exists():
                raise StoredRunError(f"The run {run_id} is already in {root}.")
            archive.extractall(root)
    except (*UNREADABLE, OSError) as error:
        raise StoredRunError(f"{source} is not an exported run: {error}.") from error
    return run_id


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(LEFT_OUT):
            yield path
