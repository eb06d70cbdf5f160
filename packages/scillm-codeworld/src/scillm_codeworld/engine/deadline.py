"""A search's bound in seconds: the clock decides once where it ends, and the record ever after."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
from scillm.runs.record import OUTSIDE

if TYPE_CHECKING:
    from scillm.runs.record import Record


class Deadline:
    """The clock of one item's search, to be read before each window of trials.

    It stands still while the record answers everything, so that a resumed run gets past what it
    has. Remembers since when it runs, and keeps after how many trials the time was up.
    """

    def __init__(
        self,
        seconds: float | None,
        record: Record,
        *,
        item: str,
        told: Callable[[], int],
        fresh: Callable[[], bool],
    ) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._record = record
        self._key = f"{OUTSIDE}seconds/{item}"
        self._up_after = record.known(self._key)
        self._told = told
        self._fresh = fresh
        self._since: float | None = None

    def __call__(self) -> float:
        """Seconds used; infinite where the record says that the time was up."""
        now = anyio.current_time()
        if self._since is None:
            self._since = now
            return 0.0
        if self._up_after is not None:
            return math.inf if self._told() >= self._up_after else 0.0
        if self._record.sealed or not self._fresh():
            self._since = now
            return 0.0
        used = now - self._since
        if used >= self._seconds:
            self._record.keep(self._key, self._told())
        return used
