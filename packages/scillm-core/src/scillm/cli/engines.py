"""The engine of a stored job: the provider of its name, built by a Router and closed after use."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from scillm import portal
from scillm.cli.installation import prints_to_stderr, registry
from scillm.errors import PluginLoadError
from scillm.plugins.groups import HOOKS
from scillm.protocols import Closes, Engine
from scillm.records import Endpoint
from scillm.routing.router import Router

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scillm.events import Event


class Listener:
    """A hook plugin that passes events on to `told`."""

    def __init__(self, told: Callable[[Event], None]) -> None:
        self._told = told

    def scillm_event(self, event: Event) -> None:
        """Pass `event` on."""
        self._told(event)


@contextmanager
def engine_named(name: str, told: Callable[[Event], None]) -> Iterator[Engine]:
    """The engine called `name`, open within the context; `told` hears its events.

    What it prints goes to stderr. Raises `PluginError` when there is no such engine.
    """
    plugins = registry()
    plugins.register(HOOKS, "progress of this command", Listener(told))
    with prints_to_stderr(), Router(registry=plugins) as router:
        provider = router.provider(Endpoint(provider=name))
        try:
            if not isinstance(provider, Engine):
                raise PluginLoadError(
                    f"The run was made by the engine {name!r}, but the installed provider of that "
                    "name has no method run. Install the version that made the run; "
                    "`scillm runs show` names it."
                )
            yield provider
        finally:
            if isinstance(provider, Closes):
                portal.call(provider.aclose)
