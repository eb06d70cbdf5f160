"""What the headers of a reply say is left of a rate limit.

Sources: the `x-ratelimit-*` headers of OpenAI, Groq, Azure and OpenRouter, the
`anthropic-ratelimit-*` headers, and the IETF draft's `ratelimit-remaining` and `ratelimit-reset`.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping
from typing import Literal

from attrs import frozen

from scillm.resilience.retry_after import parse_duration

Unit = Literal["requests", "tokens"]

HEADERS: tuple[tuple[Unit, str, str], ...] = (
    ("requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("requests", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("tokens", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("requests", "x-ratelimit-remaining", "x-ratelimit-reset"),
    ("requests", "ratelimit-remaining", "ratelimit-reset"),
)
MOMENT = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?Z")
EPOCH_S = 1e9
"""A bare number above this is a moment (Unix time), not a wait."""
EPOCH_MS = 1e11
"""A bare number above this is a moment in milliseconds."""


@frozen
class Remaining:
    """`left` units may still be used within the next `reset_s` seconds."""

    unit: Unit
    left: float
    reset_s: float


def remaining(headers: Mapping[str, str], *, unix_now: float) -> list[Remaining]:
    """Every limit of which both what is left and when it resets can be read.

    `headers` has lower-case names. A reset in the past, or one that cannot be read, says nothing.
    """
    if not any("ratelimit" in name for name in headers):
        return []
    found = []
    for unit, left_name, reset_name in HEADERS:
        left = _number(headers.get(left_name, ""))
        reset_s = _wait(headers.get(reset_name, ""), unix_now)
        if left is not None and left >= 0 and reset_s is not None and reset_s > 0:
            found.append(Remaining(unit, left, reset_s))
    return found


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _wait(text: str, unix_now: float) -> float | None:
    value = _number(text)
    if value is None:
        moment = MOMENT.fullmatch(text.strip())
        if moment is None:
            return parse_duration(text)
        return timegm((*map(int, moment.groups()), 0, 0, 0)) - unix_now
    if value > EPOCH_MS:
        return value / 1000.0 - unix_now
    return value - unix_now if value > EPOCH_S else value
