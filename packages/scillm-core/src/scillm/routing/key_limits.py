"""What may be asked with one key: arguments of a Router over the settings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from attrs import frozen

from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json

SCOPES = ("deployment", "key")
"""What an upstream's refusals may be about."""
KEY_LIMITS = ("key_rpm", "key_tpm", "rate_limit_scope")
"""Arguments of a Router about what may be asked with one key."""


@frozen(kw_only=True)
class KeyLimits:
    """What may be asked with one key at one address. `rpm` and `tpm` are per minute."""

    rpm: float | None = None
    tpm: float | None = None
    key_rests: bool = False
    """Whether refusals and headers speak for the key, and not for the deployment alone."""


def key_limits(given: Mapping[str, Any], settings: Mapping[str, Json]) -> KeyLimits:
    """The limits in a Router's arguments, over those of the settings; `UsageError` for others."""
    scope = given.get("rate_limit_scope") or settings.get("rate_limit_scope", SCOPES[0])
    if scope not in SCOPES:
        raise UsageError(
            f"rate_limit_scope (SCILLM_RATE_LIMIT_SCOPE) must be {' or '.join(SCOPES)}, but is "
            f"{scope!r}."
        )
    return KeyLimits(
        rpm=_rate("key_rpm", given), tpm=_rate("key_tpm", given), key_rests=scope == "key"
    )


def _rate(name: str, given: Mapping[str, Any]) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < inf:
        raise UsageError(f"{name} must be a number above 0, but is {value!r}.")
    return float(value)
