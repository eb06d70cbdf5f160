"""The search loop: budgets, withdrawn trials, resuming, and workers that do not show."""

from __future__ import annotations

import random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import StoredRunError, UsageError
from scillm.records import Outcome, evolve
from scillm.search import Budget, Sweep, search

ARMS = tuple("abcdefghij")
SCORES = {arm: (ord(arm) * 7) % 10 / 10 for arm in ARMS}


def run(strategy, evaluate, **how):
    async def main():
        return await search(strategy, evaluate, **how)

    return anyio.run(main)


async def scored(trial):
    return Outcome(score=SCORES[trial.arm], cost={"executions": 2, "tokens": 10, "usd": 0.25})


def journal():
    kept = []

    async def keep(trial, outcome):
        kept.append((trial, outcome))

    return kept, keep


@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 10**6))
def test_the_number_of_workers_does_not_show(width, workers, seed):
    """The journal is a function of the width; workers and timing only change how long it takes."""
    luck = random.Random(seed)

    async def slow(trial):
        for _ in range(luck.randrange(4)):
            await anyio.lowlevel.checkpoint()
        return await scored(trial)

    kept, keep = journal()
    alone, keep_alone = journal()
    run(Sweep(ARMS), slow, width=width, workers=workers, keep=keep)
    run(Sweep(ARMS), scored, width=width, workers=1, keep=keep_alone)

    assert kept == alone
    assert [trial.arm for trial, _ in kept] == list(ARMS)


def test_no_more_workers_run_than_were_allowed():
    """A width of six on two workers never evaluates three at once."""
    running = peak = 0

    async def evaluate(trial):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.lowlevel.checkpoint()
        running -= 1
        return await scored(trial)

    run(Sweep(ARMS), evaluate, width=6, workers=2)

    assert peak == 2


@pytest.mark.parametrize(
    ("bounds", "width", "trials"),
    [
        ({"rollouts": 5}, 4, 5),
        ({"executions": 6}, 1, 3),
        ({"executions": 6}, 4, 4),
        ({"tokens": 35}, 1, 4),
        ({"usd": 1.0}, 2, 4),
    ],
)
def test_a_budget_stops_the_search_and_is_named(bounds, width, trials):
    """Rollouts are exact; what a trial costs is overrun by no more than one window."""
    result = run(Sweep(ARMS), scored, width=width, budget=Budget(**bounds))

    assert len(result.trials) == trials
    assert result.stopped == next(iter(bounds))
    assert result.spent["executions"] == 2 * trials
    assert result.spent["usd"] == 0.25 * trials


def test_a_budget_of_seconds_is_measured_on_the_clock_that_was_given():
    """Each look at this clock is one second later."""
    ticks = iter(range(100))

    result = run(Sweep(ARMS), scored, budget=Budget(seconds=4), clock=lambda: float(next(ticks)))

    assert result.stopped == "seconds"
    assert len(result.trials) == 3


def test_a_withdrawn_trial_is_asked_again_and_is_no_rollout():
    """A machine that fails now and then changes nothing but the number of tries."""
    asked = []

    async def shaky(trial):
        asked.append(trial.arm)
        if asked.count(trial.arm) == 1:
            return Outcome(score=None, status="sandbox_refused", withdrawn=True)
        return await scored(trial)

    result = run(Sweep(ARMS), shaky, width=3)

    assert result.stopped == "finished"
    assert result.report["trials"] == len(ARMS)
    assert result.report["failed"] == 0
    assert result.spent["rollouts"] == result.spent["withdrawn"] == len(ARMS)


def test_a_broken_machine_ends_the_search_and_is_named():
    """When nothing can be evaluated, the search does not go on for ever."""

    async def broken(trial):
        return Outcome(score=None, status="sandbox_refused", withdrawn=True)

    result = run(Sweep(ARMS), broken, width=2, budget=Budget(withdrawn=5))

    assert result.stopped == "withdrawn"
    assert len(result.trials) == 6
    assert result.report["best"] is None


@given(st.integers(0, len(ARMS)), st.integers(1, 5))
def test_resuming_at_any_point_gives_the_same_run(told, width):
    """Recorded trials are not evaluated again, and the rest is as if nothing had happened."""
    whole, keep = journal()
    uninterrupted = run(Sweep(ARMS), scored, width=width, keep=keep)
    evaluated = []

    async def watched(trial):
        evaluated.append(trial.arm)
        return await scored(trial)

    rest, keep = journal()
    events = []
    resumed = run(
        Sweep(ARMS), watched, width=width, history=whole[:told], keep=keep, emit=events.append
    )

    assert evaluated == list(ARMS[told:])
    assert rest == whole[told:]
    assert len(events) == len(rest)
    assert resumed == uninterrupted


def test_a_record_may_be_longer_than_the_new_bound():
    """What was done is kept; the bound only forbids more."""
    whole, keep = journal()
    run(Sweep(ARMS), scored, width=4, keep=keep)

    resumed = run(
        Sweep(ARMS), scored, width=4, history=whole[:6], max_trials=3, budget=Budget(rollouts=2)
    )

    assert len(resumed.trials) == 6
    assert resumed.stopped == "rollouts"


@pytest.mark.parametrize("arms", [ARMS[::-1], ARMS[:3]])
def test_the_record_of_another_search_is_refused(arms):
    """Other arms, or fewer, cannot have made this record."""
    whole, keep = journal()
    run(Sweep(ARMS), scored, keep=keep)

    with pytest.raises(StoredRunError, match="Resume with the arms"):
        run(Sweep(arms), scored, history=whole)


def test_an_event_names_the_arm_that_was_made():
    """A new arm's provisional name is replaced by its content hash."""
    events = []

    async def made(trial):
        return evolve(await scored(trial), arm="sha256:1")

    run(Sweep(ARMS), made, max_trials=1, emit=events.append)

    assert [event.arm for event in events] == ["sha256:1"]


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_a_cost_that_is_no_amount_is_refused(amount):
    """A budget that cannot be counted would never end."""

    async def odd(trial):
        return Outcome(score=1.0, cost={"usd": amount})

    with pytest.raises(UsageError, match="cost in usd"):
        run(Sweep(ARMS), odd)


@pytest.mark.parametrize("name", ["rollouts", "executions", "seconds", "tokens", "usd"])
def test_an_empty_budget_is_refused(name):
    """Zero is a mistake more often than a wish."""
    with pytest.raises(UsageError, match=f"budget of {name}"):
        Budget(**{name: 0})


def test_no_workers_are_refused():
    """Bad input is named."""
    with pytest.raises(UsageError, match="at least 1"):
        run(Sweep(ARMS), scored, workers=0)
