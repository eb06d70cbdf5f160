"""Decisions in their rarer corners: each is one line in its module and one promise here."""

from __future__ import annotations

import json

import pytest
import scillm
from scillm.batch.entries import spent_entry
from scillm.errors import RateLimitError
from scillm.protocols import RetryState
from scillm.records import Outcome
from scillm.resilience.health import Health
from scillm.resilience.retry import Budget, decide
from scillm.search.repair import Repair
from scillm.serve.writing import encoded


class Eager:
    """A policy that always proposes a minute."""

    def next_delay(self, error, state):
        return 60.0


def test_what_an_interrupted_item_cost_has_a_row_of_its_own():
    """The spend of an item without an outcome is kept for the batch's budget."""
    assert spent_entry("a", at=3.0) == {"kind": "spent", "of": "a", "at": 3.0}


def test_who_rests_is_told_with_the_seconds_left():
    """A rest that is over is not listed."""
    health = Health()
    error = RateLimitError("busy", status_code=429)
    health.failed("a", error, 10.0, siblings=1, cooldown_s=4.0)

    assert health.resting(11.0) == {"a": pytest.approx(3.0)}
    assert health.resting(20.0) == {}


def test_jitter_on_an_announced_pause_is_cut_to_the_time_left():
    """The pause itself fits, so it is waited for; only what was added to it is given up."""
    error = RateLimitError("busy", retry_after=20.0)
    state = RetryState(attempt=1, elapsed_s=0.0, slept_s=0.0, draw=0.5)

    decision = decide(
        error, state, policy=Eager(), budget=Budget(max_attempts=3, time_s=30.0), rest_s=20.0
    )

    assert decision.wait_s == 30.0


def test_two_budgets_for_one_call_are_refused():
    """`budget` and `budget_usd` could contradict each other."""
    with pytest.raises(scillm.UsageError, match="say the same"):
        scillm.completion(
            "echo/x",
            [{"role": "user", "content": "x"}],
            budget=scillm.Budget(usd=1.0),
            budget_usd=2.0,
        )


def test_a_new_arm_never_takes_the_name_of_a_given_one():
    """A given arm called new-1 keeps its name."""
    strategy = Repair(["new-1"], generate=True)

    names = [strategy.ask().arm, strategy.ask().arm]

    assert names == ["new-1", "new-1'"]


def test_a_withdrawn_draft_is_not_asked_for_by_name_again():
    """What never came into being cannot be retried; the next draft is a new one."""
    strategy = Repair(generate=True, rollouts=2)
    first = strategy.ask()
    strategy.tell(first, Outcome(score=None, withdrawn=True, reason="no network"))

    later = [strategy.ask(), strategy.ask()]

    assert all(trial.new and trial.arm != first.arm for trial in later)
    assert strategy.ask() is None


def test_half_a_surrogate_pair_still_leaves_as_json():
    """Python's json.loads can read in what UTF-8 cannot write out."""
    assert json.loads(encoded({"text": "\ud83d"})) == {"text": "\ud83d"}
