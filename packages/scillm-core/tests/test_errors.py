"""The error tree: every error says what it knows, and travels."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import scillm
from scillm import errors
from scillm.models import Completion
from scillm.records import Attempt

ALL = sorted(
    (
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == "scillm.errors"
    ),
    key=lambda cls: cls.__name__,
)
PROVIDER = [cls for cls in ALL if issubclass(cls, errors.ProviderError)]


@pytest.mark.parametrize("cls", ALL)
def test_every_error_pickles_and_copies_with_its_data(cls):
    """Errors cross process pools and checkpoints without losing anything."""
    error = cls("what was wanted, what came, what to do")
    error.note = {"any": ["thing"]}

    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(twin) is cls
        assert twin.message == error.message
        assert twin.__dict__ == error.__dict__


@pytest.mark.parametrize("cls", PROVIDER)
def test_provider_errors_carry_their_facts(cls):
    """Where, which model, status, wait, body and attempts are attributes."""
    attempt = Attempt(endpoint="e", model="m", outcome=cls.__name__)
    error = cls("x", provider="p", model="m", status_code=1, retry_after=2.0, body="b")
    error.attempts = (attempt,)

    twin = pickle.loads(pickle.dumps(error))

    assert (twin.provider, twin.model, twin.status_code) == ("p", "m", 1)
    assert (twin.retry_after, twin.body, twin.attempts) == (2.0, "b", (attempt,))


def test_an_interrupted_stream_keeps_its_partial_answer():
    """What was paid for before the break is not lost, in another process neither."""
    error = errors.StreamInterruptedError("x", partial=Completion(id="half"))

    assert pickle.loads(pickle.dumps(error)).partial.id == "half"


def test_what_is_worth_another_try_is_written_on_the_error():
    """Only what can help is marked retryable; a refused request is not tried elsewhere."""
    retryable = {cls.__name__ for cls in ALL if cls.retryable}
    not_elsewhere = {cls.__name__ for cls in PROVIDER if not cls.try_elsewhere}

    assert retryable == {
        "APIConnectionError",
        "APITimeoutError",
        "CapacityError",
        "ConflictError",
        "InternalServerError",
        "RateLimitError",
    }
    assert not_elsewhere == {
        "BadRequestError",
        "ContentPolicyViolationError",
        "ContextWindowExceededError",
        "UnprocessableEntityError",
    }


def test_every_error_is_a_public_name():
    """Whatever can be raised can be caught by its name in `scillm`."""
    for cls in ALL:
        assert getattr(scillm, cls.__name__) is cls
        assert cls.__name__ in scillm.__all__
