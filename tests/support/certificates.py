"""A certificate authority of one test: made with the `openssl` command, trusted by nobody else."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from pathlib import Path

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


@frozen(kw_only=True)
class Certificates:
    """An authority and the key pair it signed for 127.0.0.1 and localhost."""

    authority: Path
    """PEM file a client has to trust."""
    chain: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """TLS as a server with this certificate does it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


def make_certificates(folder: Path) -> Certificates:
    """Make both in `folder`; raises CalledProcessError with openssl's words in its output."""
    authority, authority_key = folder / "authority.pem", folder / "authority.key"
    chain, key = folder / "server.pem", folder / "server.key"
    _openssl(
        *("req", "-x509", *KEY, "-subj", "/CN=Authority of a test"),
        *("-addext", "keyUsage=critical,keyCertSign", "-keyout", authority_key, "-out", authority),
    )
    _openssl(
        *("req", "-x509", *KEY, "-subj", "/CN=localhost", "-addext", NAMES),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
        *("-CA", authority, "-CAkey", authority_key, "-keyout", key, "-out", chain),
    )
    return Certificates(authority=authority, chain=chain, key=key)


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=30)
