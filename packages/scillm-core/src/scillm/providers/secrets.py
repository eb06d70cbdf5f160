"""Masking: what must never be shown is replaced before a text leaves the provider."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"
LOOKS_SECRET = re.compile(
    r"\b(?:sk|pk|key)-[A-Za-z0-9_\-]{8,}|\bcpk[_-][A-Za-z0-9_\-.]{8,}"
    r"|(?i:bearer)\s+[A-Za-z0-9_\-.=+/]{8,}"
)


def masked(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of `secrets` and without anything that looks like a key."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return LOOKS_SECRET.sub(MASK, text)
