"""The ledger of a batch: its journal, with one answer or one stated failure for each id."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.batch.entries import ANSWER, Failure, Index, failure_in
from scillm.runs.journal import Extent, Journal, Row, rows_at, scan

if TYPE_CHECKING:
    from types import TracebackType

    from scillm.records import Json


def journal_path(results_path: str | Path) -> Path:
    """Where the journal behind a results file is."""
    path = Path(results_path)
    return path.with_name(f"{path.name}.journal")


def read_index(path: Path) -> tuple[Index, Extent]:
    """What a batch's journal says, without writing or locking it."""
    index = Index()
    return index, scan(path, lambda row: index.note(row.data, row.offset))


def failures_in(path: Path, index: Index) -> Iterator[Failure]:
    """The failures that stand, items without an id last."""
    for row in rows_at(path, [*index.failed.values(), *index.nameless.values()]):
        yield failure_in(row.data)


class Ledger:
    """The one writer of a batch's journal. Remembers ids and where their rows are, not the rows.

    `visit` sees every row on opening, `written` every row that is added, after it is on the disk.
    """

    def __init__(
        self,
        path: Path,
        *,
        visit: Callable[[Row], None] | None = None,
        written: Callable[[Sequence[Row]], None] | None = None,
    ) -> None:
        self.index = Index()
        self._visit = visit
        self._written = written
        self._guard = threading.Lock()
        self._journal = Journal(path, visit=self._noted)

    @property
    def path(self) -> Path:
        """The journal."""
        return self._journal.path

    def record(self, entries: Sequence[Json], *, sync: bool = True) -> None:
        """Add entries, all or none. `UsageError` for an id that has its answer."""
        with self._guard:
            answers: set[str] = set()
            for entry in entries:
                self.index.refuse(entry)
                if entry["kind"] == ANSWER:
                    answers.add(entry["id"])
            if len(answers) != sum(entry["kind"] == ANSWER for entry in entries):
                raise ValueError("Two answers for one id cannot be recorded together.")
            rows = self._journal.extend(entries, sync=sync)
            for row in rows:
                self.index.note(row.data, row.offset)
            if self._written is not None:
                self._written(rows)

    def rows(self, offsets: Iterable[int]) -> Iterator[Row]:
        """Rows by where the index says they are."""
        return rows_at(self.path, offsets)

    def failures(self) -> Iterator[Failure]:
        """The failures that stand, items without an id last."""
        return failures_in(self.path, self.index)

    def close(self) -> None:
        """Let others write."""
        self._journal.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _noted(self, row: Row) -> None:
        self.index.note(row.data, row.offset)
        if self._visit is not None:
            self._visit(row)
