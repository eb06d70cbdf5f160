"""Retry-After: every form an upstream uses to say how long to wait."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.resilience.retry_after import parse_duration, parse_retry_after

NOW = 1_790_000_000.0


@given(st.floats(0, 1e6), st.sampled_from(["retry-after", "retry-after-ms"]))
def test_numbers_are_seconds_or_milliseconds(value, header):
    """Whole and fractional numbers both count."""
    expected = value / 1000 if header.endswith("ms") else value

    assert parse_retry_after({header: repr(value)}, now=NOW) == pytest.approx(expected)


@given(st.integers(-100_000, 100_000))
def test_dates_are_relative_to_now_and_never_negative(offset):
    """An HTTP-date in the past means now (RFC 9110, 10.2.3)."""
    header = formatdate(NOW + offset, usegmt=True)

    assert parse_retry_after({"retry-after": header}, now=NOW) == pytest.approx(max(0, offset))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360.0), ("17s", 17.0), ("250ms", 0.25), ("1h30m", 5400.0), ("7.66s", 7.66)],
)
def test_durations_of_reset_headers(text, seconds):
    """OpenAI and Groq write resets as `6m0s`."""
    assert parse_duration(text) == pytest.approx(seconds)
    headers = {"x-ratelimit-reset-requests": text, "x-ratelimit-remaining-requests": "0"}
    assert parse_retry_after(headers, now=NOW) == pytest.approx(seconds)


def test_a_reset_of_a_limit_that_is_not_used_up_does_not_count():
    """Of two limits, the one that is exhausted decides."""
    headers = {
        "x-ratelimit-reset-requests": "60s",
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-reset-tokens": "2s",
        "x-ratelimit-remaining-tokens": "0",
    }

    assert parse_retry_after(headers, now=NOW) == 2.0


def test_a_reset_given_as_unix_time_is_a_moment():
    """OpenRouter-style resets are moments, not waits."""
    assert parse_retry_after({"x-ratelimit-reset": str(NOW + 5)}, now=NOW) == 5.0


def test_geminis_retry_info_in_the_body_counts():
    """Gemini puts the delay into the error's details."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}]
    body = json.dumps({"error": {"code": 429, "details": details}}).encode()

    assert parse_retry_after({}, body, now=NOW) == 17.0
    assert parse_retry_after({"retry-after": "3"}, body, now=NOW) == 3.0


@pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 09:49:37 +0100",
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_date_is_the_same_moment_wherever_the_program_runs(monkeypatch, zone, date):
    """All three forms of RFC 9110 section 5.6.7 are GMT, also the one that does not say so."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        found = parse_retry_after({"retry-after": date}, now=784_111_777.0 - 30.0)
    finally:
        monkeypatch.undo()
        time.tzset()

    assert found == 30.0


@pytest.mark.parametrize(
    "value",
    ["", "soon", "nan", "inf", "1e999", "Wed, 99 Foo", "-", "Sun, 06 Nov 99999 08:49:37 GMT"],
)
def test_nonsense_is_not_a_wait(value):
    """A header that says nothing is no wait, not zero and not for ever."""
    assert parse_retry_after({"retry-after": value}, b"{}", now=NOW) is None


def test_negative_seconds_mean_now():
    """A negative wait is clamped to 0."""
    assert parse_retry_after({"retry-after": "-5"}, now=NOW) == 0.0


@given(st.text(max_size=30), st.binary(max_size=60))
def test_no_header_and_no_body_can_break_the_parser(text, body):
    """Whatever an upstream sends, the answer is None or a finite wait of 0 or more."""
    headers = dict.fromkeys(["retry-after", "retry-after-ms", "x-ratelimit-reset"], text)

    found = parse_retry_after(headers, b"retryDelay" + body, now=NOW)

    assert found is None or 0 <= found < float("inf")
