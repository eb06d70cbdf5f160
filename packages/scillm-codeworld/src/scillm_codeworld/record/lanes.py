"""One record for items that run side by side: each item's rows stand together, in item order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.runs.record import Record


class Lanes:
    """Commits the rows of the first unfinished item at once and keeps those of later ones back.

    So the record does not depend on which item was faster. Remembers the rows that wait.
    """

    def __init__(self, record: Record, count: int) -> None:
        self._record = record
        self._waiting: list[list[Mapping[str, Json]]] = [[] for _ in range(count)]
        self._ended = [False] * count
        self._turn = 0

    def commit(self, lane: int, row: Mapping[str, Json]) -> None:
        """The next row of this item."""
        if lane == self._turn:
            self._record.commit(row)
        else:
            self._waiting[lane].append(row)

    def end(self, lane: int) -> None:
        """This item has no more rows."""
        self._ended[lane] = True
        while self._turn < len(self._ended) and self._ended[self._turn]:
            self._turn += 1
            if self._turn < len(self._ended):
                rows, self._waiting[self._turn] = self._waiting[self._turn], []
                for row in rows:
                    self._record.commit(row)
