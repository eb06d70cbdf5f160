"""Hooks: told to every plugin, isolated from each other (pluggy's door)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen

from scillm.errors import ScillmError, SettingsError
from scillm.plugins.core_settings import CORE_SETTINGS
from scillm.plugins.groups import HOOKS
from scillm.records import ChatRequest, Check, Endpoint, Json, Setting, evolve

if TYPE_CHECKING:
    import pluggy

    from scillm.events import Event
    from scillm.plugins.registry import Registry

log = logging.getLogger("scillm.hooks")

Record = TypeVar("Record")


class HookSpecs:
    """The five hooks. A plugin is a class, instance or module with functions of these names."""

    def scillm_event(self, event: Event) -> None:
        """Something happened. Broadcast; nothing comes back."""

    def scillm_resolve_model(self, model: str, endpoint: Endpoint) -> str | None:
        """The id to ask the upstream for, or None. The first that is not None wins."""

    def scillm_shape_request(self, request: ChatRequest) -> Mapping[str, Json] | None:
        """Parameters to add; only keys the caller left unset are taken."""

    def scillm_checks(self) -> Sequence[Check] | None:
        """Lines for `scillm doctor`."""

    def scillm_settings(self) -> Sequence[Setting] | None:
        """Settings of this plugin, for `scillm config` and `Host.settings`."""


@frozen(kw_only=True)
class HookFailure:
    """One hook implementation that raised."""

    plugin: str
    hook: str
    error: str


class Hooks:
    """Calls hook plugins one by one. Remembers who failed, in `failures`.

    A raising plugin never stops the others: its failure is logged once per plugin and hook and kept
    for `scillm doctor`. With `strict` it is raised instead.
    """

    def __init__(self, registry: Registry, *, strict: bool = False) -> None:
        self._registry = registry
        self._strict = strict
        self._manager: pluggy.PluginManager | None = None
        self._ready = False
        self._heard: dict[str, bool] = {}
        self.failures: list[HookFailure] = []

    def hears(self, hook: str) -> bool:
        """Whether any plugin implements `hook`; what nobody hears need not be said."""
        heard = self._heard.get(hook)
        if heard is None:
            manager = self._plugins()
            heard = manager is not None and bool(getattr(manager.hook, hook).get_hookimpls())
            self._heard[hook] = heard
        return heard

    def emit(self, event: Event) -> None:
        """Tell everyone."""
        for _ in self._each("scillm_event", event=event):
            pass

    def resolve_model(self, model: str, endpoint: Endpoint) -> str:
        """The id the upstream knows; `model` when no plugin answers.

        A plugin's `ScillmError` (an ambiguous name, say) is the caller's answer and is raised.
        """
        if not self.hears("scillm_resolve_model"):
            return model
        for found in self._each("scillm_resolve_model", model=model, endpoint=endpoint):
            if isinstance(found, str) and found:
                return found
        return model

    def shape_request(self, request: ChatRequest) -> ChatRequest:
        """`request` with the parameters plugins add where the caller set none."""
        if not self.hears("scillm_shape_request"):
            return request
        for added in self._each("scillm_shape_request", request=request):
            if isinstance(added, Mapping) and added:
                request = evolve(request, params={**added, **request.params})
        return request

    def checks(self) -> list[Check]:
        """Every plugin's checks, then one failing check per hook that raised."""
        checks = self._records("scillm_checks", Check)
        checks += [
            Check(
                name=f"hook {failure.hook} of {failure.plugin}",
                ok=False,
                detail=failure.error,
                fix=f"uninstall it, or set SCILLM_PLUGINS_DISABLE={failure.plugin}",
            )
            for failure in self.failures
        ]
        return checks

    def settings(self) -> list[Setting]:
        """Every plugin's settings; a plugin whose name for one is taken fails alone."""
        taken = {setting.name for setting in CORE_SETTINGS}

        def read(found: Any) -> list[Setting]:
            rows = records_of(Setting, found)
            doubles = sorted(taken & {row.name for row in rows})
            if doubles:
                raise SettingsError(
                    f"The settings {', '.join(doubles)} exist already; rename them."
                )
            taken.update(row.name for row in rows)
            return rows

        return [row for rows in self._each("scillm_settings", read=read) for row in rows]

    def _records(self, hook: str, kind: type[Record]) -> list[Record]:
        given = self._each(hook, read=partial(records_of, kind))
        return [record for records in given for record in records]

    def _each(
        self, hook: str, *, read: Callable[[Any], Any] | None = None, **arguments: Any
    ) -> Iterator[Any]:
        manager = self._plugins()
        if manager is None:
            return
        # pluggy itself stops at the first implementation that raises; see ADR 3.
        for implementation in reversed(getattr(manager.hook, hook).get_hookimpls()):
            chosen = [arguments[name] for name in implementation.argnames]
            try:
                found = implementation.function(*chosen)
                # Read in here: a generator raises only now, and a wrong type is the plugin's fault.
                yield found if read is None else read(found)
            except ScillmError as error:
                if hook == "scillm_resolve_model" or self._strict:
                    raise
                self._note(implementation.plugin_name, hook, error)
            except Exception as error:  # a stranger's code; one broken plugin breaks only itself
                if self._strict:
                    raise
                self._note(implementation.plugin_name, hook, error)

    def _note(self, plugin: str, hook: str, error: Exception) -> None:
        failure = HookFailure(plugin=plugin, hook=hook, error=f"{type(error).__name__}: {error}")
        if failure not in self.failures:
            self.failures.append(failure)
            log.warning("plugin %s failed in %s", plugin, hook, exc_info=error)

    def _plugins(self) -> pluggy.PluginManager | None:
        if not self._ready:
            self._ready = True
            names = self._registry.names(HOOKS)
            if names:
                self._manager = self._loaded(names)
        return self._manager

    def _loaded(self, names: Sequence[str]) -> pluggy.PluginManager:
        import pluggy

        manager = pluggy.PluginManager("scillm")
        mark_specs = pluggy.HookspecMarker("scillm")
        mark_impl = pluggy.HookimplMarker("scillm")
        for name in HOOK_NAMES:
            mark_specs(getattr(HookSpecs, name))
        manager.add_hookspecs(HookSpecs)
        for name in names:
            try:
                plugin = self._registry.get(HOOKS, name)
                instance = plugin() if isinstance(plugin, type) else plugin
                for hook in HOOK_NAMES:
                    function = getattr(instance, hook, None)
                    if function is not None:
                        mark_impl(getattr(function, "__func__", function))
                manager.register(instance, name)
                manager.check_pending()
            except Exception as error:  # a stranger's code; one broken plugin breaks only itself
                if self._strict:
                    raise
                self._note(name, "loading", error)
        return manager


def records_of(kind: type[Record], found: Any) -> list[Record]:
    """What a hook gave, as a list of `kind`; None is an empty one. Raises `TypeError`."""
    records: list[Any] = list(found or ())
    for record in records:
        if not isinstance(record, kind):
            raise TypeError(
                f"{kind.__name__} records were wanted, but a {type(record).__name__} came."
            )
    return records


HOOK_NAMES = (
    "scillm_event",
    "scillm_resolve_model",
    "scillm_shape_request",
    "scillm_checks",
    "scillm_settings",
)
