"""The conformance suite for a distribution of plugins: give it a fixture `distribution`."""

from __future__ import annotations

import inspect
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scillm.plugins.groups import GROUPS, HOOKS, PROVIDERS
from scillm.plugins.hooks import HOOK_NAMES
from scillm.plugins.registry import Registry, installed_offers
from scillm.testing.quiet import import_watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.plugins.registry import Offer

CORE = "scillm-core"
UPPER_BOUNDS = frozenset({"<", "<=", "==", "~="})
LOWER_BOUNDS = frozenset({">", ">=", "==", "~="})


class PluginConformance:
    """What every distribution of plugins promises to those who install it.

    Inherit, and give a fixture `distribution`, the installed distribution's name::

        class TestPlugin(PluginConformance):
            @pytest.fixture
            def distribution(self):
                return "scillm-mine"
    """

    @pytest.fixture
    def offers(self, distribution: str) -> Sequence[Offer]:
        """What the distribution offers, from its metadata."""
        name = canonicalize_name(distribution)
        found = [o for o in installed_offers() if canonicalize_name(o.distribution) == name]
        assert found, (
            f"{distribution} offers nothing. Name your class in pyproject.toml, for example "
            f'[project.entry-points."{PROVIDERS}"], and install again.'
        )
        return found

    def test_offers_only_in_groups_that_exist(self, distribution: str) -> None:
        """No entry point hides in a group that SciLLM never reads."""
        groups = {point.group for point in metadata.distribution(distribution).entry_points}
        ours = {name for name in groups if name.startswith("scillm.")}
        unknown = sorted(ours - set(GROUPS))

        assert not unknown, f"{', '.join(unknown)} is no group; the groups are {', '.join(GROUPS)}."

    def test_every_offer_loads(self, offers: Sequence[Offer]) -> None:
        """Every name loads, and what it names has the shape of its group."""
        rows = Registry(offers=offers).describe()

        assert [row for row in rows if row.status != "ok"] == []

    def test_names_are_its_own(self, offers: Sequence[Offer]) -> None:
        """No other installed distribution offers the same name in the same group."""
        own = {(offer.group, offer.name, offer.distribution) for offer in offers}
        others = {
            (other.group, other.name): other.distribution
            for other in installed_offers()
            if (other.group, other.name, other.distribution) not in own
        }
        clashes = [
            f"{offer.name!r} of {others[offer.group, offer.name]}"
            for offer in offers
            if (offer.group, offer.name) in others
        ]

        assert not clashes, f"These names are taken: {', '.join(clashes)}. Choose others."

    def test_providers_take_an_endpoint_and_a_host(self, offers: Sequence[Offer]) -> None:
        """Every provider is built from `(endpoint, host)`, by position."""
        providers = [offer for offer in offers if offer.group == PROVIDERS]
        wrong = [offer.name for offer in providers if not takes(offer.load(), 2)]

        assert not wrong, (
            f"A provider is built as factory(endpoint, host), but {', '.join(wrong)} cannot be."
        )

    def test_hooks_are_hooks_that_exist(self, offers: Sequence[Offer]) -> None:
        """A hook plugin implements at least one hook, and none that is never called."""
        for offer in offers:
            if offer.group != HOOKS:
                continue
            named = {name for name in dir(offer.load()) if name.startswith("scillm_")}

            assert named, f"{offer.name} has none of the hooks {', '.join(HOOK_NAMES)}."
            unknown = sorted(named - set(HOOK_NAMES))
            assert not unknown, f"{', '.join(unknown)}: the hooks are {', '.join(HOOK_NAMES)}."

    def test_importing_does_nothing_else(self, offers: Sequence[Offer]) -> None:
        """Importing the plugin warns of nothing, prints nothing, and leaves no trace.

        Watched in a fresh interpreter: environment, sockets, processes, threads, files written,
        the root logger's handlers, standard output. (Reading the environment cannot be watched.)
        """
        targets = sorted({module_of(offer) for offer in offers})
        seen = import_watched(targets)

        assert seen.failure == "", f"import {', '.join(targets)} failed:\n{seen.failure}"
        assert seen.acts == [], (
            f"Importing {', '.join(targets)} did more than define things: {'; '.join(seen.acts)}."
        )

    def test_depends_on_a_bounded_core(self, distribution: str) -> None:
        """The next incompatible core cannot be installed beside this plugin by accident."""
        if canonicalize_name(distribution) == CORE:
            pytest.skip("this is the core itself")
        wanted = [Requirement(line) for line in metadata.requires(distribution) or ()]
        cores = [
            r for r in wanted if canonicalize_name(r.name) == CORE and "extra" not in str(r.marker)
        ]
        operators = {specifier.operator for r in cores for specifier in r.specifier}

        assert cores, f'{distribution} must depend on {CORE}: dependencies = ["{CORE}>=0.1,<0.2"].'
        assert operators & UPPER_BOUNDS, f"{distribution} needs an upper bound: {CORE}>=0.1,<0.2."
        assert operators & LOWER_BOUNDS, f"{distribution} needs a lower bound: {CORE}>=0.1,<0.2."

    def test_ships_its_types(self, offers: Sequence[Offer]) -> None:
        """Each package carries the marker `py.typed`, so that type checkers read it (PEP 561)."""
        packages = {module_of(offer).partition(".")[0] for offer in offers}
        missing = [
            name
            for name in sorted(packages)
            if not any((Path(folder) / "py.typed").is_file() for folder in folders_of(name))
        ]

        assert not missing, f"Add an empty file py.typed to the package {', '.join(missing)}."

    def test_says_what_it_is(self, distribution: str) -> None:
        """The metadata names a licence, a one-line summary and the Python versions."""
        about = metadata.metadata(distribution)
        classifiers = about.get_all("Classifier") or []
        licensed = (
            about["License-Expression"]
            or about["License"]
            or any(line.startswith("License ::") for line in classifiers)
        )

        assert licensed, 'No licence: add license = "MIT" (or yours) to [project].'
        assert about["Summary"], 'No summary: add description = "…" to [project].'
        assert about["Requires-Python"], 'No versions: add requires-python = ">=3.10" to [project].'


def module_of(offer: Offer) -> str:
    """The module an entry point names, in `module:object`."""
    return offer.target.partition(":")[0].strip()


def takes(factory: object, count: int) -> bool:
    """Whether `factory` can be called with `count` positional arguments."""
    if not callable(factory):
        return False
    try:
        inspect.signature(factory).bind(*[None] * count)
    except TypeError:
        return False
    return True


def folders_of(package: str) -> Sequence[str]:
    """The folders of an importable package, without importing it; none for a lone module."""
    if package in sys.modules:
        return [str(folder) for folder in getattr(sys.modules[package], "__path__", ())]
    spec = find_spec(package)
    return list((spec.submodule_search_locations if spec else None) or ())
