"""The record of one run: rows that come out the same every time, and what was measured beside them.

A run's folder holds `record.jsonl` (the rows: decisions, statuses, digests; no clock, no machine
load), `measured.jsonl` (answers to questions, with timings, in the order they arrived) and `blobs/`
(code, inputs, outputs by content). An engine that asks the record before it executes, and commits
its rows in a fixed order, is resumed, verified and compared by one and the same walk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from scillm.errors import StoredRunError
from scillm.runs.blobs import Blobs
from scillm.runs.canonical import canonical_json, digest
from scillm.runs.chain import Place, encode
from scillm.runs.journal import Journal, Row, rows_at, scan

if TYPE_CHECKING:
    from types import TracebackType

    from scillm.records import Job, JobResult, Json

ROWS = "record.jsonl"
MEASURED = "measured.jsonl"
BLOBS = "blobs"
OUTSIDE = "outside/"
"""Begins the key of an answer that no re-execution could give again, such as a model's."""
SYNC_EVERY = 64
"""Rows between two forced writes: a killed process loses none, a power cut at most so many."""
SHOWN_CHARS = 300


class RecordDiffersError(StoredRunError):
    """The walk did not come out as the record says. `.row` is the number of the row."""

    def __init__(self, message: str, *, row: int = 0) -> None:
        super().__init__(message)
        self.row = row


class Record(Protocol):
    """Where an engine writes down what it does, and reads what it already did."""

    @property
    def sealed(self) -> bool:
        """Whether nothing may be executed: every question must already have its answer."""
        ...

    def commit(self, row: Mapping[str, Json], /) -> None:
        """The next row; `RecordDiffersError` when the record already says something else there."""
        ...

    def known(self, key: str, /) -> Json | None:
        """What was kept under `key`, or None."""
        ...

    def keep(self, key: str, value: Json, /) -> None:
        """Keep a measured answer, once per key."""
        ...

    def put(self, value: Json, /) -> str:
        """Keep `value` by content; its digest."""
        ...

    def get(self, name: str, /) -> Json:
        """The value with this digest; `StoredRunError` when it is missing or damaged."""
        ...


@runtime_checkable
class Records(Protocol):
    """An engine whose runs can be verified, compared and resumed from their record."""

    async def run_recorded(self, job: Job, record: Record, /) -> JobResult:
        """As `Engine.run`, asking `record` before executing and committing to it in fixed order."""
        ...


class MemoryRecord:
    """A record that lasts as long as the process. Remembers its rows, answers and values."""

    sealed = False

    def __init__(self) -> None:
        self.rows: list[Json] = []
        self._place = Place()
        self._measured: dict[str, Json] = {}
        self._blobs: dict[str, Json] = {}

    @property
    def head(self) -> str:
        """The hash of the last row."""
        return self._place.head

    def commit(self, row: Mapping[str, Json], /) -> None:
        """Add `row`."""
        _, self._place = encode(dict(row), self._place)
        self.rows.append(dict(row))

    def known(self, key: str, /) -> Json | None:
        """What was kept under `key`, or None."""
        return self._measured.get(key)

    def keep(self, key: str, value: Json, /) -> None:
        """Keep a measured answer."""
        self._measured[key] = value

    def put(self, value: Json, /) -> str:
        """Keep `value`; its digest."""
        name = digest(value)
        self._blobs[name] = value
        return name

    def get(self, name: str, /) -> Json:
        """The value with this digest; `StoredRunError` when it was never put here."""
        if name not in self._blobs:
            raise StoredRunError(f"No value with the digest {name} was put into this record.")
        return self._blobs[name]


class FolderRecord:
    """A record in a run's folder; with `sealed` it is only read. Holds the two journals.

    Opening it to write checks both journals, cuts off a torn line, and takes their locks. Rows
    that are already there must come again, the same and in the same order, before new ones do.
    """

    def __init__(self, folder: Path, *, sealed: bool = False) -> None:
        self.folder = folder
        self.sealed = sealed
        self._place = Place()
        self._hashes: list[str] = []
        self._offsets: list[int] = []
        self._measured: dict[str, Json] = {}
        self._blobs = Blobs(folder / BLOBS)
        self._rows: Journal | None = None
        self._answers: Journal | None = None
        if sealed:
            self._scan()
            return
        self._rows = Journal(folder / ROWS, sync_every=SYNC_EVERY, visit=self._seen)
        try:
            self._answers = Journal(folder / MEASURED, sync_every=SYNC_EVERY, visit=self._heard)
        except BaseException:
            self._rows.close()
            raise

    @property
    def head(self) -> str:
        """The hash of the last row that was committed."""
        return self._place.head

    @property
    def count(self) -> int:
        """How many rows were committed."""
        return self._place.rows

    @property
    def stored(self) -> int:
        """How many rows the folder has."""
        return max(len(self._hashes), self._place.rows)

    def commit(self, row: Mapping[str, Json], /) -> None:
        """The next row: the same as stored, or a new one at the end."""
        _, place = encode(dict(row), self._place)
        if place.rows <= len(self._hashes):
            if self._hashes[place.rows - 1] != place.head:
                raise self._differs(place.rows, row)
        elif self._rows is None:
            raise RecordDiffersError(
                f"{self.folder / ROWS} ends after {len(self._hashes)} rows, but the walk goes on "
                f"with {_shown(row)}.",
                row=place.rows,
            )
        else:
            self._rows.append(dict(row))
        self._place = place

    def known(self, key: str, /) -> Json | None:
        """What was kept under `key`, or None."""
        return self._measured.get(key)

    def keep(self, key: str, value: Json, /) -> None:
        """Keep a measured answer at once, whatever its turn among the rows."""
        if self._answers is None:
            raise RecordDiffersError(f"{self.folder} is only read here; nothing can be added.")
        self._answers.append({"key": key, "value": value})
        self._measured[key] = value

    def put(self, value: Json, /) -> str:
        """Keep `value` by content; a sealed record only names it."""
        return digest(value) if self.sealed else self._blobs.put(value)

    def get(self, name: str, /) -> Json:
        """The value with this digest, checked against it."""
        return self._blobs.get(name)

    def close(self) -> None:
        """Force everything to the disk; a second call does nothing."""
        for journal in (self._answers, self._rows):
            if journal is not None:
                journal.close()

    def __enter__(self) -> FolderRecord:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _scan(self) -> None:
        for name, visit in ((ROWS, self._seen), (MEASURED, self._heard)):
            path = self.folder / name
            if not path.is_file():
                raise StoredRunError(
                    f"{self.folder} has no {name}: this run was kept without a record. "
                    "`scillm runs replay` can still run it again."
                )
            scan(path, visit)

    def _seen(self, row: Row) -> None:
        self._hashes.append(row.hash)
        self._offsets.append(row.offset)

    def _heard(self, row: Row) -> None:
        self._measured[row.data["key"]] = row.data["value"]

    def _differs(self, number: int, now: Mapping[str, Json]) -> RecordDiffersError:
        then = next(iter(rows_at(self.folder / ROWS, [self._offsets[number - 1]]))).data
        what = [key for key in {**then, **now} if _text(then.get(key)) != _text(now.get(key))]
        return RecordDiffersError(
            f"Row {number} of {self.folder / ROWS} came out differently in {', '.join(what)}: it "
            f"says {_shown({key: then.get(key) for key in what})}, now it is "
            f"{_shown({key: now.get(key) for key in what})}. The job, the versions or the "
            "programs' answers have changed; start a new run to go on with these.",
            row=number,
        )


def _text(value: Json) -> str:
    return canonical_json(value)


def _shown(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}… ({len(text)} characters)"
