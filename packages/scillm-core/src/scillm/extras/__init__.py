"""Helpers by name, forwarded to whichever installed plugin offers them (group `scillm.extras`)."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'scillm.extras' has no attribute {name!r}")
    from scillm.errors import PluginNotFoundError
    from scillm.plugins.groups import EXTRAS
    from scillm.routing.router import Router

    try:
        return Router().registry.get(EXTRAS, name)
    except PluginNotFoundError as error:
        raise AttributeError(error.message) from error
