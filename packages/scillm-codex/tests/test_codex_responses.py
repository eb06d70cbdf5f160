"""The Responses bridge's translation: requests in, events out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from scillm.errors import UnsupportedParamError
from scillm.http.wire import read_chunk
from scillm_codex.responses.events import Responding
from scillm_codex.responses.request import read_responses
from scillm_codex.responses.shapes import chunks_of, free_input

HEAD = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "instructions": None,
    "metadata": {},
    "temperature": None,
    "top_p": None,
}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def asked(**document: Any) -> Any:
    return read_responses({"model": "m", "input": "hi", **document}, timeout_s=5)


def responding(names: Any = None) -> Responding:
    numbers = itertools.count()
    return Responding(HEAD, names=names or {}, new_id=lambda prefix: f"{prefix}_{next(numbers)}")


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> Any:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return read_chunk({"id": "c", "choices": [choice], **more})


def test_instructions_and_developer_messages_become_one_system_message() -> None:
    """Chat templates that take a single system message take this request too."""
    items = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "b"}]},
        {"type": "message", "role": "user", "content": "hi"},
    ]

    request = asked(instructions="a", input=items).request

    assert list(request.messages) == [
        {"role": "system", "content": "a\n\nb"},
        {"role": "user", "content": "hi"},
    ]


def test_parallel_calls_stand_in_one_message_with_their_outputs_after() -> None:
    """Chat servers want the calls of one answer together."""
    items = [
        {"role": "user", "content": "go"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "b", "name": "apply_patch", "input": "*** x"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "2"},
    ]

    messages = asked(input=items).request.messages

    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["a", "b"]
    assert messages[1]["tool_calls"][1]["function"]["arguments"] == '{"input": "*** x"}'


NAMES = st.text(alphabet="abc_.-/ é", min_size=1, max_size=70)


@given(st.lists(st.tuples(st.none() | NAMES, NAMES), min_size=1, max_size=6, unique=True))
def test_every_tool_gets_a_name_of_its_own_that_leads_back(
    tools: list[tuple[str | None, str]],
) -> None:
    """Namespaces, long names and odd characters become plain names; none is mixed up."""
    given = [
        {"type": "function", "name": name, "parameters": {"type": "object"}}
        if space is None
        else {
            "type": "namespace",
            "name": space,
            "tools": [{"type": "function", "name": name, "parameters": {"type": "object"}}],
        }
        for space, name in tools
    ]

    found = asked(tools=given)

    offered = [tool["function"]["name"] for tool in found.request.params["tools"]]
    assert len(set(offered)) == len(tools)
    assert all(len(name) <= 64 and name.isascii() and " " not in name for name in offered)
    assert [(found.names[n].namespace, found.names[n].name) for n in offered] == tools


def test_tools_that_the_service_would_run_are_named_as_dropped() -> None:
    """Nobody here can search the web; the client is told."""
    found = asked(tools=[{"type": "web_search"}], input=[{"type": "reasoning"}, {"role": "user",
                  "content": "x"}])  # fmt: skip

    assert found.dropped == ("web_search", "reasoning")
    assert "tools" not in found.request.params


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"previous_response_id": "resp_0"}, "previous_response_id"),
        ({"model": ""}, "model"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"tools": [{"type": "function", "name": "f"}], "tool_choice": {"name": "g"}},
         "tool_choice"),
        ({"instructions": 3}, "instructions"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
         "input[0].content[0]"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0]"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": {}}]},
         "input[0]"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": 3}]},
         "input[0].output"),
        ({"tools": 3}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tools": [{"type": "namespace", "name": 3, "tools": [{"name": "f"}]}]}, "tools[0]"),
        ({"tools": [{"type": "function", "name": "f", "parameters": 3}]}, "tools[0]"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_names_the_field(document: dict[str, Any], param: str) -> None:
    """A request the bridge cannot carry out is refused with the field's name."""
    with pytest.raises(UnsupportedParamError) as caught:
        asked(**document)

    assert caught.value.param == param


CALL = st.fixed_dictionaries({"name": st.sampled_from(["f", "g"]), "parts": st.lists(st.text())})


@given(
    st.lists(st.text(min_size=1), max_size=4),
    st.lists(st.text(min_size=1), max_size=4),
    st.lists(CALL, max_size=3),
    st.sampled_from(["stop", "length", "tool_calls"]),
)
def test_the_events_of_any_answer_are_whole(
    thoughts: list[str], texts: list[str], calls: list[dict[str, Any]], reason: str
) -> None:
    """Numbers without a gap, every item opened once and closed once, deltas that join to it."""
    machine = responding()
    deltas: list[dict[str, Any]] = [{"reasoning_content": text} for text in thoughts]
    deltas += [{"content": text} for text in texts]
    for index, call in enumerate(calls):
        deltas.append({"tool_calls": [{"index": index, "id": f"c{index}", "type": "function",
                       "function": {"name": call["name"], "arguments": ""}}]})  # fmt: skip
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": part}}]}
            for part in call["parts"]
        ]

    events = machine.begin()
    for delta in deltas:
        events += machine.take(chunk(delta))
    events += machine.take(chunk({}, reason)) + machine.end()

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    added = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    done = [e for e in events if e["type"] == "response.output_item.done"]
    assert added == list(range(len(added)))
    assert sorted(event["output_index"] for event in done) == added
    last = events[-1]["response"]
    assert last["output"] == [e["item"] for e in sorted(done, key=lambda e: e["output_index"])]
    said = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert "".join(said) == "".join(texts)
    made = [item for item in last["output"] if item["type"] == "function_call"]
    assert [item["arguments"] for item in made] == ["".join(call["parts"]) for call in calls]
    assert last["status"] == ("incomplete" if reason == "length" else "completed")


def test_every_event_has_the_shape_of_openais_own() -> None:
    """The models of OpenAI's SDK take each event and the response, strictly."""
    machine = responding()
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    call = {"index": 0, "id": "c", "type": "function",
            "function": {"name": "f", "arguments": "{}"}}  # fmt: skip

    events = machine.begin()
    events += machine.take(chunk({"reasoning_content": "hm"}))
    events += machine.take(chunk({"content": "hello"}))
    events += machine.take(chunk({"tool_calls": [call]}, "tool_calls", usage=usage))
    events += machine.end()

    for event in events:
        EVENT.validate_python(event)
    response = Response.model_validate(events[-1]["response"])
    assert response.output_text == "hello"
    assert response.usage is not None
    assert response.usage.total_tokens == 3


def test_a_free_form_tool_gets_its_input_back() -> None:
    """`apply_patch` takes a text; the function around it is ours alone."""
    found = asked(tools=[{"type": "custom", "name": "apply_patch", "description": "Edit."}])
    machine = responding(found.names)
    call = {"index": 0, "id": "c", "type": "function",
            "function": {"name": "apply_patch", "arguments": '{"input": "*** Begin"}'}}  # fmt: skip

    machine.take(chunk({"tool_calls": [call]}, "tool_calls"))
    item = machine.end()[-1]["response"]["output"][0]

    assert (item["type"], item["input"]) == ("custom_tool_call", "*** Begin")


@given(st.text())
def test_the_input_of_a_free_form_tool_is_never_lost(text: str) -> None:
    """Arguments that are not the asked-for object go on as they are."""
    assert free_input(text) == text or text.strip().startswith("{")


def test_a_whole_answer_makes_the_same_response_as_its_chunks() -> None:
    """A model that does not stream gives the same items."""
    document = {
        "id": "c",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
        ],
    }
    whole, streamed = responding(), responding()

    for piece in chunks_of(document):
        whole.take(read_chunk(piece))
    streamed.take(chunk({"content": "x"}, "stop"))

    assert whole.end()[-1]["response"] == streamed.end()[-1]["response"]


KEYS = [
    "role", "content", "type", "text", "name", "tools", "call_id", "arguments", "output", "input",
    "image_url", "format", "effort", "parameters", "definition",
]  # fmt: skip
WORDS = [
    "message", "user", "function_call", "function_call_output", "custom_tool_call", "function",
    "namespace", "custom", "json_schema", "input_text", "additional_tools",
]  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=10,
)


def outcome(document: dict[str, Any]) -> str:
    """The model that is asked, or the name of what was refused."""
    try:
        return read_responses(document, timeout_s=1).request.model
    except UnsupportedParamError as error:
        return error.param


@given(
    st.dictionaries(
        st.sampled_from(
            ["input", "tools", "tool_choice", "text", "reasoning", "instructions", "stream"]
        ),
        JUNK,
    )
)
def test_whatever_comes_is_read_or_refused_by_name(document: dict[str, Any]) -> None:
    """Malformed JSON never breaks the bridge: it is a 400 that names the place."""
    assert outcome({"model": "m", **document})


def test_a_body_that_is_no_object_is_refused() -> None:
    """JSON alone is no request."""
    with pytest.raises(UnsupportedParamError, match="must be a JSON object"):
        read_responses([1], timeout_s=5)


def test_every_setting_finds_its_parameter() -> None:
    """Names of one API become those of the other; what was not given is not sent."""
    tools = [{"type": "function", "name": "f"}]
    request = asked(
        temperature=0,
        max_output_tokens=5,
        reasoning={"effort": "low"},
        parallel_tool_calls=False,
        tools=tools,
        tool_choice={"type": "function", "name": "f"},
        text={"format": {"type": "json_object"}},
    ).request
    schema = {"format": {"type": "json_schema", "name": "x", "schema": {}, "description": "d"}}

    params = dict(request.params)
    assert params.pop("tools")[0]["function"]["name"] == "f"
    assert params == {
        "temperature": 0,
        "max_tokens": 5,
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_object"},
    }
    assert asked(text=schema).request.params["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {}},
    }
    assert asked(tools=tools, tool_choice="required").request.params["tool_choice"] == "required"


def test_images_refusals_and_outputs_in_parts_are_read() -> None:
    """A question keeps its image; a tool's output is text, and says where an image was."""
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}
    plain = {"type": "input_image", "image_url": "https://example.org/x.png", "detail": "auto"}
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "see"}, picture, plain]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a",
         "output": [{"type": "input_text", "text": "x"}, picture]},
    ]  # fmt: skip

    user, said, output = asked(input=items).request.messages

    urls = [part.get("image_url") for part in user["content"]]
    assert urls[1] == {"url": "data:image/png;base64,AA", "detail": "low"}
    assert urls[2] == {"url": "https://example.org/x.png"}
    assert said["content"] == "no"
    assert [call["id"] for call in said["tool_calls"]] == ["a"]
    assert output["content"] == "x[an image, not shown to this model]"


def test_tools_in_an_item_are_offered_and_grammars_are_told() -> None:
    """Newer clients put tools among the input; a free-form tool's grammar is in its words."""
    grammar = {"type": "custom", "name": "g", "description": "d",
               "format": {"type": "grammar", "definition": "start: WORD"}}  # fmt: skip
    free = {"type": "custom", "name": "h", "format": {"type": "text"}}
    items = [{"type": "additional_tools", "tools": [grammar, free]}, {"role": "user",
             "content": "x"}]  # fmt: skip

    found = asked(input=items)

    functions = [tool["function"] for tool in found.request.params["tools"]]
    assert [function["name"] for function in functions] == ["g", "h"]
    assert functions[0]["description"].endswith("must follow this grammar:\nstart: WORD")
    assert len(found.request.messages) == 1


def test_a_namespaced_call_gets_its_namespace_back() -> None:
    """The client finds its tool again, and a second choice of the model is not shown."""
    tools = [{"type": "namespace", "name": "space", "tools": [{"type": "function", "name": "f"}]}]
    names = asked(tools=tools).names
    (plain,) = names
    machine = responding(names)
    call = {"index": 0, "id": "c", "function": {"name": plain, "arguments": "{}"}}
    nameless = {"index": 1, "id": "d", "function": {"arguments": "{}"}}
    machine.begin()
    machine.take(chunk({"tool_calls": [call, nameless]}))
    other = {"index": 1, "delta": {"content": "other"}, "finish_reason": "stop"}
    machine.take(read_chunk({"id": "c", "choices": [other]}))
    before = machine.finished
    machine.take(chunk({}, "tool_calls"))

    (item,) = machine.end()[-1]["response"]["output"]
    assert (item["namespace"], item["name"]) == ("space", "f")
    assert (before, machine.finished) == (False, True)


def test_an_answer_that_broke_off_is_failed() -> None:
    """The response says why, under a code."""
    machine = responding()
    machine.begin()

    (event,) = machine.fail("the model went away", "server_error")

    assert EVENT.validate_python(event).type == "response.failed"
    assert event["response"]["error"]["code"] == "server_error"


def test_a_whole_answer_with_calls_has_them_numbered() -> None:
    """The calls of a whole message are pieces with a place."""
    calls = [{"id": "a", "function": {"name": "f", "arguments": "{}"}}] * 2
    (found,) = chunks_of({"choices": [{"message": {"tool_calls": calls}}]})

    assert [call["index"] for call in found["choices"][0]["delta"]["tool_calls"]] == [0, 1]
