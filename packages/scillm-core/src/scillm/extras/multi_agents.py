"""Several models on one task, and judges: forwarded to the plugin that offers `multi_agents`."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'scillm.extras.multi_agents' has no attribute {name!r}")
    return getattr(_offered(), name)


def __dir__() -> list[str]:
    names: list[str] = list(_offered().__all__)
    return sorted(names)


def _offered() -> Any:
    from scillm.errors import PluginNotFoundError
    from scillm.extras import _registry
    from scillm.plugins.groups import EXTRAS

    try:
        return _registry().get(EXTRAS, "multi_agents")
    except PluginNotFoundError as error:
        raise AttributeError(error.message) from error
