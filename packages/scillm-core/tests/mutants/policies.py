"""Retry policies that each break one promise, and the tests of the kit that must catch them."""

from __future__ import annotations

import random

import pytest
from scillm.testing import RetryPolicyConformance


class Sound:
    """Exponential steps with full jitter from the draw it is given."""

    def next_delay(self, error, state, /):
        if not error.retryable:
            return None
        return min(60.0, 2.0 ** min(state.attempt, 10)) * state.draw


class Mutant(RetryPolicyConformance):
    Policy = Sound

    @pytest.fixture
    def policy(self):
        return self.Policy()


class TestSound(Mutant):
    """The control."""

    caught_by = ()


class TestStubborn(Mutant):
    """Tries again whatever the error says."""

    caught_by = ("test_gives_up_where_another_try_cannot_help",)

    class Policy:
        def next_delay(self, error, state, /):
            return 1.0


class TestCounting(Mutant):
    """Counts its calls itself."""

    caught_by = ("test_is_pure",)

    class Policy(Sound):
        calls = 0

        def next_delay(self, error, state, /):
            self.calls += 1
            return float(self.calls) if error.retryable else None


class TestOwnDice(Mutant):
    """Takes its jitter from the global dice."""

    caught_by = ("test_is_pure",)

    class Policy(Sound):
        def next_delay(self, error, state, /):
            return random.random() if error.retryable else None


class TestNegative(Mutant):
    """Waits less than nothing when much time has passed."""

    caught_by = ("test_delay_can_be_waited_for",)

    class Policy(Sound):
        def next_delay(self, error, state, /):
            return 600.0 - state.elapsed_s if error.retryable else None


class TestOverflow(Mutant):
    """Grows without bound; the power overflows at a late attempt."""

    caught_at_least_by = ("test_delay_can_be_waited_for",)

    class Policy(Sound):
        def next_delay(self, error, state, /):
            return float(2**state.attempt) if error.retryable else None


class TestScribbling(Mutant):
    """Writes on the error."""

    caught_by = ("test_is_pure",)

    class Policy(Sound):
        def next_delay(self, error, state, /):
            error.seen = True
            return super().next_delay(error, state)
