"""The conformance suite for retry policies: give it a fixture `policy`."""

from __future__ import annotations

import copy
import math
import random
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scillm.errors import ProviderError, ScillmError
from scillm.protocols import RetryPolicy, RetryState

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED = settings(
    deadline=None,
    # One policy serves all examples, and one suite serves many classes: both on purpose.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


def _family(cls: type[ScillmError]) -> Iterator[type[ScillmError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == ScillmError.__module__:
            yield from _family(child)


CLASSES = sorted(set(_family(ScillmError)), key=lambda cls: cls.__name__)


def _errors(cls: type[ScillmError]) -> st.SearchStrategy[ScillmError]:
    if not issubclass(cls, ProviderError):
        return st.just(cls("refused"))
    return st.builds(
        cls,
        st.just("refused"),
        provider=st.just("conformance"),
        model=st.just("conformance"),
        status_code=st.none() | st.integers(400, 599),
        retry_after=st.none() | st.floats(0, 1e6),
    )


ERRORS = st.sampled_from(CLASSES).flatmap(_errors)
"""An error of any class of SciLLM, with any status and any wait the upstream may ask for."""

STATES = st.builds(
    RetryState,
    attempt=st.integers(1, 10_000),
    elapsed_s=st.floats(0, 1e6),
    slept_s=st.floats(0, 1e6),
    draw=st.floats(0, 1, exclude_max=True),
)


class RetryPolicyConformance:
    """What every retry policy promises; a policy is a pure function of its two arguments.

    Inherit, and give a fixture `policy`::

        class TestMine(RetryPolicyConformance):
            @pytest.fixture
            def policy(self):
                return Mine()
    """

    def test_is_a_retry_policy(self, policy: RetryPolicy) -> None:
        """It has the one method every retry policy has."""
        assert isinstance(policy, RetryPolicy), (
            f"{type(policy).__name__} has no method next_delay(error, state)."
        )

    @SHARED
    @given(error=ERRORS, state=STATES)
    def test_delay_can_be_waited_for(
        self, policy: RetryPolicy, error: ScillmError, state: RetryState
    ) -> None:
        """A delay is a finite number of seconds from 0, or None to give up."""
        delay_s: Any = policy.next_delay(error, state)

        assert delay_s is None or (
            isinstance(delay_s, (int, float))
            and not isinstance(delay_s, bool)
            and math.isfinite(delay_s)
            and delay_s >= 0
        ), f"next_delay must give None or a finite number from 0, but gave {delay_s!r}."

    @SHARED
    @given(error=ERRORS.filter(lambda error: not error.retryable), state=STATES)
    def test_gives_up_where_another_try_cannot_help(
        self, policy: RetryPolicy, error: ScillmError, state: RetryState
    ) -> None:
        """An error that another try cannot mend is never tried again."""
        delay_s = policy.next_delay(error, state)

        assert delay_s is None, (
            f"{type(error).__name__} is not retryable, but the policy waits {delay_s} s for it. "
            "Begin with `if not error.retryable: return None`."
        )

    @SHARED
    @given(error=ERRORS, state=STATES, noise=st.integers(0, 2**32))
    def test_is_pure(
        self, policy: RetryPolicy, error: ScillmError, state: RetryState, noise: int
    ) -> None:
        """The same error and state get the same delay, whatever was asked in between."""
        before = (type(error), error.args, copy.deepcopy(error.__dict__))
        first = policy.next_delay(error, state)
        for attempt in range(1, 4):
            policy.next_delay(
                error, RetryState(attempt=attempt, elapsed_s=noise, slept_s=0.0, draw=0.5)
            )
        dice = random.getstate()
        random.seed(noise)
        again = policy.next_delay(error, state)
        random.setstate(dice)

        assert again == first, (
            f"One error and state got {first!r} and then {again!r}. A policy keeps no count and "
            "takes its luck from state.draw."
        )
        after = (type(error), error.args, error.__dict__)
        assert after == before, "A policy must not change the error."
