"""Where things are: the hosts beside an inference base, and every URL in use."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from attrs import frozen
from scillm.errors import SettingsError

OFFICIAL_BASE = "https://llm.chutes.ai/v1"
OFFICIAL_MANAGEMENT = "https://api.chutes.ai"
CHAT_HOSTS = {"llm.chutes.ai": "embed.chutes.ai"}
"""Hosts of chats, and the host beside each that makes vectors."""
EMBEDDING_CHUTES = "/chutes/?include_public=true&template=tei&limit=1000"
"""The public chutes that make vectors: `/v1/models` lists none of them."""


@frozen(kw_only=True)
class Site:
    """One inference base with the management host that goes with it, if one is known."""

    api_base: str
    management: str | None

    @property
    def embeds(self) -> bool:
        """Whether this is a base of vectors."""
        parts = urlsplit(self.api_base)
        return parts.hostname in CHAT_HOSTS.values() or parts.path.startswith("/_embed/")

    @property
    def catalog(self) -> str:
        """Where the models are listed, open to all."""
        if self.embeds:
            return self.at_management(EMBEDDING_CHUTES)
        return f"{self.api_base}/models"

    def at_management(self, path: str, *names: str) -> str:
        """A URL of the management host; `SettingsError` when no such host is known."""
        if self.management is None:
            raise SettingsError(
                f"The management host that goes with {self.api_base} is not known; set "
                "CHUTES_MANAGEMENT_BASE."
            )
        return self.management + path.format(*(quote(name, safe="") for name in names))


def site_of(api_base: str, management: str | None = None) -> Site:
    """The site of an inference base.

    The official hosts are known; a base under `/_llm/` or `/_embed/` (the fake) has its management
    at `/_api`.
    """
    base = api_base.strip().rstrip("/")
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SettingsError(f"CHUTES_API_BASE must be an http(s) URL, but is {api_base!r}.")
    if not parts.path:
        base += "/v1"
    found = management.strip().rstrip("/") if management else None
    host = (parts.hostname or "").lower()
    if found is None and (host == "chutes.ai" or host.endswith(".chutes.ai")):
        found = OFFICIAL_MANAGEMENT
    if found is None and parts.path.startswith(("/_llm", "/_embed")):
        found = f"{parts.scheme}://{parts.netloc}/_api"
    return Site(api_base=base, management=found)


def embedding_base(api_base: str) -> str:
    """The base for vectors beside a base for chats; a base of another service serves both."""
    parts = urlsplit(api_base.strip())
    path = re.sub("^/_llm(?=/|$)", "/_embed", parts.path)
    host = CHAT_HOSTS.get((parts.hostname or "").lower(), parts.netloc)
    return parts._replace(netloc=host, path=path).geturl()
