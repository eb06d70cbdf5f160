"""Checked JSON through the Router: asked for by type or schema, with the fallback and repairs."""

from __future__ import annotations

import attrs
import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.routing.jsonmode import JsonMode, json_mode, with_setting
from support.faulty import CHAT_PATH, Json, completion_object

MESSAGES = [{"role": "user", "content": "a city"}]
SCHEMA = {
    "name": "city",
    "schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["name", "people"],
        "additionalProperties": False,
    },
}
GOOD = '{"name": "Ulm", "people": 126000}'


@attrs.frozen
class City:
    name: str
    people: int


def says(*texts):
    return [Json(completion_object(text)) for text in texts]


def ask(server, **more):
    return scillm.completion("openai/m", MESSAGES, api_base=server.base_url, **more)


def test_a_type_comes_back_as_its_instance(faulty_server):
    """`response_format=City` asks for City's schema and gives a City."""
    faulty_server.queue(CHAT_PATH, *says(GOOD))

    answer = ask(faulty_server, response_format=City)

    assert answer.additional_kwargs["scillm"]["parsed"] == City("Ulm", 126000)
    assert faulty_server.requests[0].json["response_format"]["type"] == "json_schema"
    assert answer.scillm_meta["provider"] == "openai"


def test_schema_first_falls_back_once(faulty_server):
    """A server that knows no schemas is asked once more for a JSON object."""
    refusal = Json({"error": {"message": "json_schema is not supported"}}, 400)
    faulty_server.queue(CHAT_PATH, refusal, *says(GOOD))

    answer = ask(faulty_server, response_mode="schema_first", json_schema=SCHEMA)

    kinds = [r.json["response_format"]["type"] for r in faulty_server.requests]
    assert kinds == ["json_schema", "json_object"]
    assert answer.additional_kwargs["scillm"]["parsed"]["name"] == "Ulm"
    for request in faulty_server.requests:
        assert not {"response_mode", "json_schema", "repair_rounds"} & set(request.json)


def test_a_repair_turn_shows_the_validators_words(faulty_server):
    """With repair_rounds the model sees what was wrong and answers again."""
    wrong = '{"name": "Ulm"}'
    faulty_server.queue(CHAT_PATH, *says(wrong, wrong, GOOD))

    answer = ask(faulty_server, response_format=City, repair_rounds=1)

    assert answer.additional_kwargs["scillm"]["parsed"].people == 126000
    assert "people" in str(faulty_server.requests[-1].json["messages"][-1]["content"])


def test_an_answer_that_never_fits_is_an_error(faulty_server):
    """A wrong value is worse than a refusal."""
    faulty_server.route(CHAT_PATH, Json(completion_object('{"name": 7}')))

    with pytest.raises(errors.SchemaError):
        ask(faulty_server, response_format=City)


def test_a_plain_response_format_is_never_refused_or_asked_again(faulty_server):
    """Without being asked for, no answer is refused and no second request is paid."""
    faulty_server.queue(CHAT_PATH, *says("no json"))

    answer = ask(faulty_server, response_format={"type": "json_object"})

    assert answer.text == "no json"
    assert answer.scillm_meta["json_valid"] is False
    assert len(faulty_server.requests) == 1


def test_a_schema_is_asked_for_once_more_as_json_object_and_then_refused(faulty_server):
    """An answer outside its schema is worth one more request, and never passes for fitting."""
    wanted = {"type": "json_schema", "json_schema": SCHEMA}
    faulty_server.queue(CHAT_PATH, *says("no json"), *says(GOOD), *says("no"), *says("json"))

    answer = ask(faulty_server, response_format=wanted)
    with pytest.raises(scillm.SchemaError) as caught:
        ask(faulty_server, response_format=wanted)

    assert answer.text == GOOD
    assert answer.scillm_meta["fallback_used"] is True
    assert answer.scillm_meta["schema_validation"] == "passed"
    assert len(caught.value.rounds) == 2
    asked = [request.json["response_format"]["type"] for request in faulty_server.requests]
    assert asked == ["json_schema", "json_object"] * 2


@pytest.mark.parametrize("more", [{"repair_rounds": 1}, {"response_format": City}])
def test_plain_mode_takes_what_comes_and_nothing_else(more):
    """Arguments that contradict each other are refused before anything is sent."""
    given = {"response_format": {"type": "json_object"}, "response_mode": "plain", **more}

    with pytest.raises(scillm.UsageError, match="takes what comes"):
        scillm.completion("echo/x", messages=[{"role": "user", "content": "x"}], **given)


@pytest.mark.parametrize(
    ("text", "valid", "verdict"),
    [
        (GOOD, True, "passed"),
        ('{"name": "Ulm"}', True, "failed"),
        (f"```\n{GOOD}\n```", False, "none"),
        ('{"name": 1, "name": 2}', False, "none"),
    ],
)
def test_every_json_answer_has_a_verdict(faulty_server, text, valid, verdict):
    """`scillm_meta`, and the place of the first SciLLM, say what a plain JSON answer is worth."""
    faulty_server.queue(CHAT_PATH, *says(text))

    wanted = {"type": "json_schema", "json_schema": SCHEMA}
    answer = ask(faulty_server, response_format=wanted, response_mode="plain")

    for meta in (answer.scillm_meta, answer.additional_kwargs["router"]):
        assert (meta["json_valid"], meta["schema_validation"]) == (valid, verdict)
        assert (meta["response_format_used"], meta["fallback_used"]) == ("json_schema", False)
    assert answer.text == text


@pytest.mark.parametrize(
    ("text", "shown", "valid"),
    [(f"Sure:\n```json\n{GOOD}\n```", GOOD, True), ("no json", "no json", False)],
)
def test_the_setting_alone_sanitizes_plain_json_answers(faulty_server, text, shown, valid):
    """SCILLM_JSON_SANITIZE=1 takes the JSON out of fences and prose, and invents nothing."""
    faulty_server.queue(CHAT_PATH, *says(text))

    with scillm.Router(settings={"json_sanitize": True, "timeout_s": 10.0}) as router:
        answer = router.completion(
            "openai/m", MESSAGES, api_base=faulty_server.base_url,
            response_format={"type": "json_object"},
        )  # fmt: skip

    assert answer.text == shown
    assert answer._hidden_params["json_valid"] is valid
    assert answer._hidden_params["json_sanitized"] is (text != shown)


def test_a_bare_schema_is_named(faulty_server):
    """`json_schema` may be a JSON Schema itself; servers get it with a name."""
    faulty_server.queue(CHAT_PATH, *says(GOOD))

    answer = ask(faulty_server, response_mode="schema_first", json_schema=SCHEMA["schema"])

    sent = faulty_server.requests[0].json["response_format"]["json_schema"]
    assert sent == {"name": "answer", "schema": SCHEMA["schema"]}
    assert answer.additional_kwargs["router"]["schema_validation"] == "passed"


@pytest.mark.parametrize(
    "arguments",
    [
        {"response_mode": "schema_first"},
        {"json_schema": SCHEMA},
        {"response_mode": "other", "json_schema": SCHEMA},
        {"response_mode": "schema_first", "json_schema": SCHEMA, "response_format": {}},
        {"repair_rounds": 2},
        {"response_format": {"type": "json_object"}, "auto_json_sanitize": "yes"},
        {"response_format": City, "repair_rounds": -1},
        {"response_format": City, "stream": True},
    ],
)
def test_contradictions_are_refused(faulty_server, arguments):
    """Nothing is sent when what is wanted is unclear."""
    with pytest.raises(errors.UsageError):
        ask(faulty_server, **arguments)

    assert faulty_server.requests == []


@given(st.sampled_from([None, True, False]), st.booleans())
def test_the_setting_speaks_where_the_call_is_silent(sanitize, setting):
    """SCILLM_JSON_SANITIZE is a default, not an override."""
    mode = JsonMode(response_format=City, sanitize=sanitize)

    found = with_setting(mode, {"json_sanitize": setting})

    assert found.sanitize == (True if setting and sanitize is None else sanitize)
    assert json_mode({"temperature": 0}) is None
