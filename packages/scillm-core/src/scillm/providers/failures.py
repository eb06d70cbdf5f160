"""Error replies to errors: one table for statuses, one for the codes that refine them.

Statuses and codes: OpenAI API error reference; the words of other servers from their replies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from scillm.errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CapacityError,
    ConflictError,
    ContentPolicyViolationError,
    ContextWindowExceededError,
    InternalServerError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    UnprocessableEntityError,
)
from scillm.providers.replyhead import request_id_of
from scillm.providers.secrets import masked
from scillm.resilience.retry_after import parse_retry_after

if TYPE_CHECKING:
    from scillm.records import Json

BODY_EXCERPT_CHARS = 2000
MESSAGE_CHARS = 500

BY_STATUS: Mapping[int, type[ProviderError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: APITimeoutError,
    409: ConflictError,
    413: BadRequestError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    503: CapacityError,
    529: CapacityError,
}

STATUS_BY_CODE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 503,
    "server_error": 500,
    "api_error": 500,
}
"""What an error object inside an HTTP 200 means when it carries a word instead of a status."""

NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "credit balance is too low")
CONTEXT = (
    "context_length_exceeded",
    "exceed_context_size",
    "maximum context length",
    "context window",
    "prompt is too long",
)
POLICY = ("content_policy_violation", "content_filter", "responsibleaipolicyviolation")


@frozen(kw_only=True)
class Complaint:
    """What an error reply says: a text, and every code or type word it carries, lower case."""

    text: str
    words: Sequence[str] = ()
    status: int | None = None


def failure(
    *,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    who: str,
    secrets: Sequence[str],
    now: float,
) -> ProviderError:
    """The error for an HTTP reply of status 300 or more. `now` is Unix time in seconds."""
    complaint = read_complaint(body)
    cls = error_class(status, complaint)
    return _built(cls, status, complaint, headers, body, who, secrets, now)


def failure_inside(
    document: Json, *, headers: Mapping[str, str], who: str, secrets: Sequence[str], now: float
) -> ProviderError | None:
    """The error for an error object that came with HTTP 200, or None when there is none."""
    if not isinstance(document, Mapping) or not document.get("error"):
        return None
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    complaint = complaint_of(document)
    status = complaint.status or next(
        (STATUS_BY_CODE[word] for word in complaint.words if word in STATUS_BY_CODE), 500
    )
    cls = error_class(status, complaint)
    return _built(cls, status, complaint, headers, body, who, secrets, now)


def error_class(status: int, complaint: Complaint) -> type[ProviderError]:
    """The class for a status, refined by what the reply says."""
    said = " ".join((*complaint.words, complaint.text.lower()))
    if status in (400, 413, 422) and any(word in said for word in CONTEXT):
        return ContextWindowExceededError
    if status in (400, 403, 422) and any(word in said for word in POLICY):
        return ContentPolicyViolationError
    if status in (400, 429) and any(word in said for word in NO_CREDIT):
        return PaymentRequiredError
    if status >= 500:
        return BY_STATUS.get(status, InternalServerError)
    if 400 <= status < 500:
        return BY_STATUS.get(status, BadRequestError)
    return ProviderError


def read_complaint(body: bytes) -> Complaint:
    """What the body of an error reply says: JSON in any known shape, an HTML page, or text."""
    text = body.decode("utf-8", "replace").strip()
    try:
        return complaint_of(json.loads(text))
    except ValueError:
        pass
    except RecursionError:
        return Complaint(text="(a JSON body nested too deeply to be read)")
    if looks_like_html(text):
        title = re.search(r"(?is)<title[^>]*>(.*?)</title>", text[:20_000])
        named = f" titled {' '.join(title.group(1).split())!r}" if title else ""
        return Complaint(text=f"an HTML page{named}", words=("html",))
    return Complaint(text=text or "(an empty body)")


def complaint_of(document: Json) -> Complaint:
    """What a JSON error document says; knows `error`, `detail`, `message`, `errors`."""
    if not isinstance(document, Mapping):
        return Complaint(text=json.dumps(document, ensure_ascii=False))
    inner = document.get("error", document)
    source = inner if isinstance(inner, Mapping) else document
    words = [
        str(source[key]).lower()
        for key in ("code", "type", "status")
        if isinstance(source.get(key), (str, int))
    ]
    numbers = (source.get(key) for key in ("code", "status", "status_code"))
    status = next(
        (n for n in numbers if isinstance(n, int) and not isinstance(n, bool) and 400 <= n < 600),
        None,
    )
    said = inner if isinstance(inner, str) else None
    for key in ("message", "detail", "errors", "error_description"):
        said = said or source.get(key) or document.get(key)
    text = said if isinstance(said, str) else json.dumps(said or document, ensure_ascii=False)
    return Complaint(text=text, words=tuple(words), status=status)


def looks_like_html(text: str) -> bool:
    """Whether a text is a web page."""
    head = text.lstrip()[:200].lower()
    return head.startswith(("<!doctype html", "<html", "<head", "<body"))


def _built(
    cls: type[ProviderError],
    status: int,
    complaint: Complaint,
    headers: Mapping[str, str],
    body: bytes,
    who: str,
    secrets: Sequence[str],
    now: float,
) -> ProviderError:
    said = excerpt(masked(complaint.text, secrets), MESSAGE_CHARS)
    hint = (
        f" It redirects to {headers['location']}; check api_base." if "location" in headers else ""
    )
    return cls(
        f"{who} answered {status}: {said}{hint}",
        status_code=status,
        retry_after=parse_retry_after(headers, body, now=now),
        body=excerpt(masked(body.decode("utf-8", "replace"), secrets), BODY_EXCERPT_CHARS),
        request_id=request_id_of(headers),
    )


def excerpt(text: str, limit: int) -> str:
    """The head of `text`, saying how much was left out."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit} more characters)"
