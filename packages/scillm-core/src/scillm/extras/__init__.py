"""Helpers by name, forwarded to whichever installed plugin offers them (group `scillm.extras`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scillm.plugins.registry import Registry


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'scillm.extras' has no attribute {name!r}")
    from scillm.errors import PluginNotFoundError
    from scillm.plugins.groups import EXTRAS

    try:
        return _registry().get(EXTRAS, name)
    except PluginNotFoundError as error:
        raise AttributeError(error.message) from error


def __dir__() -> list[str]:
    from scillm.plugins.groups import EXTRAS

    return sorted(_registry().names(EXTRAS))


def _registry() -> Registry:
    from scillm.plugins.registry import Registry
    from scillm.plugins.settings import left_out

    return Registry(disabled=left_out())
