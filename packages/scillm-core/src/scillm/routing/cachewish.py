"""What a call wants of the response cache. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from scillm.errors import UsageError


@frozen(kw_only=True)
class Wish:
    """What a call wants of the cache. `max_age_s` and `ttl_s` in seconds."""

    read: bool = True
    write: bool = True
    ttl_s: float | None = None
    max_age_s: float | None = None
    namespace: str | None = None


OFF = Wish(read=False, write=False)
NAMES = ("no-cache", "no-store", "ttl", "s-maxage", "namespace", "use-cache")


def read_wish(given: Mapping[str, Any]) -> Wish | None:
    """The wish in a call's `cache` and `caching`, LiteLLM's names; None when it has none."""
    caching, controls = given.get("caching"), given.get("cache")
    if caching is not None and not isinstance(caching, bool):
        raise UsageError(f"caching must be True or False, but is {caching!r}.")
    if controls is None:
        return None if caching is None else (Wish() if caching else OFF)
    if not isinstance(controls, Mapping) or set(controls) - set(NAMES):
        raise UsageError(f"cache must be an object of {', '.join(NAMES)}, but is {controls!r}.")
    for name in ("no-cache", "no-store", "use-cache"):
        if not isinstance(controls.get(name, False), bool):
            raise UsageError(f"cache[{name!r}] must be True or False.")
    namespace = controls.get("namespace")
    if namespace is not None and not isinstance(namespace, str):
        raise UsageError(f"cache['namespace'] must be text, but is {namespace!r}.")
    off = caching is False or controls.get("use-cache") is False
    return Wish(
        read=not (off or controls.get("no-cache", False)),
        write=not (off or controls.get("no-store", False)),
        ttl_s=_seconds("ttl", controls),
        max_age_s=_seconds("s-maxage", controls),
        namespace=namespace,
    )


def _seconds(name: str, controls: Mapping[str, Any]) -> float | None:
    value = controls.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise UsageError(f"cache[{name!r}] must be a number of seconds, but is {value!r}.")
    return float(value)
