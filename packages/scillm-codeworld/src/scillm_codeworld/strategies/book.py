"""What every strategy keeps: open trials, the scale of scores, the tallies of arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import define, field, frozen
from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json, Outcome, Trial

Note = TypeVar("Note")
LARGEST_SCORE = 1e100
"""Beyond it sums of squares would overflow; NaN and infinity are refused with it."""
HALF_WIDTH = 0.5
"""Half-width, in standard errors of the widest noise, that is taken off an unfinished mean."""


@define(kw_only=True)
class Scale:
    """The range of scores. Remembers the lowest and highest seen, unless they were declared."""

    low: float = math.inf
    high: float = -math.inf
    declared: bool = False

    def see(self, score: float) -> None:
        """Widen an undeclared range to hold `score`."""
        if not self.declared:
            self.low = min(self.low, score)
            self.high = max(self.high, score)

    @property
    def floor(self) -> float:
        """What a failure counts: the low end, or 0 while nothing has scored."""
        return self.low if self.low <= self.high else 0.0

    @property
    def span(self) -> float:
        """High minus low; 0 while fewer than two different scores were seen."""
        return max(self.high - self.low, 0.0)

    def unit(self, value: float) -> float:
        """`value` on [0, 1]; 0.5 while there is no range."""
        span = self.span
        return min(max((value - self.low) / span, 0.0), 1.0) if span > 0 else 0.5


def scale_of(bounds: Sequence[float] | None) -> Scale:
    """The declared range `(low, high)`, or one that is observed."""
    if bounds is None:
        return Scale()
    if len(bounds) != 2 or not all(map(math.isfinite, bounds)) or not bounds[0] < bounds[1]:
        raise UsageError(
            f"bounds must be two finite numbers, low before high, but are {list(bounds)}."
        )
    return Scale(low=float(bounds[0]), high=float(bounds[1]), declared=True)


@define(kw_only=True)
class Tally:
    """What is known of one arm, or of one edge of a tree. Remembers counts, sum and highest."""

    scored: int = 0
    total: float = 0.0
    failed: int = 0
    pending: int = 0
    top: float = -math.inf
    squares: float = 0.0

    @property
    def pulls(self) -> int:
        """Told pulls, good and bad."""
        return self.scored + self.failed

    def take(self, score: float | None) -> None:
        """Count one told pull; None is a failure."""
        if score is None:
            self.failed += 1
            return
        self.scored += 1
        self.total += score
        self.squares += score * score
        self.top = max(self.top, score)

    def merge(self, other: Tally) -> None:
        """Add the told pulls of `other`."""
        self.scored += other.scored
        self.failed += other.failed
        self.total += other.total
        self.squares += other.squares
        self.top = max(self.top, other.top)

    def deviation(self, floor: float) -> float:
        """Sum of squared distances from the mean, a failure counting `floor`."""
        pulls, mean = self.scored + self.failed, self.mean(floor)
        return max(self.squares + self.failed * floor * floor - pulls * mean * mean, 0.0)

    def mean(self, floor: float) -> float:
        """Mean of all told pulls, a failure counting `floor`; the floor itself before any."""
        pulls = self.scored + self.failed
        return (self.total + self.failed * floor) / pulls if pulls else floor


@frozen(kw_only=True)
class Pull(Generic[Note]):
    """An open trial and what the strategy noted when it asked for it."""

    trial: Trial
    note: Note


@define(kw_only=True)
class Book(Generic[Note]):
    """Numbers the trials. Remembers which are open and how many were told, failed, taken back."""

    rollouts: int
    asked: int = 0
    told: int = 0
    failed: int = 0
    withdrawn: int = 0
    open: dict[int, Pull[Note]] = field(factory=dict)

    def has_room(self) -> bool:
        """Whether one more trial fits into the rollouts."""
        return self.asked - self.withdrawn < self.rollouts

    def begin(self, trial: Trial, note: Note) -> Trial:
        """Note that `trial` was asked for."""
        self.open[trial.number] = Pull(trial=trial, note=note)
        self.asked += 1
        return trial

    def end(self, trial: Trial, outcome: Outcome) -> Note:
        """The note of an open trial, which ends; raises `UsageError` for any other trial."""
        pull = self.open.get(trial.number)
        if pull is None or pull.trial != trial:
            raise UsageError(f"{trial} is not outstanding; tell each asked trial once, unchanged.")
        if outcome.score is not None and not abs(outcome.score) <= LARGEST_SCORE:
            raise UsageError(
                f"A score is a number of at most {LARGEST_SCORE:g} in size, "
                f"but trial {trial.number} of {trial.arm!r} has {outcome.score}."
            )
        del self.open[trial.number]
        if outcome.withdrawn:
            self.withdrawn += 1
            return pull.note
        self.told += 1
        self.failed += outcome.score is None
        return pull.note

    def to_dict(self) -> dict[str, Json]:
        """`trials`, `failed`, `withdrawn` for a report."""
        return {"trials": self.told, "failed": self.failed, "withdrawn": self.withdrawn}


def distinct(arms: Sequence[str]) -> tuple[str, ...]:
    """`arms`, or a `UsageError` naming those that came more than once."""
    seen: set[str] = set()
    doubles: set[str] = set()
    for arm in arms:
        (doubles if arm in seen else seen).add(arm)
    if doubles:
        named = ", ".join(sorted(doubles))
        raise UsageError(f"Arms must be distinct, but {named} came more than once.")
    return tuple(arms)


def at_least(least: float, **values: float | None) -> None:
    """Raise `UsageError` unless every given value is a number of at least `least`."""
    for name, value in values.items():
        if value is not None and not value >= least:
            raise UsageError(f"{name} must be at least {least}, but is {value}.")


def winner(
    tallies: Mapping[str, Tally], scale: Scale, *, cases: int | None
) -> tuple[str | None, list[str]]:
    """The best arm and those that tie with it, in the order of `tallies`.

    An arm that failed never outranks one that did not. An arm whose pulls are all made is worth its
    mean; one that could be pulled again its mean less a half-width that shrinks with its pulls.
    """

    def worth(tally: Tally) -> tuple[bool, float]:
        mean = tally.mean(scale.floor)
        if cases is not None and tally.pulls >= cases:
            return tally.failed == 0, mean
        return tally.failed == 0, mean - HALF_WIDTH * scale.span / math.sqrt(tally.pulls)

    ranked = {arm: worth(tally) for arm, tally in tallies.items() if tally.scored}
    if not ranked:
        return None, []
    most = max(ranked.values())
    ties = [arm for arm, value in ranked.items() if value == most]
    return ties[0], ties[1:]


def findings(
    book: Book[Note], tallies: Mapping[str, Tally], scale: Scale, *, cases: int | None
) -> dict[str, Json]:
    """The part of a report that all strategies share: counts, `best` and every arm's tally."""
    best, ties = winner(tallies, scale, cases=cases)
    return {
        **book.to_dict(),
        "best": best,
        "best_score": None if best is None else tallies[best].mean(scale.floor),
        "ties": ties,
        "arms": {
            arm: {
                "pulls": tally.pulls,
                "failed": tally.failed,
                "mean": tally.mean(scale.floor) if tally.pulls else None,
                "pending": tally.pending,
            }
            for arm, tally in tallies.items()
        },
    }
