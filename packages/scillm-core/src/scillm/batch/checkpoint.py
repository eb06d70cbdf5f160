"""`JsonlCheckpoint`: results in a plain JSON Lines file, one answer per id, a journal behind it."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.batch.entries import Failure, answer_entry, failure_entry, failure_of, text_id
from scillm.batch.ledger import Ledger, failures_in, journal_path, read_index
from scillm.batch.view import Comparison, View, earlier_rows, plain_line, replace_file
from scillm.errors import UsageError
from scillm.runs.journal import Journal
from scillm.runs.lock import WriterLock

if TYPE_CHECKING:
    from types import TracebackType

    from scillm.records import Json
    from scillm.runs.journal import Row

log = logging.getLogger("scillm.batch")


class JsonlCheckpoint:
    """Answers that are kept as they come, and ids that need not be asked again.

    `results_path` has one JSON line per answer, with the id under `id_key`, and is written as
    answers come. The truth is `<results_path>.journal`: it also has the failures, and a results
    file that lacks lines after a crash is completed from it. The journal is opened for writing,
    and locked, at the first `append`; `close`, or the end of the object, lets others write.

    `summary_path` is a place for the caller's own summary, by default `summary.json` beside the
    results; nothing is written there.
    """

    def __init__(
        self,
        results_path: str | Path,
        id_key: str = "id",
        summary_path: str | Path | None = None,
    ) -> None:
        self.results_path = Path(results_path)
        self.id_key = id_key
        self.summary_path = Path(summary_path or self.results_path.with_name("summary.json"))
        self.journal_path = journal_path(self.results_path)
        self.results_path.parent.mkdir(parents=True, exist_ok=True)
        self._ledger: Ledger | None = None

    def processed_ids(self) -> set[str]:
        """Ids that have an answer, as text; a failure is not one."""
        if self._ledger is not None:
            return set(self._ledger.index.answered)
        if self.journal_path.exists():
            return set(read_index(self.journal_path)[0].answered)
        if self.results_path.exists():
            return {name for name, _ in earlier_rows(self.results_path, self.id_key)[0]}
        return set()

    def append(self, row: Mapping[str, Json], flush: bool = True) -> None:
        """Keep an answer; with `flush` it is on the disk when this returns.

        `UsageError` when `row` has no id, or its id has an answer.
        """
        name = text_id(row.get(self.id_key))
        if name is None:
            raise UsageError(
                f"A row needs its id, a text or an integer, under {self.id_key!r}, but has "
                f"{row.get(self.id_key)!r}."
            )
        self.ledger().record([answer_entry(name, row, at=time.time(), elapsed_s=0.0)], sync=flush)

    def append_failure(self, id: str | int, error: Exception) -> None:
        """Keep why `id` has no answer; an answer may still follow."""
        failure = failure_of(error, id=text_id(id))
        self.ledger().record([failure_entry(failure, at=time.time(), elapsed_s=0.0)])

    def failures(self) -> list[Failure]:
        """Why ids have no answer, the last reason of each."""
        if self._ledger is not None:
            return list(self._ledger.failures())
        if not self.journal_path.exists():
            return []
        index, _ = read_index(self.journal_path)
        return list(failures_in(self.journal_path, index))

    def ledger(self) -> Ledger:
        """The journal, opened for writing, with the results file made equal to it."""
        if self._ledger is None:
            self._ledger = self._opened()
        return self._ledger

    def close(self) -> None:
        """Let others write; the next `append` opens the journal again."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()

    def __enter__(self) -> JsonlCheckpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _opened(self) -> Ledger:
        self._take_over()
        views: list[View] = []

        def written(rows: Sequence[Row]) -> None:
            views[0].add(rows)

        comparison = Comparison(self.results_path)
        try:
            ledger = Ledger(self.journal_path, visit=comparison.visit, written=written)
        except BaseException:
            comparison.close()
            raise
        try:
            comparison.finish()
            views.append(View(self.results_path, comparison.agreed_bytes))
            views[0].add(ledger.rows(comparison.missing))
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _take_over(self) -> None:
        """Give a results file of the earlier SciLLM its journal; safe to be killed in."""
        if self.journal_path.exists() or not self.results_path.exists():
            return
        with WriterLock(self.journal_path):
            rows, unusable = earlier_rows(self.results_path, self.id_key)
            if unusable and not rows:
                raise UsageError(
                    f"{self.results_path} is there already, but no line of it is JSON with an id "
                    f"under {self.id_key!r}. Name another file, or the right id_key."
                )
            before = self.results_path.with_name(f"{self.results_path.name}.before")
            if unusable:
                log.warning(
                    "%s has %d lines that are not JSON with an id of their own under %r; they are "
                    "kept in %s only.",
                    self.results_path,
                    unusable,
                    self.id_key,
                    before,
                )
                shutil.copyfile(self.results_path, before)
            partial = self.journal_path.with_name(f"{self.journal_path.name}.partial")
            partial.unlink(missing_ok=True)
            at = time.time()
            with Journal(partial, sync_every=None) as journal:
                for name, row in rows:
                    journal.append(answer_entry(name, row, at=at, elapsed_s=0.0))
            # First the results, then the journal: in between, they are an earlier file again.
            replace_file(self.results_path, (plain_line(row) for _, row in rows))
            partial.replace(self.journal_path)
