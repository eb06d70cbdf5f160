"""How long an upstream asks us to wait, in every form seen in the wild.

Sources: RFC 9110 section 10.2.3 (Retry-After), the `retry-after-ms` header of Azure OpenAI, the
`x-ratelimit-reset-*` headers of OpenAI and Groq, and `google.rpc.RetryInfo` in Gemini's error body.
"""

from __future__ import annotations

import json
import re
from calendar import timegm
from collections.abc import Iterator, Mapping
from email.utils import parsedate_tz
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scillm.records import Json

DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
RESET_HEADERS = ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "x-ratelimit-reset")
SOON_S = 0.5
"""What a wait of 0, or one that is over, becomes: `Retry-After: 0` is not a busy loop."""
EPOCH_S = 1_000_000_000
"""A bare reset number above this is a moment (Unix time), not a wait."""


def parse_retry_after(
    headers: Mapping[str, str], body: bytes | str = b"", *, now: float
) -> float | None:
    """Seconds to wait, or None when the reply does not say; dates in the past give 0.

    `headers` has lower-case names. `now` is Unix time in seconds. Of several forms the first in
    this order counts: retry-after-ms, retry-after (seconds or HTTP-date), RetryInfo in the body,
    and, only where a limit is used up (remaining is 0) or the server says nothing about what
    remains, x-ratelimit-reset-*.
    """
    readings = (
        _milliseconds(headers.get("retry-after-ms", "")),
        _retry_after(headers.get("retry-after", ""), now),
        _retry_info(body),
        _reset(headers, now),
    )
    return next((max(0.0, reading) for reading in readings if reading is not None), None)


def wait_meant(said_s: float) -> float:
    """The wait that an upstream means by `said_s`: as it says, and soon when it says 0."""
    return said_s if said_s > 0 else SOON_S


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _milliseconds(text: str) -> float | None:
    value = _number(text.strip())
    return None if value is None else value / 1000.0


def _retry_after(text: str, now: float) -> float | None:
    text = text.strip()
    seconds = _number(text)
    if seconds is not None or not text:
        return seconds
    moment = _moment(text)
    return parse_duration(text) if moment is None else moment - now


def _moment(text: str) -> float | None:
    """Unix time of an HTTP-date; one that names no zone is in GMT, as all of them are."""
    try:
        found = parsedate_tz(text)
        return None if found is None else timegm((*found[:6], 0, 0, 0)) - (found[9] or 0)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def parse_duration(text: str) -> float | None:
    """Seconds in `6m0s`, `17s`, `250ms` or `1h30m`; None for anything else."""
    text = text.strip()
    if not DURATION.fullmatch(text):
        return None
    return sum(float(number) * UNIT_S[unit] for number, unit in DURATION_PART.findall(text))


def _retry_info(body: bytes | str) -> float | None:
    if (b"retryDelay" if isinstance(body, bytes) else "retryDelay") not in body:  # type: ignore[operator]
        return None
    try:
        document = json.loads(body)
    except ValueError:
        return None
    delays = [parse_duration(text) for text in _retry_delays(document, depth=0)]
    return next((delay for delay in delays if delay is not None), None)


def _retry_delays(node: Json, depth: int) -> Iterator[str]:
    children: Any = ()
    if isinstance(node, Mapping):
        if isinstance(node.get("retryDelay"), str):
            yield node["retryDelay"]
        children = node.values()
    elif isinstance(node, list):
        children = node
    for child in children if depth < 8 else ():
        yield from _retry_delays(child, depth + 1)


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    waits = []
    for name in RESET_HEADERS:
        text = headers.get(name, "")
        remaining = _number(headers.get(name.replace("reset", "remaining"), ""))
        if text and not (remaining is not None and remaining > 0):
            waits.append(_reset_wait(text, now))
    known = [wait for wait in waits if wait is not None]
    return max(known, default=None)


def _reset_wait(text: str, now: float) -> float | None:
    value = _number(text.strip())
    if value is None:
        return parse_duration(text)
    return value - now if value > EPOCH_S else value
