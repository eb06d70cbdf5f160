"""Which Transport the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scillm.errors import SettingsError
from scillm.http.proxies import ProxyRules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.protocols import Transport
    from scillm.records import Json

NAMES = ("httpx", "aiohttp")


def make_transport(settings: Mapping[str, Json]) -> Transport:
    """The transport that `transport` names (default: httpx), with its proxies and authorities.

    Raises `SettingsError` for an unknown name, and when the extra `aiohttp` is not installed.
    """
    name = str(settings.get("transport") or NAMES[0]).strip().lower()
    if name not in NAMES:
        raise SettingsError(
            f"The setting transport (SCILLM_TRANSPORT) must be {' or '.join(NAMES)}, but is "
            f"{name!r}."
        )
    proxies = ProxyRules(
        http=settings.get("http_proxy"),
        https=settings.get("https_proxy"),
        no_proxy=settings.get("no_proxy") or "",
    )
    connect_timeout_s = settings.get("connect_timeout_s", 10.0)
    ca_bundle = settings.get("ca_bundle")
    if name == "httpx":
        from scillm.http.transport import HttpxTransport

        return HttpxTransport(
            connect_timeout_s=connect_timeout_s, proxies=proxies, ca_bundle=ca_bundle
        )
    try:
        from scillm.http.aiohttp_transport import AiohttpTransport
    except ImportError as error:
        raise SettingsError(
            "The setting transport is aiohttp, but aiohttp cannot be imported: "
            f"{error}. Install it with: pip install 'scillm-core[aiohttp]'"
        ) from error
    return AiohttpTransport(
        connect_timeout_s=connect_timeout_s, proxies=proxies, ca_bundle=ca_bundle
    )
