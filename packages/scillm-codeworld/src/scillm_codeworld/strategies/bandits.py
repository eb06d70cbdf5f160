"""Strategies over a flat list of arms: uniform (the control), baseline, UCB, Thompson sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.errors import UsageError

from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.book import (
    Book,
    Tally,
    at_least,
    distinct,
    findings,
    scale_of,
)
from scillm_codeworld.strategies.family import Family
from scillm_codeworld.strategies.pulls import Pulls
from scillm_codeworld.strategies.tree import Uct

if TYPE_CHECKING:
    from scillm.records import Json, Outcome, Trial


class Flat(ABC):
    """What strategies over fixed arms share. Remembers every arm's tally.

    See `Pulls` for `cases` and `kind`; `bounds` declares the range of scores, else it is observed.
    """

    name = "flat"

    def __init__(
        self,
        arms: Sequence[str],
        *,
        seed: int = 0,
        rollouts: int = 64,
        cases: int | None = 1,
        kind: str = "run",
        bounds: Sequence[float] | None = None,
    ) -> None:
        at_least(1, rollouts=rollouts)
        self._arms = distinct(arms)
        self._pulls = Pulls(cases=cases, kind=kind)
        self._scale = scale_of(bounds)
        self._book: Book[None] = Book(rollouts=rollouts)
        self._seed = seed
        self._order = draws.order(self._arms, seed, "arms")
        self._tallies = {arm: Tally() for arm in self._arms}

    def ask(self) -> Trial | None:
        """The next pull, or None."""
        live = [arm for arm in self._order if self._pulls.left(arm) > 0]
        if not live or not self._book.has_room():
            return None
        arm = self._choose(live)
        self._tallies[arm].pending += 1
        return self._book.begin(self._pulls.trial(self._book.asked, arm), None)

    @abstractmethod
    def _choose(self, live: Sequence[str]) -> str: ...

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Count the pull, or give a withdrawn one back."""
        self._book.end(trial, outcome)
        tally = self._tallies[trial.arm]
        tally.pending -= 1
        if outcome.withdrawn:
            self._pulls.give_back(trial)
            return
        if outcome.score is not None:
            self._scale.see(outcome.score)
        tally.take(outcome.score)

    def report(self) -> Mapping[str, Json]:
        """`best`, `best_score`, `ties`, counts and every arm's tally."""
        return {
            "strategy": self.name,
            "seed": self._seed,
            **findings(self._book, self._tallies, self._scale, cases=self._pulls.cases),
        }

    def _used(self, arm: str) -> int:
        tally = self._tallies[arm]
        return tally.scored + tally.failed + tally.pending


class RoundRobin(Flat):
    """Gives every arm the same number of pulls, in an order drawn from the seed."""

    name = "uniform"

    def _choose(self, live: Sequence[str]) -> str:
        return min(live, key=self._used)


class Thompson(Flat):
    """Pulls the arm whose drawn mean is highest, from Beta posteriors on the unit scale.

    Scores between the bounds count as parts of a success, failures as none.
    """

    name = "thompson"

    def __init__(
        self,
        arms: Sequence[str],
        *,
        seed: int = 0,
        rollouts: int = 64,
        cases: int | None = 1,
        kind: str = "run",
        bounds: Sequence[float] | None = None,
    ) -> None:
        super().__init__(arms, seed=seed, rollouts=rollouts, cases=cases, kind=kind, bounds=bounds)
        self._shapes: dict[str, draws.Shape] = {}
        self._fresh = True

    def _choose(self, live: Sequence[str]) -> str:
        if self._fresh:
            fresh = [arm for arm in live if not self._used(arm)]
            if fresh:
                return fresh[0]
            self._fresh = False
        luck = draws.stream(self._seed, self._book.asked, "posteriors")
        shapes = self._shapes
        most, chosen = -1.0, live[0]
        for arm in live:
            drawn = draws.beta(luck, shapes.get(arm) or self._shaped(arm))
            if drawn > most:
                most, chosen = drawn, arm
        return chosen

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """As `Flat.tell`; the posteriors that change with it are worked out anew."""
        before = (self._scale.low, self._scale.high)
        super().tell(trial, outcome)
        self._fresh = self._fresh or outcome.withdrawn
        if (self._scale.low, self._scale.high) != before:
            self._shapes.clear()
        else:
            self._shapes.pop(trial.arm, None)

    def _shaped(self, arm: str) -> draws.Shape:
        tally = self._tallies[arm]
        won = tally.pulls * self._scale.unit(tally.mean(self._scale.floor))
        self._shapes[arm] = draws.shape(1.0 + won, 1.0 + tally.pulls - won)
        return self._shapes[arm]


class Baseline:
    """Runs all of every arm once, in the order given; nothing else is ever tried."""

    def __init__(
        self, arms: Sequence[str], *, seed: int = 0, bounds: Sequence[float] | None = None
    ) -> None:
        self._family: Family[None] = Family(
            arms, seed=seed, rollouts=max(len(arms), 1), bounds=bounds
        )
        self._family.waiting = list(arms)

    def ask(self) -> Trial | None:
        """The next arm that was not run, or None."""
        return self._family.ask_given(None) if self._family.waiting else None

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Keep the outcome; a withdrawn arm is run again."""
        self._family.settle(trial, outcome)

    def report(self) -> Mapping[str, Json]:
        """`best`, `best_score`, `ties`, counts and every arm's tally."""
        return self._family.report("baseline")


class Drafts:
    """Runs every given arm, then asks for fresh drafts: best of N, the control of every search."""

    def __init__(
        self,
        arms: Sequence[str],
        *,
        seed: int = 0,
        rollouts: int = 64,
        bounds: Sequence[float] | None = None,
    ) -> None:
        self._family: Family[None] = Family(arms, seed=seed, rollouts=rollouts, bounds=bounds)

    def ask(self) -> Trial | None:
        """A given arm, then a draft; None when the rollouts are used up."""
        if not self._family.book.has_room():
            return None
        if self._family.waiting:
            return self._family.ask_given(None)
        return self._family.ask_new(None, None, None)

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Keep the outcome."""
        self._family.settle(trial, outcome)

    def report(self) -> Mapping[str, Json]:
        """`best`, `best_score`, `ties`, counts and every arm's tally."""
        return self._family.report("uniform")


def uniform(
    arms: Sequence[str],
    *,
    seed: int = 0,
    rollouts: int = 64,
    generate: bool = False,
    cases: int | None = 1,
    kind: str = "run",
    bounds: Sequence[float] | None = None,
) -> RoundRobin | Drafts:
    """The control: every arm alike, or with `generate` every given arm and then drafts."""
    if not generate:
        return RoundRobin(arms, seed=seed, rollouts=rollouts, cases=cases, kind=kind, bounds=bounds)
    whole(cases, kind)
    return Drafts(arms, seed=seed, rollouts=rollouts, bounds=bounds)


def ucb(
    arms: Sequence[str],
    *,
    seed: int = 0,
    rollouts: int = 64,
    c: float = 0.5,
    cases: int | None = 1,
    kind: str = "run",
    bounds: Sequence[float] | None = None,
) -> Uct:
    """UCB1 with its constant `c` in units of the range of scores."""
    return Uct(
        arms,
        seed=seed,
        rollouts=rollouts,
        c=c,
        cases=cases,
        kind=kind,
        bounds=bounds,
        name="ucb",
    )


def whole(cases: int | None, kind: str) -> None:
    """Raise `UsageError` unless arms are run whole: a made arm comes with its score."""
    for name, given, wanted in (("kind", kind, "run"), ("cases", cases, 1)):
        if given != wanted:
            raise UsageError(
                f"With generate an arm is scored whole when it is made: {name} must be {wanted}, "
                f"not {given}."
            )
