"""What an upstream account is called: its address and a hash of the key, never the key. Pure."""

from __future__ import annotations

import hashlib

from scillm.http.outcomes import shown


def key_name(api_key: str) -> str:
    """What a key is called in the book and in messages: a hash, never the key."""
    return f"key-{hashlib.sha256(api_key.encode()).hexdigest()[:16]}"


def account_name(provider: str, api_base: str | None, api_key: str | None) -> str:
    """What an upstream may count by: its address (else its provider) and a key's hash."""
    where = shown(api_base.rstrip("/")) if api_base else provider
    # An address may have a password of its own; it is hashed with the key.
    secret = (api_key or "") + (api_base if api_base and where != api_base.rstrip("/") else "")
    return f"{where} {key_name(secret)}" if secret else where
