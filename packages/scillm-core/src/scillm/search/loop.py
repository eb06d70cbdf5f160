"""The search loop: ask a window of trials, evaluate it concurrently, tell in the order asked.

Telling in asked order is what makes a search a function of its seed and width, whatever the timing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import field, frozen

from scillm.errors import StoredRunError, UsageError
from scillm.events import Event, TrialFinished
from scillm.fanout import each
from scillm.search.budget import Budget, Spent, reached

if TYPE_CHECKING:
    from scillm.protocols import Evaluate, Strategy
    from scillm.records import Json, Outcome, Trial

Keep: TypeAlias = Callable[["Trial", "Outcome"], Awaitable[None]]
"""Stores one told trial, for instance in a journal; called in asked order, before the strategy."""


@frozen(kw_only=True)
class SearchResult:
    """What a search did: every trial with its outcome in asked order, and the strategy's report.

    `stopped` says which bound ended it: `finished` (the strategy), `max_trials`, or the name of a
    bound of the `Budget`. `spent` has the sums that the budget was compared with.
    """

    trials: Sequence[tuple[Trial, Outcome]]
    report: Mapping[str, Json]
    stopped: str
    spent: Mapping[str, float] = field(factory=dict)


def _silent(_event: Event) -> None:
    return


async def search(
    strategy: Strategy,
    evaluate: Evaluate,
    *,
    width: int = 1,
    workers: int | None = None,
    max_trials: int = 10_000,
    budget: Budget | None = None,
    history: Sequence[tuple[Trial, Outcome]] = (),
    keep: Keep | None = None,
    emit: Callable[[Event], None] = _silent,
    clock: Callable[[], float] = anyio.current_time,
) -> SearchResult:
    """Drive `strategy` with `evaluate`, `width` trials at a time, until it finishes or a bound.

    `width` shapes the result, `workers` (at most so many evaluations at once; default `width`) does
    not. `evaluate` returns an Outcome for anything the candidate did, bad or good, and one with
    `withdrawn` when the evaluation failed and the trial may be asked again; what it raises is a
    fault that ends the search. A strategy that asks for a new arm needs an `evaluate` that can make
    one.

    `history` resumes: the recorded trials are asked for again and answered from the record, without
    `evaluate`, `keep` or events; raises `StoredRunError` when the strategy asks for anything else.
    """
    most_at_once = width if workers is None else workers
    if width < 1 or max_trials < 1 or most_at_once < 1:
        raise UsageError(
            "width, workers and max_trials must be at least 1, but are "
            f"{width}, {most_at_once} and {max_trials}."
        )
    bounds = Budget() if budget is None else budget
    started, spent = clock(), Spent()
    done: list[tuple[Trial, Outcome]] = []
    while True:
        recorded = history[len(done) :]
        over = None if recorded else _over(bounds, spent, len(done), max_trials, clock() - started)
        if over is not None:
            return _result(strategy, done, spent, over)
        room = max(len(recorded), _room(bounds, spent, max_trials - len(done)))
        window = _ask(strategy, min(width, room))
        known = _known(window, recorded, len(done))
        if not window:
            return _result(strategy, done, spent, "finished")
        fresh = await each(evaluate, window[len(known) :], limit=most_at_once)
        for place, (trial, outcome) in enumerate(zip(window, [*known, *fresh], strict=True)):
            spent.add(outcome)
            if place >= len(known):
                if keep is not None:
                    await keep(trial, outcome)
                emit(_event(trial, outcome))
            strategy.tell(trial, outcome)
            done.append((trial, outcome))


def _over(bounds: Budget, spent: Spent, done: int, max_trials: int, elapsed_s: float) -> str | None:
    named = reached(bounds, spent, elapsed_s=elapsed_s)
    return "max_trials" if named is None and done >= max_trials else named


def _room(bounds: Budget, spent: Spent, left: int) -> int:
    return left if bounds.rollouts is None else min(left, bounds.rollouts - spent.rollouts)


def _ask(strategy: Strategy, most: int) -> list[Trial]:
    window: list[Trial] = []
    while len(window) < most:
        trial = strategy.ask()
        if trial is None:
            break
        window.append(trial)
    return window


def _known(
    window: Sequence[Trial], recorded: Sequence[tuple[Trial, Outcome]], done: int
) -> list[Outcome]:
    """Outcomes of the recorded part of a window; raises when the record is of another search."""
    if recorded and not window:
        raise StoredRunError(
            f"The record goes on with {recorded[0][0]}, but the strategy has finished after "
            f"{done} trials. Resume with the arms, strategy, parameters, seed and width recorded."
        )
    for place, (asked, (trial, _)) in enumerate(zip(window, recorded, strict=False)):
        if asked != trial:
            raise StoredRunError(
                f"Trial {done + place} of the record is {trial}, but the strategy asks "
                f"for {asked}. Resume with the arms, strategy, parameters, seed and width recorded."
            )
    return [outcome for _, outcome in recorded[: len(window)]]


def _event(trial: Trial, outcome: Outcome) -> TrialFinished:
    return TrialFinished(
        number=trial.number,
        arm=outcome.arm or trial.arm,
        status=outcome.status,
        score=outcome.score,
    )


def _result(
    strategy: Strategy, done: Sequence[tuple[Trial, Outcome]], spent: Spent, stopped: str
) -> SearchResult:
    return SearchResult(
        trials=done, report=strategy.report(), stopped=stopped, spent=spent.to_dict()
    )
