"""Search and verification: the loops give the same result whatever the timing."""

from __future__ import annotations

import random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import EngineError, UsageError
from scillm.fanout import each
from scillm.records import Claim, Outcome, Verdict
from scillm.search import Sweep, search, verify

SCORES = st.dictionaries(st.text(min_size=1, max_size=3), st.none() | st.floats(0, 1), max_size=8)


def run(function, *args, **kwargs):
    async def main():
        return await function(*args, **kwargs)

    return anyio.run(main)


@given(SCORES, st.integers(1, 9), st.integers(0, 10**6))
def test_a_search_does_not_depend_on_width_or_timing(scores, width, seed):
    """Trials finish in any order; the result is told in asked order."""
    luck = random.Random(seed)

    async def evaluate(trial):
        for _ in range(luck.randrange(4)):
            await anyio.lowlevel.checkpoint()
        return Outcome(score=scores[trial.arm])

    result = run(search, Sweep(list(scores)), evaluate, width=width)

    assert [trial.arm for trial, _ in result.trials] == list(scores)
    assert [outcome.score for _, outcome in result.trials] == list(scores.values())
    scored = [score for score in scores.values() if score is not None]
    best = result.report["best"]
    assert (best is None) == (not scored)
    assert best is None or scores[best] == max(scored)
    assert result.stopped == "finished"


def test_a_search_stops_at_its_bound_and_says_so():
    """max_trials ends a strategy that would go on."""

    async def evaluate(trial):
        return Outcome(score=1.0)

    result = run(search, Sweep(list("abcdef")), evaluate, width=4, max_trials=5)

    assert len(result.trials) == 5
    assert result.stopped == "max_trials"


def test_a_fault_of_the_evaluation_ends_the_search_as_itself():
    """An infrastructure fault is not a bad score, and comes out bare."""

    async def evaluate(trial):
        raise EngineError("sandbox gone")

    with pytest.raises(EngineError, match="sandbox gone"):
        run(search, Sweep(["a", "b"]), evaluate, width=2)


def test_doubled_arms_and_impossible_widths_are_refused():
    """Bad input is named."""
    with pytest.raises(UsageError, match="a came more than once"):
        Sweep(["a", "b", "a"])
    with pytest.raises(UsageError, match="at least 1"):
        run(search, Sweep([]), None, width=0)


class Parity:
    """Claims that a number is even."""

    def __init__(self, change=lambda verdicts: verdicts):
        self.change = change
        self.asked = []

    async def verify(self, claims, /, *, limits):
        self.asked.append(len(claims))
        return self.change(
            [Verdict(claim_id=c.id, holds=c.statement % 2 == 0, status="checked") for c in claims]
        )


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7), st.integers(1, 3))
def test_every_claim_gets_one_verdict_in_order(numbers, batch, width):
    """Batching and concurrency do not show."""
    claims = [Claim(id=str(n), statement=value) for n, value in enumerate(numbers)]
    verifier = Parity()

    verdicts = run(verify, verifier, claims, batch=batch, width=width)

    assert [v.claim_id for v in verdicts] == [c.id for c in claims]
    assert [v.holds for v in verdicts] == [value % 2 == 0 for value in numbers]
    assert all(size <= batch for size in verifier.asked)


@pytest.mark.parametrize(
    "change",
    [
        lambda vs: vs[:-1],
        lambda vs: vs[::-1],
        lambda vs: [*vs, vs[0]],
        lambda vs: [Verdict(claim_id=v.claim_id, holds=None, status="?") for v in vs],
    ],
)
def test_a_verifier_that_answers_wrongly_is_caught(change):
    """Left out, out of order, twice, or undecided without a reason: none of it passes."""
    claims = [Claim(id=str(n), statement=n) for n in range(3)]

    with pytest.raises(EngineError):
        run(verify, Parity(change), claims)


def test_doubled_claim_ids_are_refused():
    """A verdict must belong to one claim."""
    with pytest.raises(UsageError, match="a came twice"):
        run(verify, Parity(), [Claim(id="a", statement=1), Claim(id="a", statement=2)])


@given(st.lists(st.integers(), max_size=30), st.integers(1, 8))
def test_each_keeps_order_and_limit(items, limit):
    """Results are in the order of items, and never more than `limit` run at once."""
    running = peak = 0

    async def double(item):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.lowlevel.checkpoint()
        running -= 1
        return item * 2

    assert run(each, double, iter(items), limit=limit) == [item * 2 for item in items]
    assert peak <= limit
