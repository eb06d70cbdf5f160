"""The search loop: ask a window of trials, evaluate it concurrently, tell in the order asked.

Telling in asked order is what makes a search a function of its seed and width, whatever the timing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from scillm.errors import UsageError
from scillm.events import Event, TrialFinished
from scillm.fanout import each

if TYPE_CHECKING:
    from scillm.protocols import Evaluate, Strategy
    from scillm.records import Json, Outcome, Trial


@frozen(kw_only=True)
class SearchResult:
    """What a search did: every trial with its outcome in asked order, and the strategy's report.

    `stopped` says which bound ended it: `finished` (the strategy) or `max_trials`.
    """

    trials: Sequence[tuple[Trial, Outcome]]
    report: Mapping[str, Json]
    stopped: str


def _silent(_event: Event) -> None:
    return


async def search(
    strategy: Strategy,
    evaluate: Evaluate,
    *,
    width: int = 1,
    max_trials: int = 10_000,
    emit: Callable[[Event], None] = _silent,
) -> SearchResult:
    """Drive `strategy` with `evaluate`, `width` trials at a time, until it finishes or the bound.

    `evaluate` returns an Outcome for anything the candidate did, bad or good; what it raises is a
    fault of the evaluation itself and ends the search. A strategy that asks for a new arm needs an
    `evaluate` that can make one.
    """
    if width < 1 or max_trials < 1:
        raise UsageError(
            f"width and max_trials must be at least 1, but are {width} and {max_trials}."
        )
    done: list[tuple[Trial, Outcome]] = []
    while len(done) < max_trials:
        window = _ask(strategy, min(width, max_trials - len(done)))
        if not window:
            return SearchResult(trials=done, report=strategy.report(), stopped="finished")
        outcomes = await each(evaluate, window, limit=width)
        for trial, outcome in zip(window, outcomes, strict=True):
            strategy.tell(trial, outcome)
            emit(
                TrialFinished(
                    number=trial.number,
                    arm=trial.arm,
                    status=outcome.status,
                    score=outcome.score,
                )
            )
            done.append((trial, outcome))
    return SearchResult(trials=done, report=strategy.report(), stopped="max_trials")


def _ask(strategy: Strategy, most: int) -> list[Trial]:
    window: list[Trial] = []
    while len(window) < most:
        trial = strategy.ask()
        if trial is None:
            break
        window.append(trial)
    return window
