"""TLS for clients: which authorities are trusted, and sessions taken up again."""

from __future__ import annotations

import ssl
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

from scillm.errors import SettingsError

MAX_HOSTS = 256
"""Hosts whose last session is remembered."""


class ResumingContext(ssl.SSLContext):
    """Verifies servers, and offers each the session of the last connection to it.

    Remembers one session per host name. Taking a session up again saves the exchange of
    certificates and its signatures; a server that does not want to makes a new one.
    """

    _last: OrderedDict[str, ssl.SSLObject]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """A connection's TLS; both event loops come through here."""
        key = str(server_hostname)
        if session is None:
            session = _session_of(self._last.get(key))
        wrapped = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        self._last.pop(key, None)  # so that it comes last
        self._last[key] = wrapped
        while len(self._last) > MAX_HOSTS:
            self._last.popitem(last=False)
        return wrapped


def _session_of(last: ssl.SSLObject | None) -> ssl.SSLSession | None:
    # Without a version the handshake was not completed: such a session vouches for nobody.
    if last is None or last.version() is None:
        return None
    session = last.session
    return session if session is not None and session.has_ticket else None


def client_context(ca_bundle: str | Path | None = None) -> ssl.SSLContext:
    """A context that trusts `ca_bundle` (a PEM file or a folder of hashed ones), else certifi's.

    Raises `SettingsError` when the bundle cannot be read. HTTP/2 is not offered.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context._last = OrderedDict()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if sys.version_info >= (3, 13):
        # What ssl.create_default_context does there; it cannot make a subclass.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    where = _locations(ca_bundle)
    try:
        context.load_verify_locations(**where)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"ca_bundle must be a PEM file or a folder of certificates, but {ca_bundle} cannot be "
            f"used: {error}."
        ) from error
    return context


def _locations(ca_bundle: str | Path | None) -> dict[str, Any]:
    if ca_bundle is None:
        import certifi

        return {"cafile": certifi.where()}
    path = Path(ca_bundle).expanduser()
    if not path.exists():
        raise SettingsError(
            f"ca_bundle must be a PEM file or a folder of certificates, but {path} does not exist."
        )
    return {"capath": str(path)} if path.is_dir() else {"cafile": str(path)}
