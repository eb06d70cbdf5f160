"""Hooks: everyone is told, nobody can stop the others."""

from __future__ import annotations

import logging

import pytest
from scillm.errors import AmbiguousModelError
from scillm.events import TrialFinished
from scillm.plugins.groups import HOOKS
from scillm.plugins.hooks import HookFailure, Hooks
from scillm.plugins.registry import Registry
from scillm.records import ChatRequest, Check, Endpoint, Setting

EVENT = TrialFinished(number=0, arm="a", status="ok", score=1.0)
ENDPOINT = Endpoint(provider="p")


def hooks(strict=False, **plugins):
    registry = Registry(offers=[])
    for name, plugin in plugins.items():
        registry.register(HOOKS, name, plugin)
    return Hooks(registry, strict=strict)


class Listener:
    def __init__(self):
        self.heard = []

    def scillm_event(self, event):
        self.heard.append(event)


class Raising:
    def scillm_event(self, event):
        raise RuntimeError("boom")

    def scillm_resolve_model(self, model, endpoint):
        raise RuntimeError("boom")

    def scillm_checks(self):
        raise RuntimeError("boom")


def test_a_raising_plugin_stops_no_other_and_is_reported_once(caplog):
    """Raw pluggy stops at the first that raises; here the rest hear the event all the same."""
    first, last = Listener(), Listener()
    told = hooks(a=first, b=Raising(), c=last)

    with caplog.at_level(logging.WARNING, "scillm.hooks"):
        told.emit(EVENT)
        told.emit(EVENT)

    assert first.heard == last.heard == [EVENT, EVENT]
    assert told.failures == [
        HookFailure(plugin="b", hook="scillm_event", error="RuntimeError: boom")
    ]
    assert len(caplog.records) == 1
    assert any(check.ok is False and "b" in check.name for check in told.checks())


def test_strict_raises_what_a_plugin_raises():
    """Developers can have failures loud."""
    with pytest.raises(RuntimeError, match="boom"):
        hooks(strict=True, b=Raising()).emit(EVENT)


def test_a_plugin_that_cannot_be_loaded_stops_no_other():
    """A hook plugin with a wrong signature is reported; the others work."""

    class Wrong:
        def scillm_event(self, evnt):
            raise AssertionError

    good = Listener()
    told = hooks(a=Wrong(), b=good)

    told.emit(EVENT)

    assert good.heard == [EVENT]
    assert [failure.plugin for failure in told.failures] == ["a"]


def test_the_first_answer_resolves_a_model():
    """None means no opinion; the first text wins; without answers the model stays."""

    class Knows:
        def scillm_resolve_model(self, model):
            return {"near": "exact"}.get(model)

    told = hooks(b=Raising(), k=Knows())

    assert told.resolve_model("near", ENDPOINT) == "exact"
    assert told.resolve_model("other", ENDPOINT) == "other"
    assert hooks().resolve_model("m", ENDPOINT) == "m"


def test_an_ambiguous_model_is_the_callers_answer():
    """A resolver's refusal reaches the caller instead of being isolated."""

    class Refuses:
        def scillm_resolve_model(self, model):
            raise AmbiguousModelError("two", candidates=["a", "b"])

    with pytest.raises(AmbiguousModelError) as caught:
        hooks(r=Refuses()).resolve_model("m", ENDPOINT)

    assert caught.value.candidates == ("a", "b")


def test_shaping_fills_only_what_the_caller_left_unset():
    """A plugin cannot override the caller."""

    class Shapes:
        def scillm_shape_request(self, request):
            return {"temperature": 0, "seed": 7}

    request = ChatRequest(model="m", params={"temperature": 1})

    shaped = hooks(s=Shapes()).shape_request(request)

    assert shaped.params == {"temperature": 1, "seed": 7}
    assert request.params == {"temperature": 1}


def test_checks_and_settings_of_all_plugins_are_collected():
    """Classes are instantiated; what one plugin raises hides no other's rows."""

    class Informs:
        def scillm_checks(self):
            return [Check(name="c", ok=True)]

        def scillm_settings(self):
            return [Setting(name="s", env=("S",), doc="")]

    told = hooks(a=Raising(), i=Informs)

    assert [check.name for check in told.checks()] == ["c", "hook scillm_checks of a"]
    assert [row.name for row in told.settings()] == ["s"]


def test_a_plugin_cannot_redefine_a_setting_that_exists():
    """A secret of the core stays masked, whoever claims its name."""

    class Claims:
        def scillm_settings(self):
            return [Setting(name="openai_api_key", env=("X",), doc="")]

    told = hooks(c=Claims)

    assert told.settings() == []
    assert "openai_api_key exist already" in told.failures[0].error
