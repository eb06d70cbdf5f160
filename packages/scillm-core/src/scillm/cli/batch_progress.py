"""The progress of a batch on stderr: a bar on a terminal, now and then a line in a pipe."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from scillm.batch.progress import Progress, duration_text, left_s, rate_per_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from rich.progress import Progress as Bar

EVERY_S = 10.0
"""Between two lines in a pipe."""


def told(progress: Progress, total: int, elapsed_s: float, more: Sequence[str] = ()) -> str:
    """One line on how far the batch is; `more` is what else there is to say."""
    settled = progress.skipped + progress.done
    parts = [f"{settled} of {total}", f"{progress.failed} failed"]
    if progress.stopping:
        rest_text = f"finishing {progress.in_flight} in flight" if progress.in_flight else "stopped"
        return ", ".join([*parts, rest_text, *more])
    rest = left_s(progress.done, total - settled, elapsed_s)
    rate = rate_per_s(progress.done, elapsed_s)
    return ", ".join([*parts, f"{rate:.1f}/s", f"{duration_text(rest)} left", *more])


class Shown:
    """Shows progress while it is entered. Remembers when it started and what it showed last."""

    def __init__(self, total: int, more: Callable[[], Sequence[str]] = tuple) -> None:
        self._total = total
        self._more = more
        self._started = time.monotonic()
        self._said_at = self._started
        self._was_stopping = False
        self._bar = _bar_on_terminal()
        self._task = self._bar.add_task("", total=total, told="") if self._bar else None

    def update(self, progress: Progress) -> None:
        """Show the counts of this moment."""
        now = time.monotonic()
        line = told(progress, self._total, now - self._started, self._more())
        if self._bar is not None and self._task is not None:
            done = progress.skipped + progress.done
            self._bar.update(self._task, completed=done, told=line)
        elif now - self._said_at >= EVERY_S or progress.stopping > self._was_stopping:
            self._said_at = now
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        if progress.stopping > self._was_stopping and self._bar is not None:
            self._bar.console.print("Stopping: what is in flight is finished; again: at once.")
        self._was_stopping = progress.stopping

    def __enter__(self) -> Shown:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar_on_terminal() -> Bar | None:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal or console.no_color:
        return None
    # Who rests stands at the end: in a narrow terminal it goes into a second line.
    text = TextColumn("{task.fields[told]}", markup=False, table_column=Column(no_wrap=False))
    columns = (BarColumn(bar_width=24), text)
    return Bar(*columns, console=console)
