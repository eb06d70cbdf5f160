"""`completion(model="certainly", items=[…])`: one verdict per item, in the envelope users know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scillm import portal
from scillm.errors import APIConnectionError, EngineError, UnknownModelError, UsageError
from scillm.plugins.registry import Registry
from scillm.plugins.settings import load
from scillm.records import ChatRequest, Endpoint, Job
from scillm.testing import host_for
from scillm_certainly.engine import CertainlyEngine
from scillm_certainly.errors import QueueFullError
from scillm_certainly.provider import Certainly
from scillm_certainly.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.models import Completion
    from scillm.records import Json
    from scillm_certainly.records import CheckRequest, ProofVerdict

ITEMS = [
    {"id": "good", "code": "theorem t : 1 + 1 = 2 := rfl"},
    {"id": "bad", "code": "theorem t : 1 + 1 = 3 := rfl"},
    {"id": "gap", "text": "theorem t : 1 + 1 = 3 := sorry"},
    {"id": "words", "requirement_text": "The sum of two even numbers is even."},
    {"id": "other", "code": "theorem t : 1 = 1 := rfl", "reference": "theorem t : 2 = 2 := sorry"},
    "no item",
]


def provider(values: Mapping[str, Json], api_base: str | None = None) -> Certainly:
    endpoint = Endpoint(provider="certainly", api_base=api_base)
    return Certainly(endpoint, host_for(settings=values))


def ask(values: Mapping[str, Json], **params: Json) -> Completion:
    request = ChatRequest(model=params.pop("model", ""), params=params, timeout_s=120)
    return portal.call(provider(values).complete, request)


def test_every_item_gets_its_verdict(lean_values: Mapping[str, Json]) -> None:
    """Items keep their order and ids; a bad item fails alone; words in prose are never proved."""
    answer = ask(lean_values, items=ITEMS, options={"session_id": "s"})
    told = answer.additional_kwargs["certainly"]

    assert [row["item_id"] for row in told["results"]] == [
        "good", "bad", "gap", "words", "other", "item-6",
    ]  # fmt: skip
    assert [row["status"] for row in told["results"]] == [
        "proved", "rejected", "incomplete", "inconclusive", "mismatch", "inconclusive",
    ]  # fmt: skip
    assert told["summary"] == {"items": 6, "proved": 1, "failed": 3, "unproved": 2}
    assert told["statistics"] == {"successful_proofs": 1, "failed_proofs": 3, "unproved": 2}
    assert "needs formalisation" in told["results"][3]["reason"]
    assert told["results"] == told["proof_results"]
    assert answer.text == "Certainly: items=6, proved=1, failed=3, unproved=2"
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("both", [True, False])
def test_the_mirror_under_lean4_can_be_switched_off(
    lean_values: Mapping[str, Json], both: bool
) -> None:
    """`additional_kwargs["lean4"]` is the same, or absent, as the switch says."""
    values = {**lean_values, "certainly_attach_both": both}
    answer = ask(values, model="lean4", lean4_requirements=ITEMS[:1])

    assert ("lean4" in answer.additional_kwargs) == both
    if both:
        assert answer.additional_kwargs["lean4"] == answer.additional_kwargs["certainly"]


@pytest.mark.parametrize(
    ("params", "kind", "says"),
    [
        ({}, UsageError, "items"),
        ({"items": []}, UsageError, "items"),
        ({"items": ITEMS, "lean4_requirements": ITEMS}, UsageError, "give one"),
        ({"items": ITEMS, "temperature": 1}, UsageError, "temperature"),
        ({"items": ITEMS, "model": "gpt"}, UnknownModelError, "certainly"),
        ({"items": ITEMS, "seed": "x"}, UsageError, "seed"),
        ({"items": ITEMS, "max_seconds": -1}, UsageError, "max_seconds must be"),
        ({"items": ITEMS, "options": {"max_seconds": float("nan")}}, UsageError, "max_seconds"),
        ({"items": ITEMS, "heartbeats": float("nan")}, UsageError, "no JSON form"),
        ({"items": ITEMS, "flags": [], "options": {"flags": []}}, UsageError, "once"),
    ],
)
def test_a_request_that_is_none_is_refused(
    params: dict[str, Json], kind: type[Exception], says: str
) -> None:
    """The error names what is missing, unknown or doubled, before any Lean is started."""
    with pytest.raises(kind, match=says):
        ask(load({}, more=SETTINGS), **params)


@pytest.mark.parametrize("seconds", [-1, 0, "5"])
def test_a_time_that_is_none_is_never_read_as_no_limit(
    lean_values: Mapping[str, Json], seconds: Json
) -> None:
    """A job with a limit that makes no sense checks nothing, and each item says why."""
    job = Job(engine="certainly", items=ITEMS[:2], options={"max_seconds": seconds})
    result = portal.call(provider(lean_values).run, job)

    assert [row["limit"] for row in result.results] == ["malformed"] * 2
    assert all("max_seconds must be" in row["reason"] for row in result.results)


def test_a_base_that_nobody_listens_on_is_an_error(lean_values: Mapping[str, Json]) -> None:
    """With a bridge set, the work is done there or not at all; an argument beats the setting."""
    values = {**lean_values, "certainly_bridge_base": "http://127.0.0.1:1"}
    request = ChatRequest(model="certainly", params={"items": ITEMS[:1]}, timeout_s=20)
    for made in (provider(values), provider(lean_values, "http://127.0.0.1:1")):
        with pytest.raises((APIConnectionError, EngineError)):
            portal.call(made.complete, request)


def test_without_any_lean_everything_is_unavailable(tmp_path, monkeypatch) -> None:
    """A machine without Lean never says proved, and says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    values = load({"SCILLM_CERTAINLY_HOME": str(tmp_path)}, more=SETTINGS)
    told = ask(values, items=ITEMS[:2]).additional_kwargs["certainly"]

    assert [row["status"] for row in told["results"]] == ["unavailable", "unavailable"]
    assert "scillm certainly install" in told["results"][0]["reason"]


def test_both_names_lead_to_the_provider_and_the_verifier() -> None:
    """`certainly` and `lean4` are offered by name."""
    registry = Registry()

    assert registry.get("scillm.providers", "certainly") is Certainly
    assert registry.get("scillm.providers", "lean4") is Certainly
    assert registry.get("scillm.verifiers", "lean4").__name__ == "LeanVerifier"


class Reluctant:
    """A checker that is always full."""

    async def check(self, request: CheckRequest, /) -> ProofVerdict:
        raise QueueFullError("full", retry_after=3.0)


def test_a_full_pool_is_told_item_by_item() -> None:
    """An item that found no room is unavailable; the job goes on and reports each once."""
    events: list[object] = []
    engine = CertainlyEngine(Reluctant(), emit=events.append)
    job = Job(engine="certainly", items=ITEMS[:2])
    result = portal.call(engine.run, job)

    assert [row["limit"] for row in result.results] == ["busy", "busy"]
    assert len(events) == 2
    assert len(result.findings) == 2
