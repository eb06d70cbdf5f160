"""Error replies: each becomes the error that says what can be done, and never shows the key."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.providers.failures import complaint_of, failure, failure_inside

KEY = "sk-very-secret-0123456789"


def built(status, body, headers=None):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return failure(status=status, headers=headers or {}, body=raw, who="up", secrets=[KEY], now=0.0)


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.PaymentRequiredError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (408, errors.APITimeoutError),
        (409, errors.ConflictError),
        (418, errors.BadRequestError),
        (422, errors.UnprocessableEntityError),
        (429, errors.RateLimitError),
        (500, errors.InternalServerError),
        (502, errors.InternalServerError),
        (503, errors.CapacityError),
        (529, errors.CapacityError),
    ],
)
def test_each_status_has_its_error(status, cls):
    """The class, status, text and request id are those of the reply."""
    error = built(status, {"error": {"message": "because"}}, {"x-request-id": "r1"})

    assert type(error) is cls
    assert error.status_code == status
    assert "because" in error.message
    assert error.request_id == "r1"
    assert error.retryable is (status in (408, 409, 429) or status >= 500)


@pytest.mark.parametrize(
    ("status", "error", "cls"),
    [
        (400, {"code": "context_length_exceeded"}, errors.ContextWindowExceededError),
        (400, {"type": "exceed_context_size_error"}, errors.ContextWindowExceededError),
        (400, {"message": "maximum context length is 8"}, errors.ContextWindowExceededError),
        (400, {"code": "content_policy_violation"}, errors.ContentPolicyViolationError),
        (429, {"code": "insufficient_quota"}, errors.PaymentRequiredError),
        (400, {"message": "Your credit balance is too low"}, errors.PaymentRequiredError),
    ],
)
def test_codes_refine_the_status(status, error, cls):
    """A reply's own code says more than its status."""
    assert type(built(status, {"error": error})) is cls


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "m1"}}, "m1"),
        ({"error": "m2"}, "m2"),
        ({"detail": "m3"}, "m3"),
        ({"detail": [{"loc": ["a"], "msg": "m4"}]}, "m4"),
        ({"message": "m5"}, "m5"),
        (["m6"], "m6"),
    ],
)
def test_the_text_is_found_in_every_known_shape(body, said):
    """Servers disagree on where the message is; it is shown all the same."""
    assert said in built(400, body).message


def test_an_html_page_is_called_that():
    """A gateway's page is named with its title instead of pasted."""
    page = b"<!DOCTYPE html><html><head><title>502\n Bad Gateway</title></head></html>"

    error = built(502, page)

    assert "an HTML page titled '502 Bad Gateway'" in error.message


def test_the_key_is_masked_wherever_the_upstream_repeats_it():
    """An upstream that quotes the key in its error does not make us show it."""
    error = built(401, {"error": {"message": f"Incorrect API key: {KEY}"}, "auth": f"Bearer {KEY}"})

    for shown in (str(error), repr(error), error.body, repr(error.__dict__)):
        assert KEY not in shown
    assert "***" in error.message


def test_a_long_body_is_cut_and_says_so():
    """The excerpt tells how much was left out."""
    error = built(500, b"x" * 10_000)

    assert error.body.endswith("(8000 more characters)")


def test_a_redirect_is_named_and_not_followed():
    """A 3xx says where it points, since it is usually a wrong api_base."""
    error = built(308, b"", {"location": "https://elsewhere/v1"})

    assert type(error) is errors.ProviderError
    assert "https://elsewhere/v1" in error.message


@pytest.mark.parametrize(
    ("inner", "cls", "status"),
    [
        ({"code": 429, "message": "slow"}, errors.RateLimitError, 429),
        ({"code": "rate_limit_exceeded"}, errors.RateLimitError, 429),
        ({"type": "invalid_request_error", "message": "no"}, errors.BadRequestError, 400),
        ({"message": "boom"}, errors.InternalServerError, 500),
        ("boom", errors.InternalServerError, 500),
    ],
)
def test_an_error_object_inside_a_200_is_an_error(inner, cls, status):
    """OpenRouter and others answer 200 and put the error into the body."""
    error = failure_inside({"error": inner}, headers={}, who="up", secrets=[], now=0.0)

    assert type(error) is cls
    assert error.status_code == status


def test_a_reply_without_error_object_is_none():
    """An answer is not taken for an error."""
    assert failure_inside({"choices": []}, headers={}, who="u", secrets=[], now=0) is None
    assert (
        failure_inside({"choices": [], "error": None}, headers={}, who="u", secrets=[], now=0)
        is None
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "detail", "type", "x"]), inner
        )
    ),
    max_leaves=8,
)


@given(JSON, st.integers(300, 599))
def test_no_error_body_can_break_the_reader(body, status):
    """Whatever JSON comes, there is an error with a message that pickles."""
    error = built(status, body)

    assert isinstance(complaint_of(body).text, str)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_body_nested_beyond_reading_is_still_an_error():
    """A hostile body does not break the reader."""
    error = built(500, b"[" * 200_000)

    assert type(error) is errors.InternalServerError
    assert "nested too deeply" in error.message
