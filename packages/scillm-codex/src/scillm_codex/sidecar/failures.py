"""What Codex says went wrong, as our errors: one table for its words, one for HTTP statuses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CapacityError,
    ContentPolicyViolationError,
    ContextWindowExceededError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
)

if TYPE_CHECKING:
    from scillm.records import Json

BY_WORD: Mapping[str, tuple[type[ProviderError], int | None]] = {
    "contextWindowExceeded": (ContextWindowExceededError, 400),
    "sessionBudgetExceeded": (RateLimitError, 429),
    "usageLimitExceeded": (RateLimitError, 429),
    "rateLimitExceeded": (RateLimitError, 429),
    "flexUnavailable": (CapacityError, 503),
    "serverOverloaded": (CapacityError, 503),
    "policyCapacityUnavailable": (CapacityError, 503),
    "modelNotFound": (NotFoundError, 404),
    "cyberPolicy": (ContentPolicyViolationError, 400),
    "misalignmentPolicyViolation": (ContentPolicyViolationError, 400),
    "inferenceHookDenied": (PermissionDeniedError, 403),
    "internalServerError": (InternalServerError, 500),
    "unauthorized": (AuthenticationError, 401),
    "badRequest": (BadRequestError, 400),
    "sandboxError": (InternalServerError, 500),
}
BY_STATUS: Mapping[int, type[ProviderError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: APITimeoutError,
    422: BadRequestError,
    429: RateLimitError,
    503: CapacityError,
    529: CapacityError,
}
CONNECTION = frozenset({
    "httpConnectionFailed", "responseStreamConnectionFailed", "responseStreamDisconnected",
    "responseTooManyFailedAttempts",
})  # fmt: skip
AGAIN = re.compile(r"try again in (\d+(?:\.\d+)?)\s*(ms|s|m)\b")
STATUS = re.compile(r"(?:status|last status)[: ]+(\d{3})\b")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def error_of(failed: Mapping[str, Json]) -> ProviderError:
    """The error of a failed turn: `failed` is its `error`, with message and codexErrorInfo."""
    text = str(failed.get("message") or "Codex failed without saying why.")
    details = failed.get("additionalDetails")
    info = failed.get("codexErrorInfo")
    said, code, status = _inner(text)
    cls, status = _kind(info, status or _status_in(text), code)
    if details and str(details) not in said:
        said = f"{said} ({details})"
    return cls(
        f"Codex: {said}",
        provider="codex",
        status_code=status,
        retry_after=retry_after(text),
    )


def retry_after(text: str) -> float | None:
    """Seconds named in a text such as "try again in 1.2s"."""
    found = AGAIN.search(text)
    return None if found is None else float(found[1]) * SECONDS[found[2]]


def _kind(info: Json, status: int | None, code: str) -> tuple[type[ProviderError], int | None]:
    if isinstance(info, Mapping):
        for word in CONNECTION & set(info):
            inner = info[word]
            told = inner.get("httpStatusCode") if isinstance(inner, Mapping) else None
            return _by_status(told or status)
        return InternalServerError, status or 500
    if code == "context_length_exceeded":
        return ContextWindowExceededError, 400
    if code == "model_not_found":
        return NotFoundError, 404
    if isinstance(info, str) and info in BY_WORD:
        return BY_WORD[info]
    if status is None and code:
        # The whole body of a 400 comes as the message, without its status.
        return BadRequestError, 400
    return _by_status(status)


def _by_status(status: int | None) -> tuple[type[ProviderError], int | None]:
    if status is None:
        return APIConnectionError, None
    if status in BY_STATUS:
        return BY_STATUS[status], status
    return (BadRequestError if status < 500 else InternalServerError), status


def _status_in(text: str) -> int | None:
    found = STATUS.search(text)
    return None if found is None else int(found[1])


def _inner(text: str) -> tuple[str, str, int | None]:
    """The words inside a message that is an error body, its code, its status."""
    try:
        body = json.loads(text)
    except ValueError:
        return text, "", None
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return text, "", None
    code = error.get("code") or error.get("type") or ""
    status = body.get("status")
    told = status if isinstance(status, int) else None
    return str(error.get("message") or text), str(code), told
