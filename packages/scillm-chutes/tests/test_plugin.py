"""The hook: names become ids of the known catalog, and what happened is stamped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from scillm import Router
from scillm.errors import AmbiguousModelError, SettingsError, UnknownModelError
from scillm.plugins.hooks import Hooks
from scillm.plugins.registry import Registry
from scillm_chutes import preflight_models
from scillm_chutes.market import detail_of
from scillm_chutes.settings import accounts_from, loaded, pins_from
from scillm_chutes.sites import site_of

if TYPE_CHECKING:
    from scillm_chutes.fake import FakeChutes

HELLO = [{"role": "user", "content": "Hello"}]


def test_requested_resolved_and_served_are_three_fields(fake: FakeChutes) -> None:
    """A name as a person writes it is resolved; all three ids are on the answer."""
    preflight_models()
    meta = Router().completion("chutes/birch v3.1", HELLO).scillm_meta

    assert meta["requested_model"] == "chutes/birch v3.1"
    assert meta["resolved_model"] == meta["served_model"] == "birch-ai/Birch-V3.1-TEE"


def test_only_smart_fills_in(fake: FakeChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strict refuses a name that leaves a neutral word out; smart takes it; off asks as it is."""
    preflight_models()
    with pytest.raises(UnknownModelError):
        Router().completion("chutes/dogwood k2 0905", HELLO)
    monkeypatch.setenv("SCILLM_CHUTES_RESOLVE", "smart")
    with pytest.raises(AmbiguousModelError):
        Router().completion("chutes/alder", HELLO)
    answer = Router().completion("chutes/dogwood k2 0905", HELLO)
    monkeypatch.setenv("SCILLM_CHUTES_RESOLVE", "maybe")
    with pytest.raises(SettingsError, match="strict, smart or off"):
        Router().completion("chutes/elm/Elm-8B", HELLO)

    assert answer.model == "dogwood/Dogwood-K2-Instruct-0905"
    assert len(fake.chats) == 1


def test_lists_and_suffixes_are_resolved_part_by_part(fake: FakeChutes) -> None:
    """The service's own lists stay lists, each id as the catalog has it."""
    preflight_models()
    Router().completion("chutes/elm-8b,alder-3-32b:latency", HELLO)

    assert fake.chats[0].body["model"] == "elm/Elm-8B,acme/Alder-3-32B:latency"


def test_without_a_catalog_names_go_as_they_are(fake: FakeChutes) -> None:
    """No hidden fetch: a plain call asks the model it was given, and nothing else leaves."""
    Router().completion("chutes/elm/Elm-8B", HELLO)

    assert [(seen.method, seen.path) for seen in fake.seen] == [("POST", "/v1/chat/completions")]


def test_the_doctor_says_whether_a_key_is_set(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The core's doctor asks nobody: it says where keys point, or how to set one."""
    check = next(c for c in Hooks(Registry()).checks() if c.name == "chutes key")
    monkeypatch.delenv("CHUTES_API_KEY")
    absent = next(c for c in Hooks(Registry()).checks() if c.name == "chutes key")

    assert (check.ok, absent.ok) == (True, None)
    assert fake.seen == []
    assert fake.key not in check.detail


def test_numbered_accounts_and_pins_are_read() -> None:
    """Numbered ones come first; a shared key or base stands in where a number has none."""
    settings = loaded(
        {
            "CHUTES_API_KEY": "k0",
            "CHUTES_API_KEY_2": "k2",
            "CHUTES_API_BASE_3": "http://three/v1",
            "CHUTES_TEXT_MODEL": "a",
            "CHUTES_TEXT_MODEL_2": "b",
            "CHUTES_TEXT_MODEL_ALT1": "c",
        }
    )
    accounts = accounts_from(settings)

    assert [(a.number, a.api_key) for a in accounts] == [(2, "k2"), (3, "k0"), (0, "k0")]
    assert accounts[1].api_base == "http://three/v1"
    assert pins_from(settings, "text", 2) == ("b", "c")
    assert pins_from(settings, "text", 3) == ("a", "c")
    assert "k2" not in repr(accounts)


def test_the_management_host_is_known_where_it_can_be() -> None:
    """chutes.ai has api.chutes.ai; an unknown host has none until it is set."""
    assert site_of("https://llm.chutes.ai/v1/").management == "https://api.chutes.ai"
    assert site_of("https://llm.chutes.ai").api_base == "https://llm.chutes.ai/v1"
    assert site_of("http://gateway/v1").management is None
    assert site_of("https://notchutes.ai/v1").management is None
    assert site_of("http://gateway/v1", "http://m/").management == "http://m"
    with pytest.raises(SettingsError, match="http"):
        site_of("llm.chutes.ai")


def test_a_service_that_repeats_the_key_does_not_spread_it() -> None:
    """What a host says goes into errors without the key, also where the text is cut."""
    key = "cpk_" + "a" * 32 + "." + "b" * 32 + "." + "C" * 32
    said = detail_of(json.dumps({"detail": f"{'x' * 150} no user has {key}"}).encode(), (key,))

    assert "no user has ***" in said
    assert "cpk_" not in said
