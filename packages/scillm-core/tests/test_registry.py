"""The registry: plugins by name, loaded at first use, broken ones alone."""

from __future__ import annotations

import pytest
from scillm.errors import PluginConflictError, PluginLoadError, PluginNotFoundError
from scillm.plugins.groups import GROUPS, HOOKS, PROVIDERS, STRATEGIES
from scillm.plugins.registry import Offer, Registry, installed_offers


class Good:
    async def complete(self, request, /):
        raise AssertionError


class Shapeless:
    pass


def offer(name, load, distribution="dist-a", group=PROVIDERS):
    return Offer(group=group, name=name, distribution=distribution, version="1.0", load=load)


def failing():
    raise ImportError("no such thing")


def test_names_are_listed_without_loading_anything():
    """Metadata is enough to list; loading happens at first use, once."""
    loads = []

    def load():
        loads.append(1)
        return Good

    registry = Registry(offers=[offer("b", load), offer("a", failing)])

    assert list(registry.names(PROVIDERS)) == ["a", "b"]
    assert loads == []
    assert registry.get(PROVIDERS, "b") is Good
    assert registry.get(PROVIDERS, "b") is Good
    assert loads == [1]


def test_a_broken_plugin_breaks_only_itself_and_only_at_use():
    """The others go on; the error names distribution and cause."""
    registry = Registry(offers=[offer("bad", failing), offer("good", lambda: Good)])

    with pytest.raises(PluginLoadError, match=r"'bad' of dist-a 1\.0 .*no such thing"):
        registry.get(PROVIDERS, "bad")
    assert registry.get(PROVIDERS, "good") is Good


def test_a_wrong_shape_names_the_missing_method():
    """A class without the method of its role is refused."""
    registry = Registry(
        offers=[offer("p", lambda: Shapeless), offer("s", lambda: Shapeless, group=STRATEGIES)]
    )

    with pytest.raises(PluginLoadError, match="no method complete"):
        registry.get(PROVIDERS, "p")
    with pytest.raises(PluginLoadError, match="no method ask, tell, report"):
        registry.get(STRATEGIES, "s")


def test_one_name_from_two_distributions_is_refused_naming_both():
    """Nobody wins by accident."""
    registry = Registry(offers=[offer("x", lambda: Good), offer("x", lambda: Good, "dist-b")])

    with pytest.raises(PluginConflictError, match=r"dist-a 1\.0 and dist-b 1\.0"):
        registry.get(PROVIDERS, "x")


def test_an_unknown_name_gets_near_names_or_the_list():
    """A typing mistake is answered with what was probably meant."""
    registry = Registry(offers=[offer("echo", lambda: Good)])

    with pytest.raises(PluginNotFoundError, match="Did you mean 'echo'"):
        registry.get(PROVIDERS, "ecko")
    with pytest.raises(PluginNotFoundError, match="Installed: echo"):
        registry.get(PROVIDERS, "zzz")
    with pytest.raises(PluginNotFoundError, match="the groups are"):
        registry.get("scillm.nothing", "x")


def test_disabled_plugins_are_left_out_by_name_or_distribution():
    """A switch takes a plugin away and says so when it is asked for."""
    offers = [offer("my-a", lambda: Good), offer("b", lambda: Good, "dist-b")]

    registry = Registry(offers=offers, disabled=["my_a", "dist_b"])

    assert list(registry.names(PROVIDERS)) == []
    with pytest.raises(PluginNotFoundError, match="switched off"):
        registry.get(PROVIDERS, "my-a")
    assert [row.status for row in registry.describe()] == ["disabled", "disabled"]


def test_registered_plugins_come_first_and_stay_in_their_registry():
    """Tests, notebooks and embedders can add plugins without installing them."""
    registry = Registry(offers=[offer("x", failing)])

    assert list(registry.names(PROVIDERS)) == ["x"]
    registry.register(PROVIDERS, "x", Good)
    registry.register(PROVIDERS, "z", Good)

    assert list(registry.names(PROVIDERS)) == ["x", "z"]
    assert registry.get(PROVIDERS, "x") is Good
    with pytest.raises(PluginLoadError):
        registry.register(PROVIDERS, "y", Shapeless)
    assert list(Registry(offers=[]).names(PROVIDERS)) == []


def test_describe_tells_every_status_and_never_raises():
    """The report on plugins survives all of them."""
    offers = [
        offer("ok", lambda: Good),
        offer("bad", failing),
        offer("two", lambda: Good),
        offer("two", lambda: Good, "dist-b"),
        offer("hook", lambda: Shapeless, group=HOOKS),
    ]

    rows = {(row.name, row.distribution): row for row in Registry(offers=offers).describe()}

    assert rows["ok", "dist-a"].status == "ok"
    assert rows["bad", "dist-a"].status == "failed"
    assert "no such thing" in rows["bad", "dist-a"].reason
    assert rows["two", "dist-a"].status == rows["two", "dist-b"].status == "conflict"
    assert rows["hook", "dist-a"].status == "ok"


def test_the_core_registers_itself_like_a_stranger():
    """Our own plugins come through entry points, in groups that exist."""
    found = {(o.group, o.name) for o in installed_offers() if o.distribution == "scillm-core"}

    assert {(PROVIDERS, "openai"), (PROVIDERS, "echo"), (STRATEGIES, "sweep")} <= found
    assert {group for group, _ in found} <= set(GROUPS)
    assert len(GROUPS) == 7
