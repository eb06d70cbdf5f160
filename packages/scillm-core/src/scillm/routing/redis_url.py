"""Which Redis a Router is told of: one URL, or LiteLLM's host, port, password and db."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scillm.errors import UsageError

REDIS = ("redis_url", "redis_host", "redis_port", "redis_password", "redis_db")
SCHEMES = ("redis://", "rediss://", "unix://")


def redis_url_of(given: Mapping[str, Any]) -> str | None:
    """The URL of what `given` names, or None; `UsageError` without repeating a password."""
    parts = [name for name in REDIS[1:] if given.get(name) is not None]
    url = given.get("redis_url")
    if url is None:
        return _url_of_parts(given) if parts else None
    if not isinstance(url, str) or not url.startswith(SCHEMES):
        raise UsageError("redis_url must look like redis://[:password@]host:port[/db].")
    if parts:
        raise UsageError(f"redis_url says it all; leave out {', '.join(parts)}.")
    return url


def _url_of_parts(given: Mapping[str, Any]) -> str:
    host = given.get("redis_host")
    if not isinstance(host, str) or not host.strip():
        raise UsageError("redis_host must name the host of the Redis; was a variable not set?")
    password = given.get("redis_password")
    login = f":{_quoted(str(password))}@" if password else ""
    return f"redis://{login}{host}:{_number('redis_port', given, 6379)}/" + str(
        _number("redis_db", given, 0)
    )


def _number(name: str, given: Mapping[str, Any], default: int) -> int:
    value = given.get(name)
    text = str(default if value is None else value)  # from the environment it comes as text
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{name} must be a whole number, 0 or more, but is {value!r}.")
    return int(text)


def _quoted(text: str) -> str:
    """Percent-encoding (RFC 3986) of everything but ASCII letters and digits."""
    return "".join(
        chr(byte) if byte < 128 and chr(byte).isalnum() else f"%{byte:02X}"
        for byte in text.encode()
    )
