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


def test_a_plain_response_format_is_passed_on_unchecked(faulty_server):
    """Without being asked for, nothing is checked and no second request is paid."""
    faulty_server.queue(CHAT_PATH, *says("no json"))

    answer = ask(faulty_server, response_format={"type": "json_object"})

    assert answer.text == "no json"
    assert len(faulty_server.requests) == 1


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
