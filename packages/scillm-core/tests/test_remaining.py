"""Rate-limit headers: what is left, until when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.resilience.remaining import Remaining, remaining

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        # platform.openai.com/docs/guides/rate-limits
        (
            {
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            [Remaining("requests", 59.0, 1.0), Remaining("tokens", 149984.0, 360.0)],
        ),
        # docs.anthropic.com: RFC 3339 moments
        (
            {
                "anthropic-ratelimit-requests-remaining": "3",
                "anthropic-ratelimit-requests-reset": "2026-09-21T14:13:30Z",
            },
            [Remaining("requests", 3.0, 10.0)],
        ),
        # OpenRouter: Unix time in milliseconds
        (
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW + 5) * 1000)},
            [Remaining("requests", 0.0, 5.0)],
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW + 7)},
         [Remaining("requests", 0.0, 7.0)]),
        # draft-ietf-httpapi-ratelimit-headers-06
        ({"ratelimit-remaining": "10", "ratelimit-reset": "50"},
         [Remaining("requests", 10.0, 50.0)]),
    ],
)  # fmt: skip
def test_the_forms_of_real_upstreams(headers, found):
    """OpenAI, Anthropic, OpenRouter and the IETF draft are read alike."""
    assert remaining(headers, unix_now=NOW) == found


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json"},
        {"x-ratelimit-remaining": "5"},
        {"x-ratelimit-reset": "5"},
        {"x-ratelimit-remaining": "5", "x-ratelimit-reset": "soon"},
        {"x-ratelimit-remaining": "inf", "x-ratelimit-reset": "5"},
        {"x-ratelimit-remaining": "-1", "x-ratelimit-reset": "5"},
        {"x-ratelimit-remaining": "5", "x-ratelimit-reset": "0"},
        {"x-ratelimit-remaining": "5", "x-ratelimit-reset": str(NOW - 5)},
    ],
)
def test_half_a_statement_says_nothing(headers):
    """Without both numbers, and a reset to come, nothing is concluded."""
    assert remaining(headers, unix_now=NOW) == []


@given(st.dictionaries(st.sampled_from(["x-ratelimit-remaining", "x-ratelimit-reset"]), st.text()))
def test_no_header_breaks_the_reader(headers):
    """Whatever stands there, a call does not fail for it."""
    for row in remaining(headers, unix_now=NOW):
        assert row.left >= 0
        assert row.reset_s > 0
