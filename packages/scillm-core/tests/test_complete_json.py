"""Asking until an answer has the wanted structure, against a real server."""

from __future__ import annotations

import copy
import json
import pickle

import anyio
import attrs
import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import (
    BadRequestError,
    ContextWindowExceededError,
    InternalServerError,
    SchemaError,
    UnprocessableEntityError,
    UsageError,
)
from scillm.models import ChatMessage, Choice, Completion
from scillm.records import ChatRequest
from scillm.structured import complete_json
from scillm.structured.reading import sanitized
from scillm.structured.shaping import is_strict, repair_request, wanted_type
from support.faulty import CHAT_PATH, Json, completion_object, error_reply

MESSAGES = ({"role": "user", "content": "Name a fruit."},)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "price": {"type": "number"}},
    "required": ["name", "price"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "fruit", "schema": SCHEMA}}
GOOD = '{"name": "fig", "price": 1.50}'
BAD = '{"name": "fig", "price": "dear"}'
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@attrs.frozen
class Fruit:
    name: str
    price: float


def said(text, *, finish="stop", usage=USAGE, **message):
    """A reply of the server."""
    document = completion_object(text, finish_reason=finish, usage=usage)
    document["choices"][0]["message"].update(message)
    return Json(document)


class Asker:
    """`scillm.acompletion` on a test server, as `complete_json` wants it."""

    def __init__(self, server):
        self.server = server

    async def __call__(self, request):
        return await scillm.acompletion(
            f"openai/{request.model}",
            request.messages,
            api_base=self.server.base_url,
            api_key="sk-test",
            timeout=request.timeout_s,
            response_mode="plain",  # it is complete_json that checks
            **request.params,
        )

    def run(self, *replies, response_format=FORMAT, messages=MESSAGES, params=None, **options):
        """The answer of a call that gets these replies."""
        self.server.queue(CHAT_PATH, *replies)
        request = ChatRequest(
            model="m", messages=messages, params=params or {}, timeout_s=20, requested_model="m"
        )
        before = copy.deepcopy(request)

        async def asked():
            return await complete_json(self, request, response_format=response_format, **options)

        try:
            return anyio.run(asked)
        finally:
            assert request == before
            assert self.server.queued(CHAT_PATH) == 0

    @property
    def bodies(self):
        """What the server was asked."""
        return [request.json for request in self.server.requests]


@pytest.fixture
def asker(faulty_server):
    return Asker(faulty_server)


def test_the_schema_is_asked_for_first(asker):
    """One question is enough where the server knows schemas; the answer is stamped."""
    answer = asker.run(said(GOOD))
    meta = answer.scillm_meta

    assert asker.bodies[0]["response_format"] == FORMAT
    assert meta["parsed"] == {"name": "fig", "price": 1.5}
    assert answer.text == GOOD
    assert meta["schema_validation"] == "passed"
    assert meta["response_format_used"] == "json_schema"
    assert (meta["fallback_used"], meta["json_valid"], meta["json_sanitized"]) == (
        False, True, False,
    )  # fmt: skip
    assert meta["usage_total"] == USAGE
    assert meta["requested_model"] == "openai/m"


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_schemas_is_asked_for_any_object(asker, status):
    """The second question tells the schema in words, at the end of what the user said."""
    answer = asker.run(error_reply(status, "response_format not supported"), said(GOOD))
    first, second = asker.bodies
    meta = answer.scillm_meta

    assert second["response_format"] == {"type": "json_object"}
    assert second["messages"][0]["content"].startswith("Name a fruit.\n\n")
    assert json.dumps(SCHEMA) in second["messages"][0]["content"]
    assert first["messages"] == [*MESSAGES]
    assert (meta["fallback_used"], meta["response_format_used"]) == (True, "json_object")
    assert [entry["outcome"] for entry in meta["rounds"]] == [
        "BadRequestError" if status == 400 else "UnprocessableEntityError", "ok",
    ]  # fmt: skip
    assert meta["usage_total"] == USAGE


@pytest.mark.parametrize("text", [BAD, "", "Sorry.", "[1]", GOOD[:-1], f"{GOOD} {GOOD}"])
def test_an_answer_that_fails_is_asked_for_once_more_as_an_object(asker, text):
    """What the first answer cost is reported with it."""
    answer = asker.run(said(text), said(GOOD))
    meta = answer.scillm_meta

    assert meta["parsed"]["price"] == 1.5
    assert meta["usage_total"] == {name: 2 * count for name, count in USAGE.items()}
    assert [entry["text"] for entry in meta["rounds"]] == [text, GOOD]
    assert [entry["usage"] for entry in meta["rounds"]] == [USAGE, USAGE]


def test_a_repair_turn_shows_the_model_what_is_wrong(asker):
    """The model sees its answer and the validator's words, path included."""
    answer = asker.run(said(BAD), said(BAD), said(GOOD), repair_rounds=2)
    told = asker.bodies[2]["messages"]

    assert told[-2] == {"role": "assistant", "content": BAD}
    assert "at /price, 'dear' is not of type 'number'" in told[-1]["content"]
    assert asker.bodies[2]["response_format"] == {"type": "json_object"}
    assert [entry["kind"] for entry in answer.scillm_meta["rounds"]] == [
        "first", "fallback", "repair",
    ]  # fmt: skip


def test_when_no_answer_fits_nothing_is_lost(asker):
    """The error has the last path and text, and every round with its answer and usage."""
    with pytest.raises(SchemaError) as caught:
        asker.run(said("no"), said(BAD), said(BAD, usage=None), repair_rounds=1)
    error = caught.value

    assert (error.path, error.text) == ("/price", BAD)
    assert "after 3 rounds" in error.message
    assert [entry["outcome"] for entry in error.rounds] == ["no_document", "schema", "schema"]
    assert [entry["text"] for entry in error.rounds] == ["no", BAD, BAD]
    assert [entry["json_valid"] for entry in error.rounds] == [False, True, True]
    assert pickle.loads(pickle.dumps(error)).rounds == error.rounds


def test_an_error_later_on_keeps_the_rounds_before_it(asker):
    """An upstream that fails in the second round does not hide what the first one cost."""
    with pytest.raises(InternalServerError) as caught:
        asker.run(said(BAD), error_reply(500, "down"))

    assert [entry["outcome"] for entry in caught.value.rounds] == ["schema", "InternalServerError"]
    assert caught.value.rounds[0]["usage"] == USAGE


def test_a_request_that_is_refused_twice_shows_both_refusals(asker):
    """When the schema was not the trouble, the first refusal is the second's cause."""
    with pytest.raises(UnprocessableEntityError) as caught:
        asker.run(error_reply(400, "first words"), error_reply(422, "second words"))

    assert isinstance(caught.value.__cause__, BadRequestError)
    assert "first words" in str(caught.value.__cause__)
    assert len(caught.value.rounds) == 2


def test_what_another_format_cannot_help_is_raised_at_once(asker):
    """A prompt that is too long stays too long."""
    with pytest.raises(ContextWindowExceededError):
        asker.run(error_reply(400, "too long", code="context_length_exceeded"))


def test_a_refusal_of_the_model_ends_it(asker):
    """A model that refuses is not asked again; its words are in the error."""
    with pytest.raises(SchemaError, match="I must not") as caught:
        asker.run(said(None, refusal="I must not."), repair_rounds=3)

    assert caught.value.rounds[0]["outcome"] == "refusal"


def test_tool_calls_pass(asker):
    """A model that calls a tool has not answered yet."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = asker.run(said(None, finish="tool_calls", tool_calls=[call]))

    assert answer.choices[0].message.tool_calls[0].id == "c"
    assert "parsed" not in answer.scillm_meta
    assert answer.scillm_meta["schema_validation"] == "none"


def test_a_cut_answer_is_told_to_be_shorter(asker):
    """An answer that ran into its token limit says so in the repair turn."""
    asker.run(
        said('{"name": "f', finish="length"), said(GOOD),
        response_format={"type": "json_object"}, repair_rounds=1,
    )  # fmt: skip

    assert "token limit" in asker.bodies[1]["messages"][-1]["content"]


# -- what can be wanted ------------------------------------------------------------------------


def test_a_python_type_can_be_wanted(asker):
    """The answer arrives as an instance."""
    answer = asker.run(said(GOOD), response_format=Fruit)
    sent = asker.bodies[0]["response_format"]["json_schema"]

    assert answer.scillm_meta["parsed"] == Fruit("fig", 1.5)
    assert (sent["name"], sent["strict"]) == ("Fruit", True)
    assert sent["schema"]["properties"]["price"] == {"type": "number"}
    assert pickle.loads(pickle.dumps(answer)).scillm_meta["parsed"] == Fruit("fig", 1.5)


def test_a_list_can_be_wanted(asker):
    """Servers give objects only, so a list travels as the member of one."""
    answer = asker.run(said(f'{{"value": [{GOOD}]}}'), response_format=list[Fruit])

    assert asker.bodies[0]["response_format"]["json_schema"]["schema"]["type"] == "object"
    assert answer.scillm_meta["parsed"] == [Fruit("fig", 1.5)]


def test_any_object_can_be_wanted(asker):
    """json_object goes out as it is; there is nothing simpler to fall back to."""
    answer = asker.run(said('{"x": []}'), response_format={"type": "json_object"})

    assert asker.bodies[0]["messages"] == [*MESSAGES]
    assert answer.scillm_meta["parsed"] == {"x": []}
    assert answer.scillm_meta["schema_validation"] == "none"
    with pytest.raises(SchemaError, match="after 1 round"):
        asker.run(said("[1]"), response_format={"type": "json_object"})


def test_an_object_with_a_schema_is_checked(asker):
    """Servers that take `schema` inside json_object get it, and the answer is checked."""
    wanted = {"type": "json_object", "schema": SCHEMA}
    with pytest.raises(SchemaError) as caught:
        asker.run(said(BAD), response_format=wanted)

    assert asker.bodies[0]["response_format"] == wanted
    assert caught.value.path == "/price"


@pytest.mark.parametrize(
    "response_format",
    [
        {}, {"type": "text"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {}},
        {"type": "json_schema", "json_schema": {"schema": [1]}}, complex, "json",
        {"type": "json_schema", "json_schema": {"schema": {"type": "objekt"}}},
        {"type": "x" * 500},
    ],
)  # fmt: skip
def test_a_format_that_makes_no_sense_sends_nothing(asker, response_format):
    """A wrong schema costs nothing."""
    with pytest.raises(UsageError):
        asker.run(response_format=response_format)

    assert asker.bodies == []


@pytest.mark.parametrize(
    "options",
    [{"repair_rounds": -1}, {"repair_rounds": True}, {"repair_rounds": 1.5},
     {"params": {"n": 2}}, {"params": {"stream": True}}],
    ids=repr,
)  # fmt: skip
def test_calls_that_cannot_be_checked_send_nothing(asker, options):
    """Several answers or a stream are refused before anything is paid."""
    with pytest.raises(UsageError):
        asker.run(**options)

    assert asker.bodies == []


# -- cleaning ----------------------------------------------------------------------------------


def test_fences_are_taken_off_without_touching_the_json(asker):
    """The text becomes the JSON as the model wrote it; the round keeps the whole answer."""
    text = f"Here:\n```json\n{GOOD}\n```"
    answer = asker.run(said(text))

    assert answer.text == GOOD
    assert answer.scillm_meta["json_sanitized"] is True
    assert answer.scillm_meta["rounds"][0]["text"] == text


def test_notation_is_mended_only_on_request(asker):
    """sanitize=True lets json-repair try; by default broken JSON fails."""
    broken = "{'name': 'fig', 'price': 1.5,}"
    answer = asker.run(said(broken), sanitize=True)

    assert answer.text == '{"name": "fig", "price": 1.5}'
    with pytest.raises(SchemaError):
        asker.run(said(broken), said(broken))


def test_nothing_is_taken_off_when_told_so(asker):
    """sanitize=False wants JSON and nothing else."""
    fenced = f"```json\n{GOOD}\n```"
    with pytest.raises(SchemaError) as caught:
        asker.run(said(fenced), said(fenced), sanitize=False)

    assert [entry["outcome"] for entry in caught.value.rounds] == ["broken", "broken"]
    assert asker.run(said(f" {GOOD}\n"), sanitize=False).scillm_meta["json_valid"] is True


def reply_of(content):
    return Completion(choices=[Choice(message=ChatMessage(content=content)), Choice()])


def test_any_answer_can_be_sanitized():
    """JSON is taken out of its wrapping; what is JSON, or no trustworthy JSON, is left alone."""
    cleaned, changed = sanitized(reply_of("```json\n[1]\n```"))

    assert (cleaned.text, changed, len(cleaned.choices)) == ("[1]", True, 2)
    for text in ("[1]", "no json", '{"a": 1} {"b": 2}'):
        assert sanitized(reply_of(text)) == (reply_of(text), False)
    assert sanitized(Completion()) == (Completion(), False)


# -- shaping -----------------------------------------------------------------------------------

PARTS = [{"type": "text", "text": "look"}]


@pytest.mark.parametrize(
    ("messages", "last"),
    [
        ([], {"role": "user", "content": "{told}"}),
        ([{"role": "user", "content": "a"}], {"role": "user", "content": "a\n\n{told}"}),
        ([{"role": "assistant", "content": "a"}], {"role": "user", "content": "{told}"}),
        ([{"role": "user", "content": PARTS}],
         {"role": "user", "content": [*PARTS, {"type": "text", "text": "{told}"}]}),
    ],
)  # fmt: skip
def test_words_are_told_where_every_server_allows_them(messages, last):
    """They join the last user message, or make one; the caller's messages are not touched."""
    before = copy.deepcopy(messages)
    request = repair_request(ChatRequest(model="m", messages=messages), "  ", ["x"])
    told = "This answer cannot be used:\n- x\n"
    shape = json.dumps(request.messages[-1])
    wanted = json.dumps(last).partition("{told}")

    assert shape.startswith(wanted[0] + json.dumps(told)[1:-1])
    assert shape.endswith(wanted[2])
    assert messages == before


OBJECT = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (OBJECT, True),
        (SCHEMA, True),
        ({**SCHEMA, "required": ["name"]}, False),
        ({**SCHEMA, "additionalProperties": True}, False),
        ({"type": "object"}, False),
        ({}, False),
        (True, False),
        ({"type": "array"}, False),
        ({"type": "array", "items": OBJECT}, True),
        ({"type": "array", "items": {}}, False),
        ({"type": "array", "items": OBJECT, "uniqueItems": True}, False),
        ({"anyOf": [OBJECT, {"type": "null"}]}, True),
        ({"anyOf": [OBJECT, {"type": "object"}]}, False),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}, False),
    ],
)
def test_strict_is_asked_for_only_where_it_is_allowed(schema, strict):
    """OpenAI refuses `strict: true` with optional or open members."""
    assert is_strict(schema) is strict


@given(name=st.text(max_size=80))
def test_every_type_gets_a_name_servers_accept(name):
    """Letters, digits, _ and -, at most 64."""
    wanted = wanted_type(int, name, {"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}})
    described = wanted.first["json_schema"]

    assert described["name"].replace("_", "a").replace("-", "a").isalnum()
    assert len(described["name"]) <= 64
    assert described["schema"]["$defs"] == {"a": {"type": "integer"}}
    assert wanted.root == "object"


def test_an_array_schema_wants_an_array(asker):
    """A schema given outright decides the root; without a type any document will do."""
    wrapped = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}
    free = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1, 2]}}}

    assert asker.run(said("so [1]"), response_format=wrapped).scillm_meta["parsed"] == [1]
    assert asker.run(said("2"), response_format=free).scillm_meta["parsed"] == 2
