"""The results file beside a journal: one plain JSON line per answer, kept equal to the journal."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.batch.entries import ANSWER, text_id
from scillm.errors import UsageError
from scillm.runs.chain import JournalError

if TYPE_CHECKING:
    from typing import BinaryIO

    from scillm.records import Json
    from scillm.runs.journal import Row

log = logging.getLogger("scillm.batch")


def plain_line(row: Mapping[str, Json]) -> bytes:
    """A row of results as it stands in the file."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate is JSON, but only as an escape
        return json.dumps(row, allow_nan=False).encode() + b"\n"


class Comparison:
    """Compares the results file with the journal's answers as the journal is read.

    Remembers how far they agree and which answers the file lacks. A line cut short by a crash may
    be completed; a whole line that says something else is the user's, and refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = path.open("rb") if path.exists() else None
        self.agreed_bytes = 0
        self.lines = 0
        self.missing: list[int] = []

    def visit(self, row: Row) -> None:
        """Compare the next answer."""
        if row.data["kind"] != ANSWER:
            return
        found = self._file.readline() if self._file is not None and not self.missing else b""
        wanted = plain_line(row.data["row"])
        if found == wanted:
            self.agreed_bytes += len(found)
            self.lines += 1
        elif found.endswith(b"\n"):
            raise self._different()
        else:
            self.missing.append(row.offset)

    def finish(self) -> None:
        """Look for lines the journal does not know, and close the file."""
        if self._file is None:
            return
        with self._file:
            if not self.missing and self._file.readline():
                raise self._different()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _different(self) -> UsageError:
        return UsageError(
            f"Line {self.lines + 1} of {self._path} is not what was recorded; the file was changed "
            "by something else. Move it away to have it written again from its journal."
        )


class View:
    """Appends answers to the results file. Remembers how long it is, and what it still lacks."""

    def __init__(self, path: Path, agreed_bytes: int) -> None:
        self.path = path
        self._size = agreed_bytes
        self._owed = b""
        with path.open("ab") as file:
            file.truncate(agreed_bytes)

    def add(self, rows: Iterable[Row]) -> None:
        """Append the answers among `rows`; what could not be written is written next time."""
        answers = (row.data for row in rows if row.data["kind"] == ANSWER)
        self._owed += b"".join(plain_line(entry["row"]) for entry in answers)
        if not self._owed:
            return
        try:
            with self.path.open("r+b", buffering=0) as file:
                file.seek(self._size)
                left = memoryview(self._owed)
                while left:
                    left = left[file.write(left) :]
        except OSError as error:
            raise JournalError(
                f"{self.path} could not be written: {error.strerror}. The answers are safe in its "
                "journal; the file is completed when the batch goes on."
            ) from error
        self._size += len(self._owed)
        self._owed = b""


def earlier_rows(path: Path, id_key: str) -> tuple[list[tuple[str, Mapping[str, Json]]], int]:
    """Rows of a results file without a journal, the first of each id, and how many lines are none.

    The earlier SciLLM wrote such files; a line it was killed in is not JSON.
    """

    found: dict[str, Mapping[str, Json]] = {}
    unusable = 0
    with path.open("rb") as file:
        for line in file:
            row = _object_in(line)
            name = text_id(row.get(id_key))
            if name is None or name in found:
                unusable += 1
            else:
                found[name] = row
    return list(found.items()), unusable


def _object_in(line: bytes) -> Mapping[str, Json]:
    try:
        row = json.loads(line)
    except ValueError:  # also what is not UTF-8
        return {}
    return row if isinstance(row, dict) else {}


def replace_file(path: Path, lines: Iterable[bytes]) -> None:
    """Write `path` whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)
