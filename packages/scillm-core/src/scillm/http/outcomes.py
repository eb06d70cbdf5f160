"""What a transport says when no whole reply came: one wording for every HTTP library."""

from __future__ import annotations

import re
from collections.abc import Mapping

from scillm.errors import APIConnectionError, APITimeoutError, MalformedReplyError, UsageError

MAX_REPLY_BYTES = 256 * 1024 * 1024
"""Size of a decoded reply above which it is given up."""


def shown(url: str) -> str:
    """`url` without user, password, query and fragment."""
    scheme, mark, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{mark}{authority.rpartition('@')[2]}{slash}{path}"


def unusable_url(url: str, why: str = "") -> UsageError:
    """The URL is no http URL with a host."""
    reason = f" ({why})" if why else ""
    return UsageError(
        f"An http:// or https:// URL with a host is wanted, but {shown(url)!r} came{reason}; "
        "check api_base."
    )


def unusable_call(url: str, why: str) -> UsageError:
    """The call cannot be written as HTTP, for example because of a line break in a header."""
    return UsageError(f"The call to {shown(url)} is not valid HTTP: {why}.")


def refuse_unless_ascii(url: str, headers: Mapping[str, str]) -> None:
    """Raise `unusable_call` unless every header is ASCII; libraries disagree on anything else."""
    if "".join(headers).isascii() and "".join(headers.values()).isascii():
        return
    wrong = next(name for name, value in headers.items() if not f"{name}{value}".isascii())
    raise unusable_call(url, f"the header {wrong!r} is not ASCII; its value is not shown")


def not_connected(url: str, why: str) -> APIConnectionError:
    """Nobody could be reached; the request was not sent."""
    error = APIConnectionError(f"No connection could be made to {shown(url)} ({why}).")
    error.was_sent = False
    return error


def broken(url: str, why: str) -> APIConnectionError:
    """The connection ended before the reply was whole."""
    return APIConnectionError(
        f"The connection broke before the reply was whole from {shown(url)} ({why})."
    )


def connected_too_slowly(url: str) -> APITimeoutError:
    """The connection was not there in time; the request was not sent."""
    error = APITimeoutError(f"No connection to {shown(url)} could be made in time.")
    error.was_sent = False
    return error


def timed_out(url: str, timeout_s: float) -> APITimeoutError:
    """The whole exchange, or the head of a stream, took too long."""
    return APITimeoutError(f"No complete reply came from {shown(url)} within {timeout_s:g} s.")


def fell_silent(url: str, timeout_s: float) -> APITimeoutError:
    """A stream paused for too long."""
    return APITimeoutError(
        f"The rest of the reply did not come in time from {shown(url)}: "
        f"nothing for {timeout_s:g} s."
    )


def too_large(url: str, limit: int) -> MalformedReplyError:
    """The reply was given up because of its size."""
    return MalformedReplyError(
        f"The reply from {shown(url)} is larger than {limit} bytes; it was given up."
    )


def undecodable(url: str, why: str) -> MalformedReplyError:
    """The body does not fit its Content-Encoding."""
    return MalformedReplyError(f"The reply from {shown(url)} cannot be decoded ({why}).")


def why(error: BaseException) -> str:
    """A foreign error in one line: its class and its own words."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
