"""What a refusal of Chutes means and what follows from it: one table.

Source of the texts: the service's code and captured replies; bodies are {"detail": …} or HTML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import frozen
from scillm.errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CapacityError,
    InternalServerError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
)
from scillm.providers.failures import looks_like_html

from scillm_chutes.errors import (
    ColdModelError,
    DisabledModelError,
    KeyPausedError,
    ModelFullError,
    QuotaError,
)
from scillm_chutes.reading import unix_time

if TYPE_CHECKING:
    from scillm.records import Json

NEXT, PAUSE_KEY, STOP_KEY, WARM_UP, RESOLVE, RETRY, RAISE = (
    "next model",
    "pause key",
    "stop key",
    "warm up or next model",
    "resolve again",
    "retry",
    "raise",
)
"""Reactions. `pause key`: the limiter's ban. `stop key`: a quota with a reset time."""

DAY_S = 86_400.0
MINUTE_S = 60.0
WINDOW_S = 4 * 3600.0
STOP_AT_MOST_S = 300.0
"""A stopped key is tried again this soon, because its owner may have paid meanwhile."""


@frozen(kw_only=True)
class Row:
    """One line of the table: the first whose status, form and text fit is taken.

    `rest_s` is how long the model rests, `resets` names where the reset time comes from: midnight
    (UTC), minute, window, body.
    """

    status: int
    kind: str
    reaction: str
    error: type[ProviderError]
    says: str = ""
    html: bool | None = None
    rest_s: float = 0.0
    resets: str = ""


TABLE: tuple[Row, ...] = (
    Row(status=429, html=True, kind="caller limited", reaction=PAUSE_KEY, error=KeyPausedError),
    Row(
        status=429,
        says="maximum capacity",
        kind="model full",
        reaction=NEXT,
        error=ModelFullError,
        rest_s=2.0,
    ),
    Row(
        status=429,
        says="free models limit reached",
        kind="free quota",
        reaction=STOP_KEY,
        error=QuotaError,
        resets="midnight",
    ),
    Row(
        status=429,
        says="under maintenance",
        kind="maintenance",
        reaction=NEXT,
        error=DisabledModelError,
        rest_s=600.0,
    ),
    Row(
        status=429,
        says="stop spamming",
        kind="repeated prompt",
        reaction=RAISE,
        error=BadRequestError,
    ),
    Row(
        status=429,
        says="rate limit exceeded",
        kind="minute limit",
        reaction=PAUSE_KEY,
        error=KeyPausedError,
        resets="minute",
    ),
    Row(status=429, kind="other 429", reaction=NEXT, error=RateLimitError, rest_s=2.0),
    Row(
        status=402,
        says="quota exceeded",
        kind="daily quota",
        reaction=STOP_KEY,
        error=QuotaError,
        resets="body",
    ),
    Row(
        status=402,
        says="subscription usage cap exceeded",
        kind="subscription window",
        reaction=STOP_KEY,
        error=QuotaError,
        resets="window",
    ),
    Row(status=402, kind="not payable", reaction=RAISE, error=PaymentRequiredError),
    Row(
        status=503,
        says="no instances available",
        kind="cold",
        reaction=WARM_UP,
        error=ColdModelError,
        rest_s=60.0,
    ),
    Row(
        status=503,
        says="disabled",
        kind="disabled",
        reaction=NEXT,
        error=DisabledModelError,
        rest_s=900.0,
    ),
    Row(status=503, kind="unavailable", reaction=RETRY, error=CapacityError, rest_s=1.0),
    Row(
        status=500,
        says="exhausted all available targets",
        kind="model full (500)",
        reaction=NEXT,
        error=ModelFullError,
        rest_s=5.0,
    ),
    Row(
        status=500,
        says="no infrastructure available",
        kind="model full (500)",
        reaction=NEXT,
        error=ModelFullError,
        rest_s=5.0,
    ),
    Row(status=504, kind="edge timeout", reaction=RETRY, error=APITimeoutError, rest_s=5.0),
    Row(
        status=404,
        says="model not found",
        kind="unknown model",
        reaction=RESOLVE,
        error=NotFoundError,
        rest_s=300.0,
    ),
    Row(status=404, kind="no such route", reaction=RAISE, error=NotFoundError),
    Row(status=401, kind="wrong key", reaction=RAISE, error=AuthenticationError),
    Row(
        status=403,
        html=True,
        kind="refused at the edge",
        reaction=RAISE,
        error=PermissionDeniedError,
    ),
    Row(status=403, kind="not allowed", reaction=RAISE, error=PermissionDeniedError),
    Row(status=426, kind="not confidential", reaction=NEXT, error=DisabledModelError, rest_s=900.0),
)


@frozen(kw_only=True)
class Failure:
    """What a refusal means. `wait_s` is how long the key must wait, None where it says nothing."""

    kind: str
    reaction: str
    error: type[ProviderError]
    text: str
    rest_s: float = 0.0
    wait_s: float | None = None
    resets_at: float | None = None


def classify(status: int, body: bytes, *, now: float, content_type: str = "") -> Failure:
    """The meaning of a reply of status 300 or more; `now` is Unix time."""
    said = body.decode("utf-8", "replace").strip()
    html = looks_like_html(said) or content_type.startswith("text/html")
    detail = None if html else _detail(said)
    text = "an HTML page" if html else _words(detail, said)
    lower = text.lower()
    for row in TABLE:
        if row.status != status or row.says not in lower:
            continue
        if row.html is None or row.html == html:
            at = _reset(row.resets, detail, now)
            return Failure(
                kind=row.kind,
                reaction=row.reaction,
                error=row.error,
                text=text,
                rest_s=row.rest_s,
                wait_s=None if at is None else max(0.0, at - now),
                resets_at=at,
            )
    if status >= 500:
        return Failure(
            kind="upstream", reaction=RETRY, error=InternalServerError, text=text, rest_s=1.0
        )
    return Failure(kind="refused", reaction=RAISE, error=BadRequestError, text=text)


def next_midnight(now: float) -> float:
    """The next midnight UTC."""
    return (now // DAY_S + 1.0) * DAY_S


def _reset(source: str, detail: Json, now: float) -> float | None:
    if source == "midnight":
        return next_midnight(now)
    if source == "minute":
        return (now // MINUTE_S + 1.0) * MINUTE_S
    if source == "window":
        # The reply does not say when; the window is four hours, /users/me/subscription_usage knows.
        return now + WINDOW_S
    if source != "body":
        return None
    stamp = detail.get("quota_reset_timestamp") if isinstance(detail, Mapping) else None
    if isinstance(stamp, (int, float)) and not isinstance(stamp, bool):
        return float(stamp)
    return unix_time(stamp) or next_midnight(now)


def _detail(said: str) -> Json:
    try:
        document = json.loads(said)
    except (ValueError, RecursionError):
        return None
    return document.get("detail") if isinstance(document, Mapping) else None


def _words(detail: Json, said: str) -> str:
    if isinstance(detail, str):
        return detail
    if isinstance(detail, Mapping) and isinstance(detail.get("message"), str):
        return str(detail["message"])
    return said or "(an empty body)"
