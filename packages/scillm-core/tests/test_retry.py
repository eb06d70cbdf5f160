"""Retrying, decided: waits are bounded, announced pauses are kept, hopeless errors are final."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.protocols import RetryState
from scillm.resilience.attempts import try_again
from scillm.resilience.retry import (
    Backoff,
    Budget,
    NoRetry,
    RetryOptions,
    Tenacious,
    announced_wait,
    budget_of,
    decide,
    reason_of,
)

SECONDS = st.floats(0, 1e5)
DRAW = st.floats(0, 1, exclude_max=True)
RETRYABLE = st.sampled_from(
    [errors.RateLimitError, errors.CapacityError, errors.InternalServerError,
     errors.APIConnectionError, errors.APITimeoutError, errors.ConflictError]
)  # fmt: skip
FINAL = [
    errors.BadRequestError, errors.AuthenticationError, errors.PaymentRequiredError,
    errors.PermissionDeniedError, errors.NotFoundError, errors.UnprocessableEntityError,
    errors.MalformedReplyError,
]  # fmt: skip


def state(attempt=1, elapsed_s=0.0, slept_s=0.0, draw=0.5):
    return RetryState(attempt=attempt, elapsed_s=elapsed_s, slept_s=slept_s, draw=draw)


@given(
    st.lists(st.tuples(RETRYABLE, st.none() | SECONDS, DRAW, st.floats(0, 50)), max_size=30),
    st.floats(0, 1000),
    st.integers(1, 12),
    st.floats(0, 200),
)
def test_all_sleep_together_never_exceeds_the_budget(failures, time_s, attempts, rest_s):
    """Whatever the upstream announces, a flight's waits fit into its time and its attempts."""
    budget = Budget(max_attempts=attempts, time_s=time_s)
    now = slept = 0.0
    rounds = 0
    for cls, retry_after, draw, took in failures:
        rounds += 1
        now += took
        decision = decide(
            cls("x", retry_after=retry_after),
            state(rounds, now, slept, draw),
            policy=Backoff(),
            budget=budget,
            rest_s=rest_s,
        )
        if decision.wait_s is None:
            break
        slept += decision.wait_s
        now += decision.wait_s

        assert now <= time_s or decision.wait_s == 0.0
        assert decision.remaining_attempts >= 1
    assert slept <= time_s
    assert rounds <= max(attempts, 1)


@given(RETRYABLE, st.floats(0, 500), DRAW, st.integers(1, 50), st.floats(0, 500))
def test_an_announced_pause_is_never_cut_short(cls, retry_after, draw, attempt, rest_s):
    """Either the whole pause is waited, or the flight gives up at once."""
    error = cls("x", retry_after=retry_after)

    decision = decide(
        error,
        state(attempt, draw=draw),
        policy=Backoff(),
        budget=Budget(max_attempts=100, time_s=600),
        rest_s=rest_s,
    )

    if decision.wait_s is not None:
        assert decision.wait_s >= max(retry_after or 0.5, rest_s)
    else:
        assert decision.why == "time_budget"
        assert max(retry_after, rest_s) > 0


def test_a_pause_that_does_not_fit_gives_up_at_once():
    """Retry-After 3600 with 600 s left: the error comes back now, with its wait."""
    decision = decide(
        errors.RateLimitError("x", retry_after=3600.0),
        state(),
        policy=Backoff(),
        budget=Budget(max_attempts=8, time_s=600),
    )

    assert (decision.wait_s, decision.why, decision.reason) == (None, "time_budget", "rate_limited")


@pytest.mark.parametrize("cls", FINAL)
def test_what_cannot_help_is_not_tried_again(cls):
    """400, 401, 402, 403, 404, 422 and malformed replies are final."""
    decision = decide(
        cls("x"), state(), policy=Backoff(), budget=Budget(max_attempts=8, time_s=600)
    )

    assert (decision.wait_s, decision.why) == (None, "not_retryable")
    assert Backoff().next_delay(cls("x"), state()) is None


@given(st.integers(1, 10_000), DRAW)
def test_without_an_announced_wait_it_is_full_jitter_under_a_ceiling(attempt, draw):
    """delay = draw * min(120, 5 * 2**(attempt-1)); the documented defaults."""
    found = Backoff().next_delay(errors.InternalServerError("x"), state(attempt, draw=draw))

    assert found == pytest.approx(draw * min(120.0, 5.0 * 2.0 ** min(attempt - 1, 60)))


def test_zero_is_raised_to_a_short_wait():
    """`Retry-After: 0` is not a busy loop."""
    error = errors.RateLimitError("x", retry_after=0.0)

    assert announced_wait(error) == 0.5
    assert Backoff().next_delay(error, state(draw=0.0)) == 0.5
    assert announced_wait(errors.SchemaError("x")) is None


@given(RETRYABLE, st.floats(1e-3, 0.499))
def test_a_short_wait_is_taken_at_its_word(cls, retry_after):
    """`retry-after-ms: 20` is 20 ms: only 0, and a date in the past, becomes half a second."""
    error = cls("x", retry_after=retry_after)

    assert announced_wait(error) == retry_after
    assert Backoff().next_delay(error, state(draw=0.0)) == retry_after


def test_honor_retry_after_can_be_switched_off():
    """The knob does what it says."""
    error = errors.RateLimitError("x", retry_after=100.0)

    found = Backoff(RetryOptions(honor_retry_after=False)).next_delay(error, state(draw=0.1))

    assert found == pytest.approx(0.5)


def test_the_attempts_are_bounded_also_per_error_class():
    """retry_policy counts hold for the class or its nearest base."""
    options = RetryOptions(max_attempts=8, per_error={"APIConnectionError": 2})

    assert budget_of(options, errors.APITimeoutError("x")).max_attempts == 2
    assert budget_of(options, errors.RateLimitError("x")).max_attempts == 8
    assert budget_of(options).max_attempts == 8
    last = decide(
        errors.APITimeoutError("x"),
        state(2),
        policy=Backoff(options),
        budget=budget_of(options, errors.APITimeoutError("x")),
    )
    assert (last.why, last.remaining_attempts) == ("attempts", 0)


def test_none_and_tenacious():
    """`none` never waits; `tenacious` is bounded by time alone."""
    error = errors.RateLimitError("x")
    decision = decide(error, state(), policy=NoRetry(), budget=Budget(max_attempts=8, time_s=600))

    assert decision.why == "policy"
    assert budget_of(RetryOptions(policy="tenacious")).max_attempts > 10**6
    assert Tenacious().next_delay(error, state(draw=0.0)) == 0.0


@pytest.mark.parametrize(
    "knobs",
    [{"max_attempts": 0}, {"base_s": -1.0}, {"max_s": float("inf")}, {"jitter_pct": float("nan")}],
)
def test_impossible_knobs_are_refused(knobs):
    """The message names the argument."""
    with pytest.raises(errors.UsageError, match=f"retry_{next(iter(knobs))}"):
        RetryOptions(**knobs)


def test_reasons_name_the_kind_of_failure():
    """A timeout is not reported as a rate limit."""
    assert reason_of(errors.APITimeoutError("x")) == "timeout"
    assert reason_of(errors.ConflictError("x")) == "conflict"
    assert reason_of(errors.BadRequestError("x")) == "other"


def test_the_loop_raises_the_last_error_when_told_to_stop():
    """`try_again` asks after every failure, the first included, and gives back the error itself."""
    asked = []
    failures = [errors.CapacityError("second"), errors.CapacityError("third")]

    async def work():
        raise failures.pop(0)

    def wait_for(error):
        asked.append(error.message)
        return 0.0 if len(asked) < 3 else None

    async def main():
        await try_again(errors.RateLimitError("first"), work, wait_for)

    with pytest.raises(errors.CapacityError, match="third"):
        anyio.run(main)
    assert asked == ["first", "second", "third"]


def test_a_foreign_error_ends_the_loop_at_once():
    """A bug is not retried."""

    async def work():
        raise ValueError("bug")

    async def main():
        await try_again(errors.RateLimitError("first"), work, lambda error: 0.0)

    with pytest.raises(ValueError, match="bug"):
        anyio.run(main)
