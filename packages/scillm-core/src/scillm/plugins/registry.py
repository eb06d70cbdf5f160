"""Plugins by name: listed from metadata, imported at first use, one broken plugin breaks itself."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from attrs import field, frozen

from scillm.errors import PluginConflictError, PluginLoadError, PluginNotFoundError
from scillm.plugins.groups import GROUPS, SIBLINGS, Group


@frozen(kw_only=True)
class Offer:
    """One name in one group, as its distribution's metadata declares it."""

    group: str
    name: str
    distribution: str
    version: str
    summary: str = ""
    target: str = ""
    load: Callable[[], object] = field(repr=False, eq=False)


@frozen(kw_only=True)
class PluginInfo:
    """One line of `scillm plugins`. `status` is ok, disabled, conflict or failed."""

    group: str
    name: str
    distribution: str
    version: str
    status: str
    reason: str = ""


def installed_offers(groups: Iterable[str] = GROUPS) -> list[Offer]:
    """What the installed distributions offer, from their metadata alone."""
    wanted = set(groups)
    offers: dict[tuple[str, str, str], Offer] = {}
    for dist in metadata.distributions():
        for point in dist.entry_points:
            if point.group not in wanted:
                continue
            name, version = dist.metadata["Name"], dist.version
            key = (point.group, point.name, name)
            # A distribution can be found twice on sys.path; the first one wins, as in import.
            offers.setdefault(
                key,
                Offer(
                    group=point.group,
                    name=point.name,
                    distribution=name,
                    version=version,
                    summary=dist.metadata["Summary"] or "",
                    target=point.value,
                    load=point.load,
                ),
            )
    return sorted(offers.values(), key=lambda offer: (offer.group, offer.name, offer.distribution))


class Registry:
    """Finds plugins by group and name. Remembers what it has read and loaded.

    `offers` defaults to the installed distributions, read once at first use. `disabled` holds
    names of plugins or distributions to leave out.
    """

    def __init__(
        self,
        *,
        offers: Iterable[Offer] | None = None,
        disabled: Iterable[str] = (),
    ) -> None:
        self._given = None if offers is None else tuple(offers)
        self._disabled = frozenset(disabled)
        self._registered: dict[tuple[str, str], Offer] = {}
        self._offers: dict[tuple[str, str], tuple[Offer, ...]] | None = None
        self._names: dict[str, tuple[str, ...]] = {}
        self._loaded: dict[tuple[str, str], object] = {}

    def names(self, group: str, /) -> Sequence[str]:
        """Usable names of a group in alphabetical order; nothing is imported."""
        known_group(group)
        found = self._names.get(group)
        if found is None:
            found = self._names[group] = tuple(
                sorted(
                    name
                    for (where, name), offers in self._table().items()
                    if where == group and not all(map(self._is_off, offers))
                )
            )
        return found

    def offers(self, group: str) -> Mapping[str, Offer]:
        """Usable offers of a group by name; nothing is imported. Conflicting names are left in."""
        table = self._table()
        return {
            name: next(offer for offer in table[group, name] if not self._is_off(offer))
            for name in self.names(group)
        }

    def get(self, group: str, name: str, /) -> Any:
        """The object behind a name, imported at first use.

        Raises `PluginNotFoundError` (with near names or the pip line), `PluginConflictError`
        (two distributions), `PluginLoadError` (import failed, or the shape is wrong).
        """
        described = known_group(group)
        key = (group, name)
        if key in self._loaded:
            return self._loaded[key]
        offers = self._table().get(key, ())
        if not offers:
            raise PluginNotFoundError(not_found_message(described, name, self.names(group)))
        usable = [offer for offer in offers if not self._is_off(offer)]
        if not usable:
            raise PluginNotFoundError(
                f"The {described.holds} {name!r} of {offers[0].distribution} is switched off by "
                "SCILLM_PLUGINS_DISABLE or SCILLM_ENABLE_…=0; remove that switch to use it."
            )
        if len(usable) > 1:
            raise PluginConflictError(conflict_message(described, usable))
        loaded = load_offer(usable[0], described)
        self._loaded[key] = loaded
        return loaded

    def register(self, group: str, name: str, plugin: object) -> None:
        """Offer `plugin` under `name` in this registry only, before any installed one."""
        described = known_group(group)
        offer = Offer(
            group=group, name=name, distribution="(registered)", version="", load=lambda: plugin
        )
        loaded = load_offer(offer, described)
        self._registered[group, name] = offer
        self._loaded[group, name] = loaded
        self._names.pop(group, None)
        if self._offers is not None:
            self._offers[group, name] = (offer,)

    def describe(self) -> Sequence[PluginInfo]:
        """Every plugin with its status; loads each one and never raises."""
        return [self._describe_one(offer) for offers in self._table().values() for offer in offers]

    def _describe_one(self, offer: Offer) -> PluginInfo:
        status, reason = "ok", ""
        if self._is_off(offer):
            status, reason = (
                "disabled",
                "switched off by SCILLM_PLUGINS_DISABLE or SCILLM_ENABLE_…=0",
            )
        else:
            try:
                self.get(offer.group, offer.name)
            except PluginConflictError as error:
                status, reason = "conflict", error.message
            except Exception as error:  # a report on broken plugins must survive them
                status, reason = "failed", str(error)
        return PluginInfo(
            group=offer.group,
            name=offer.name,
            distribution=offer.distribution,
            version=offer.version,
            status=status,
            reason=reason,
        )

    def _table(self) -> dict[tuple[str, str], tuple[Offer, ...]]:
        if self._offers is None:
            found = installed_offers() if self._given is None else self._given
            table: dict[tuple[str, str], tuple[Offer, ...]] = {}
            for offer in found:
                key = (offer.group, offer.name)
                table[key] = (*table.get(key, ()), offer)
            table.update({key: (offer,) for key, offer in self._registered.items()})
            self._offers = table
        return self._offers

    def _is_off(self, offer: Offer) -> bool:
        return any(
            switch_name(label) in self._disabled for label in (offer.name, offer.distribution)
        )


def switch_name(label: str) -> str:
    """The form in which switches compare names: `codex-agent` is `codex_agent`."""
    return label.lower().replace("-", "_")


def known_group(group: str) -> Group:
    """The description of a group; `PluginNotFoundError` names the seven that exist."""
    if group not in GROUPS:
        raise PluginNotFoundError(
            f"There is no entry-point group {group!r}; the groups are {', '.join(GROUPS)}."
        )
    return GROUPS[group]


def not_found_message(group: Group, name: str, names: Sequence[str]) -> str:
    """What to say when a name is not there: the pip line for our own, near names otherwise."""
    said = f"No installed {group.holds} is called {name!r}."
    if name in SIBLINGS:
        return f"{said} {sibling_hint(SIBLINGS[name])}"
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return f"{said} Did you mean {' or '.join(repr(n) for n in near)}?"
    return f"{said} Installed: {', '.join(names) or 'none'}."


def sibling_hint(distribution: str) -> str:
    """The pip line for one of our own packages, or that its installed version lacks the name."""
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return f"It comes with {distribution}: pip install {distribution}"
    return f"{distribution} {version} is installed, but this version does not offer it."


def conflict_message(group: Group, offers: Sequence[Offer]) -> str:
    """Names both distributions and says what to do."""
    sources = " and ".join(f"{offer.distribution} {offer.version}".strip() for offer in offers)
    return (
        f"The {group.holds} {offers[0].name!r} is offered by {sources}; "
        "uninstall one of them, or switch one off with SCILLM_PLUGINS_DISABLE=<distribution>."
    )


def load_offer(offer: Offer, group: Group) -> object:
    """Import what an offer names and check its shape; `PluginLoadError` says what is wrong."""
    whose = f"The {group.holds} {offer.name!r} of {offer.distribution} {offer.version}".rstrip()
    try:
        loaded = offer.load()
    except Exception as error:
        raise PluginLoadError(
            f"{whose} cannot be imported: {type(error).__name__}: {error}. "
            f"Update it, or leave it out with SCILLM_PLUGINS_DISABLE={offer.distribution}."
        ) from error
    # Only classes and ready instances can be looked into; a function is a factory.
    if group.methods and (isinstance(loaded, type) or not callable(loaded)):
        missing = [
            method for method in group.methods if not callable(getattr(loaded, method, None))
        ]
        if missing:
            raise PluginLoadError(f"{whose} has no method {', '.join(missing)}.")
    return loaded
