"""A strategy under watch: what it asks and is told is recorded, with the counts it acted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import define

if TYPE_CHECKING:
    from scillm.protocols import Strategy
    from scillm.records import Json, Outcome, Trial

SEARCH = "search"


@define(kw_only=True)
class Count:
    """One arm so far: trials told (n), the sum of their scores (w), trials in flight (pending)."""

    n: int = 0
    w: float = 0.0
    pending: int = 0

    def to_dict(self) -> dict[str, Json]:
        """As the record keeps it."""
        return {"n": self.n, "w": self.w, "pending": self.pending}


class Watched:
    """Passes on to `inner`, and commits one row per told trial. Remembers counts and rows.

    Counts are those at the moment of asking, before the trial itself.
    """

    def __init__(
        self, inner: Strategy, commit: Callable[[Mapping[str, Json]], None], *, cases: int
    ) -> None:
        self._inner = inner
        self._commit = commit
        self._cases = cases
        self._counts: dict[str, Count] = {}
        self._asked: dict[int, dict[str, Json]] = {}
        self._charged: set[tuple[str, int]] = set()
        self._charges: dict[int, frozenset[int]] = {}
        self._timings: dict[str, int] = {}
        self._repeats: dict[int, int] = {}
        self.rows: list[Mapping[str, Json]] = []

    def charge_of(self, number: int) -> frozenset[int]:
        """The cases this trial is the first to ask for: what it is charged for."""
        return self._charges[number]

    def charge_of_made(self, arm: str) -> frozenset[int]:
        """The cases of a program that was made now, without those charged before its window."""
        return self._fresh(arm, range(self._cases))

    def repeat_of(self, number: int) -> int:
        """Which timing of its arm this trial is, from 0: a function of what was asked before."""
        return self._repeats[number]

    def ask(self) -> Trial | None:
        """See `Strategy`."""
        trial = self._inner.ask()
        if trial is None:
            return None
        count = self._counts.setdefault(trial.arm, Count())
        known = self._counts.values()
        self._asked[trial.number] = {
            "arm": count.to_dict(),
            "n": sum(other.n for other in known),
            "pending": sum(other.pending for other in known),
        }
        count.pending += 1
        fresh = self._fresh(trial.arm, self._wanted(trial))
        self._charged |= {(trial.arm, case) for case in fresh}
        self._charges[trial.number] = fresh
        if trial.kind == "timing":
            self._repeats[trial.number] = self._timings.setdefault(trial.arm, 0)
            self._timings[trial.arm] += 1
        return trial

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """See `Strategy`."""
        count = self._counts[trial.arm]
        count.pending -= 1
        if outcome.arm is not None:
            self._charged |= {(outcome.arm, case) for case in range(self._cases)}
        if not outcome.withdrawn:
            count.n += 1
            count.w += outcome.score or 0.0
        detail = outcome.detail if isinstance(outcome.detail, Mapping) else {}
        row: dict[str, Json] = {
            "kind": "trial",
            "phase": SEARCH,
            "number": trial.number,
            "arm": trial.arm,
            "made": outcome.arm,
            "parent": trial.parent,
            "pull": trial.kind,
            "payload": trial.payload,
            "counts": self._asked.pop(trial.number),
            "status": outcome.status,
            "score": outcome.score,
            "withdrawn": outcome.withdrawn,
            "cost": dict(outcome.cost),
            **detail,
        }
        self._commit(row)
        self.rows.append(row)
        self._inner.tell(trial, outcome)

    def report(self) -> Mapping[str, Json]:
        """See `Strategy`."""
        return self._inner.report()

    def _fresh(self, arm: str, cases: range) -> frozenset[int]:
        return frozenset(case for case in cases if (arm, case) not in self._charged)

    def _wanted(self, trial: Trial) -> range:
        if trial.kind == "case" and isinstance(trial.payload, Mapping):
            case = int(trial.payload["case"])
            return range(case, case + 1)
        return range(self._cases)
