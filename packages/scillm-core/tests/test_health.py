"""Health: who rests until when, by the rules users of LiteLLM's Router know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.resilience.health import CooldownRules, Health, may_cool

LIMIT = errors.RateLimitError("x", status_code=429)
DOWN = errors.InternalServerError("x", status_code=500)


def fail(health, error, now=0.0, siblings=1, **more):
    return health.failed("a", error, now, siblings=siblings, **more)


@pytest.mark.parametrize("error", [LIMIT, errors.AuthenticationError("x", status_code=401)])
def test_a_rate_limit_or_a_bad_key_rests_at_once_when_there_are_siblings(error):
    """429 and 401 need no second failure; the others serve."""
    health = Health()

    assert fail(health, error) == 5.0
    assert health.rest_s("a", 2.0) == 3.0
    assert health.rest_s("b", 2.0) == 0.0
    assert health.rest_s("a", 5.0) == 0.0
    assert not health.anything_rests(5.0)


def test_a_sole_deployment_stays_available_after_a_rate_limit():
    """There is nobody else to ask."""
    assert fail(Health(), LIMIT, siblings=0) == 0.0


def test_most_of_a_minute_failing_rests():
    """More than half of at least five requests; three of three or three of ten do not."""
    few, mixed, bad = Health(), Health(), Health()
    assert [fail(few, DOWN, n) for n in range(3)] == [0.0, 0.0, 0.0]
    for n in range(7):
        mixed.succeeded("a", n)
    assert [fail(mixed, DOWN, 7 + n) for n in range(3)] == [0.0, 0.0, 0.0]
    assert [fail(bad, DOWN, n) for n in range(5)] == [0.0, 0.0, 0.0, 0.0, 5.0]


def test_old_failures_are_forgotten_after_a_minute():
    """Only the last minute counts."""
    health = Health()
    for n in range(4):
        fail(health, DOWN, n)

    assert fail(health, DOWN, 70.0) == 0.0


def test_a_sole_deployment_rests_only_when_a_thousand_requests_all_failed():
    """High traffic without one answer is a reason even without siblings."""
    health = Health()

    rests = [fail(health, DOWN, n / 1000, siblings=0) for n in range(1000)]

    assert rests[-2:] == [0.0, 5.0]


@pytest.mark.parametrize("siblings", [0, 3])
def test_allowed_fails_is_taken_at_its_word(siblings):
    """With allowed_fails=100 the 101st failure rests, not an earlier one, sole or not."""
    health = Health(CooldownRules(allowed_fails=100))

    rests = [fail(health, LIMIT, n / 100, siblings=siblings) for n in range(101)]

    assert set(rests[:100]) == {0.0}
    assert rests[100] == 5.0


def test_allowed_fails_per_error_class():
    """A policy for timeouts does not count for others of another class."""
    health = Health(CooldownRules(allowed_fails_by_error={"APITimeoutError": 0}))

    assert fail(health, errors.APITimeoutError("x", status_code=408), siblings=0) == 5.0
    assert fail(Health(), LIMIT, siblings=0) == 0.0


def test_the_length_of_a_rest():
    """The deployment's own cooldown wins over Retry-After, which wins over the default; 0 is 0."""
    limit = errors.RateLimitError("x", status_code=429, retry_after=30.0)

    assert fail(Health(), limit) == 30.0
    assert fail(Health(), limit, cooldown_s=7.0) == 7.0
    assert fail(Health(), limit, cooldown_s=0.0) == 0.0
    assert fail(Health(CooldownRules(default_s=0.0)), LIMIT) == 0.0


def test_retry_after_zero_rests_as_long_as_the_call_waits():
    """`Retry-After: 0` means half a second for siblings' flights too; 0.2 s means 0.2 s."""
    now, soon = (errors.RateLimitError("x", status_code=429, retry_after=s) for s in (0.0, 0.2))

    assert fail(Health(), now) == 0.5
    assert fail(Health(), soon) == 0.2


def test_a_key_can_rest_by_its_name():
    """Also one that has not been asked yet; a shorter rest does not end a longer one."""
    health = Health()
    health.rest("key", 0.0, 9.0)
    health.rest("key", 1.0, 2.0)

    assert health.rest_s("key", 4.0) == 5.0
    assert health.anything_rests(4.0)


def test_cooldowns_can_be_disabled():
    """Nothing rests then."""
    assert fail(Health(CooldownRules(disabled=True)), LIMIT) == 0.0


@pytest.mark.parametrize(
    ("status", "cools"),
    [(400, False), (403, False), (422, False), (401, True), (402, True), (404, True),
     (408, True), (429, True), (500, True), (503, True), (None, False)],
)  # fmt: skip
def test_which_errors_say_something_about_a_deployment(status, cools):
    """400 never cools; a broken connection does not either."""
    assert may_cool(errors.ProviderError("x", status_code=status)) is cools
    assert may_cool(errors.SchemaError("x")) is False


EVENTS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([LIMIT, DOWN, None]), st.sampled_from("ab")),
    max_size=60,
)


@given(EVENTS)
def test_a_rest_is_never_shortened_and_always_ends(events):
    """Failures during a rest do not wake a deployment early, and no rest lasts for ever."""
    health = Health()
    now = 0.0
    for step, error, name in events:
        now += step
        before = health.rest_s(name, now)
        if error is None:
            health.succeeded(name, now)
        else:
            health.failed(name, error, now, siblings=1)

        assert health.rest_s(name, now) >= before
        assert health.rest_s(name, now) <= 5.0
    assert health.rest_s("a", now + 5.0) == health.rest_s("b", now + 5.0) == 0.0
