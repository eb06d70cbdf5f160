"""Which proxy a call goes through: the rules of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as in curl.

Source: curl(1), sections ENVIRONMENT and --noproxy. CIDR blocks in NO_PROXY are not understood.
"""

from __future__ import annotations

import re
from base64 import b64encode

from attrs import field, frozen

from scillm.errors import SettingsError

PROXY = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?:(?P<user>[^@/]*)@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[^@/:\s?#]+)(?::(?P<port>\d{1,5}))?/?",
    re.IGNORECASE,
)
ENTRY = re.compile(r"\*|(?P<host>\[[^\]]+\]|[^:\s]+|[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*)"
                   r"(?::(?P<port>\d+))?", re.IGNORECASE)  # fmt: skip
DEFAULT_PORT = 1080
"""Of a proxy that names none; curl's choice."""


@frozen(kw_only=True)
class Proxy:
    """An HTTP proxy. `authorization` is the whole header value, or None."""

    url: str
    authorization: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class ProxyRules:
    """Proxies by scheme of the target, and the hosts that are reached without any."""

    http: str | None = field(default=None, repr=False)
    https: str | None = field(default=None, repr=False)
    no_proxy: str = ""

    def proxy_for(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for a target, or None; `SettingsError` when the setting cannot be used."""
        given = self.https if scheme == "https" else self.http
        if not given or bypassed(host, port, self.no_proxy):
            return None
        return read_proxy(given, setting=f"{scheme}_proxy")


def bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names the target: `*`, a host, a domain (with or without dot), a port."""
    wanted = _bare(host)
    for text in re.split(r"[,\s]+", no_proxy.strip()):
        entry = ENTRY.fullmatch(text)
        if text == "*":
            return True
        if entry is None or (entry["port"] is not None and int(entry["port"]) != port):
            continue
        name = _bare(entry["host"]).removeprefix(".")
        if name and (wanted == name or wanted.endswith(f".{name}")):
            return True
    return False


def read_proxy(text: str, *, setting: str) -> Proxy:
    """The proxy that a setting names; user and password become a header and are never shown."""
    found = PROXY.fullmatch(text.strip())
    if found is None or int(found["port"] or DEFAULT_PORT) > 65535:
        raise SettingsError(
            f"{setting} must be http://host:port, perhaps with user:password@; what it is, is not "
            "shown, since it may hold a password."
        )
    scheme = (found["scheme"] or "http").lower()
    if scheme != "http":
        raise SettingsError(
            f"{setting} names a {scheme}:// proxy, but only http:// proxies are understood "
            "(https:// targets are tunnelled through them)."
        )
    authorization = None
    if found["user"] is not None:
        user, colon, password = found["user"].partition(":")
        pair = _unquoted(user) + b":" + (_unquoted(password) if colon else b"")
        authorization = "Basic " + b64encode(pair).decode("ascii")
    port = int(found["port"] or DEFAULT_PORT)
    return Proxy(url=f"http://{found['host']}:{port}", authorization=authorization)


def _bare(host: str) -> str:
    return host.lower().removeprefix("[").removesuffix("]").removesuffix(".")


def _unquoted(text: str) -> bytes:
    raw = text.encode()
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), raw)
