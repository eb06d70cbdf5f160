"""Who may come in: the token, and, where there is none, only callers of this machine."""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm.errors import UsageError
from scillm.serve.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OPEN_PATHS = ("/healthz", "/ready")
"""What may be asked without the token: an orchestrator's questions, answered yes or no."""


def _usable(token: str | None) -> str | None:
    if token is not None and (not token.strip() or not token.isascii() or " " in token):
        raise UsageError(
            "The token of a server must be ASCII text without spaces, and not empty; pass None "
            "for a server without a token. (It is not shown here.)"
        )
    return token


@frozen(kw_only=True)
class Guard:
    """What a caller must bring.

    Without a token, calls from web pages are refused: a page may reach a server on loopback
    through the browser, also under a name of its own (DNS rebinding). `hosts` are further names
    in the Host header that are then allowed.
    """

    token: str | None = field(default=None, repr=False, converter=_usable)
    hosts: Sequence[str] = ()
    open_paths: Sequence[str] = OPEN_PATHS

    def refusal(self, path: str, headers: Mapping[str, str]) -> Problem | None:
        """Why this call may not come in, or None. Header names are lower case."""
        if self.token is None:
            return self._not_from_here(headers)
        if path in self.open_paths or self.knows(headers):
            return None
        return Problem(
            status=401,
            message="This server wants its token, as `Authorization: Bearer …` or `X-API-Key: …`; "
            "it is missing or wrong.",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )

    def knows(self, headers: Mapping[str, str]) -> bool:
        """Whether the caller brings the token; compared in constant time."""
        if self.token is None:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        brought = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return hmac.compare_digest(brought.encode("latin-1", "replace"), self.token.encode())

    def _not_from_here(self, headers: Mapping[str, str]) -> Problem | None:
        host = host_name(headers.get("host", ""))
        origin = headers.get("origin")
        if not (is_local(host) or host in self.hosts):
            wrong = f"for the host {host[:100]!r}"
        elif origin is not None and not is_local(host_name(origin.partition("://")[2])):
            wrong = "from a web page"
        else:
            return None
        return Problem(
            status=403,
            message=f"This server has no token, so it answers callers of this machine only; a call "
            f"{wrong} is refused. Start it with a token.",
            code="not_local",
        )


def refuse_open_host(host: str, *, token: str | None, variable: str = "") -> None:
    """Raise `UsageError` when other machines could reach a server that asks for nothing.

    `variable` is where the token of this server is set.
    """
    if token is None and not is_local(host):
        where = f" in {variable}" if variable else ""
        raise UsageError(
            f"Binding {host} lets other machines use this server, and it has no token. Give it "
            f"one{where} (a long random text), or bind 127.0.0.1."
        )


def host_name(authority: str) -> str:
    """The host in `host[:port]`, lower case, without brackets."""
    text = authority.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if ":" in text else text


def is_local(host: str) -> bool:
    """Whether a name or address is this machine's loopback, as written."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
