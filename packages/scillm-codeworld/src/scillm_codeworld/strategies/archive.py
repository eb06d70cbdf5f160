"""Evolution on islands, each with a MAP-Elites archive: one best arm for each kind of arm."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen
from scillm.errors import UsageError

from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.book import at_least
from scillm_codeworld.strategies.family import Family

if TYPE_CHECKING:
    from scillm.records import Json, Outcome, Trial

Cell: TypeAlias = tuple[tuple[str, int | str], ...]


@frozen(kw_only=True)
class Elite:
    """The best arm of a cell. `order` is when it was told, so that ties go to the older."""

    arm: str
    score: float
    order: int


@define(kw_only=True)
class Island:
    """An archive of its own. Remembers the elite of every cell."""

    cells: dict[Cell, Elite] = field(factory=dict)

    def offer(self, cell: Cell, elite: Elite) -> bool:
        """Take `elite` in when its cell is empty or it is better than who is there."""
        known = self.cells.get(cell)
        if known is not None and known.score >= elite.score:
            return False
        self.cells[cell] = elite
        return True

    def ranked(self) -> list[Elite]:
        """The elites, best first."""
        return sorted(self.cells.values(), key=lambda elite: (-elite.score, elite.order))


class Evolve:
    """Breeds from elites of islands that exchange their best. Remembers the archives.

    Trials go round the islands. A share `explore` of parents is any elite, the others come from the
    top, each rank `pressure` times as likely as the one above; `inspirations` more elites go along
    in `payload["inspirations"]`. Every `migrate_every` told trials each island's best is offered to
    the next. An arm's cell is its `Outcome.features`: texts as they are, numbers by powers of
    two, split in `resolution`. Without features an island keeps its one best arm.
    """

    def __init__(
        self,
        arms: Sequence[str],
        *,
        seed: int = 0,
        rollouts: int = 64,
        generate: bool = False,
        islands: int = 3,
        explore: float = 0.2,
        pressure: float = 0.5,
        inspirations: int = 2,
        migrate_every: int = 20,
        resolution: int = 2,
        bounds: Sequence[float] | None = None,
    ) -> None:
        at_least(1, islands=islands, migrate_every=migrate_every, resolution=resolution)
        at_least(0, inspirations=inspirations)
        if not (0 <= explore <= 1 and 0 <= pressure <= 1):
            raise UsageError(
                f"explore and pressure are between 0 and 1, but are {explore} and {pressure}."
            )
        self._family: Family[int] = Family(arms, seed=seed, rollouts=rollouts, bounds=bounds)
        self._islands = [Island() for _ in range(islands)]
        self._generate, self._explore, self._pressure = generate, explore, pressure
        self._inspirations, self._migrate_every = inspirations, migrate_every
        self._resolution = resolution
        self._migrations = 0

    def ask(self) -> Trial | None:
        """A given arm, or one to be bred; None when the rollouts or the given arms are used up."""
        book = self._family.book
        if not book.has_room():
            return None
        home = book.asked % len(self._islands)
        if self._family.waiting:
            return self._family.ask_given(home)
        if not self._generate:
            return None
        ranked = self._islands[home].ranked()
        if not ranked:
            return self._family.ask_new(None, {"island": home, "inspirations": []}, home)
        seed = self._family.seed
        place = self._parent(len(ranked), book.asked)
        others = [elite.arm for elite in ranked if elite is not ranked[place]]
        along = draws.order(others, seed, book.asked, "inspirations")[: self._inspirations]
        payload = {"island": home, "inspirations": along}
        return self._family.ask_new(ranked[place].arm, payload, home)

    def _parent(self, count: int, number: int) -> int:
        seed = self._family.seed
        if draws.uniform(seed, number, "explore") < self._explore:
            return draws.number(seed, number, "anyone") % count
        heaps = list(accumulate(self._pressure**rank for rank in range(count)))
        return bisect_right(heaps, draws.uniform(seed, number, "rank") * heaps[-1])

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Offer the arm to its island's archive; an arm without a score stays outside."""
        home, name = self._family.settle(trial, outcome)
        if name is None:
            return
        told = self._family.book.told
        if outcome.score is not None:
            elite = Elite(arm=name, score=outcome.score, order=told)
            self._islands[home].offer(self._cell(outcome.features), elite)
        if told % self._migrate_every == 0:
            self._migrate()

    def _cell(self, features: Mapping[str, float | str]) -> Cell:
        return tuple(
            (key, value if isinstance(value, str) else self._bin(key, value))
            for key, value in sorted(features.items())
        )

    def _bin(self, key: str, value: float) -> int:
        if not math.isfinite(value):
            raise UsageError(f"A feature is a finite number or a text, but {key} is {value}.")
        size = math.floor(self._resolution * math.log2(1 + abs(value)))
        return size if value >= 0 else -size - 1

    def _migrate(self) -> None:
        leaders = [
            max(
                island.cells.items(), key=lambda kept: (kept[1].score, -kept[1].order), default=None
            )
            for island in self._islands
        ]
        for place, leader in enumerate(leaders):
            if leader is not None:
                following = self._islands[(place + 1) % len(self._islands)]
                self._migrations += following.offer(*leader)

    def report(self) -> Mapping[str, Json]:
        """As the family's, with every island's elites by cell and the `migrations` that stayed."""
        archive = [
            [
                {"cell": dict(cell), "arm": elite.arm, "score": elite.score}
                for cell, elite in island.cells.items()
            ]
            for island in self._islands
        ]
        return self._family.report("evolve", islands=archive, migrations=self._migrations)
