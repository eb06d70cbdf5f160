"""Problems: what an HTTP answer says when there is no other answer, from any of our errors.

Bodies have OpenAI's form, `{"error": {"message", "type", "param", "code"}}`, on every server.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm.errors import (
    AmbiguousModelError,
    APIConnectionError,
    APITimeoutError,
    BudgetExceededError,
    ContentPolicyViolationError,
    ContextWindowExceededError,
    EngineError,
    MalformedReplyError,
    ProverError,
    ProviderError,
    SandboxError,
    SchemaError,
    UnknownModelError,
    UnsupportedParamError,
    UsageError,
)
from scillm.providers.secrets import masked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scillm.records import Json

TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    499: "client_closed_request",
    502: "upstream_error",
    503: "overloaded_error",
    504: "timeout_error",
}
UNEXPECTED = "The server failed in a way it does not know; its log says more."


@frozen(kw_only=True)
class Problem:
    """An answer that is no result."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(factory=dict)

    @property
    def type(self) -> str:
        """The kind of problem, in the words of OpenAI's API where it has one."""
        return TYPES.get(self.status, "server_error")

    def body(self) -> dict[str, Json]:
        """The JSON to answer with."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}

    def head(self) -> dict[str, str]:
        """The headers to answer with."""
        if self.retry_after_s is None:
            return dict(self.headers)
        return {**self.headers, "retry-after": str(max(1, math.ceil(self.retry_after_s)))}


class Refused(Exception):  # noqa: N818  (not an error of ours: an answer on its way out)
    """Raised by a handler to answer with `problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


BY_ERROR: tuple[tuple[type[BaseException], int, str | None], ...] = (
    (UnknownModelError, 404, "model_not_found"),
    (AmbiguousModelError, 400, "ambiguous_model"),
    (UnsupportedParamError, 400, "unsupported_parameter"),
    (BudgetExceededError, 429, "budget_exceeded"),
    (UsageError, 400, None),
    (ContextWindowExceededError, 400, "context_length_exceeded"),
    (ContentPolicyViolationError, 400, "content_policy_violation"),
    (APITimeoutError, 504, "upstream_timeout"),
    (APIConnectionError, 502, "upstream_unreachable"),
    (MalformedReplyError, 502, "upstream_malformed"),
    (SchemaError, 502, "answer_does_not_fit"),
    (SandboxError, 503, "sandbox_unavailable"),
    (ProverError, 503, "prover_unavailable"),
    (EngineError, 500, "engine_failed"),
)
"""First match counts. What is not listed: an upstream's 4xx as it came, its 5xx as 502 or 503."""

CODES: Mapping[int, str] = {401: "invalid_api_key", 404: "model_not_found"}


def problem_of(error: BaseException, *, secrets: Iterable[str] = ()) -> Problem:
    """The problem that `error` is to a client; an unknown one says nothing about its inside."""
    said = masked(str(error), secrets)
    for cls, status, code in BY_ERROR:
        if isinstance(error, cls):
            return Problem(
                status=status,
                message=said,
                code=code,
                param=getattr(error, "param", None) or None,
                retry_after_s=getattr(error, "retry_after", None),
            )
    if isinstance(error, ProviderError):
        status = _upstream_status(error.status_code)
        return Problem(
            status=status,
            message=said,
            code=CODES.get(status),
            retry_after_s=error.retry_after,
        )
    return Problem(status=500, message=UNEXPECTED, code="internal_error")


def _upstream_status(status: int | None) -> int:
    if status is not None and 400 <= status < 500:
        return status
    return 503 if status in (503, 529) else 502
