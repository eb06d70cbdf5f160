"""A chat request as what Codex is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UnsupportedParamError
from scillm.records import ChatRequest
from scillm_codex.modelnames import bare_model, is_for_codex
from scillm_codex.sidecar.history import INPUT_CHARS
from scillm_codex.sidecar.lines import Lines
from scillm_codex.sidecar.plan import PLAIN, Place, plan_of
from scillm_codex.sidecar.stops import Stops

CHAT = Place(profile="chat", home=Path("/srv/codex"), cwd=Path("/srv/work"))
AGENT = Place(
    profile="agent",
    home=Path("/srv/codex"),
    cwd=Path("/srv/work"),
    allowed=(Path("/srv/projects"),),
)
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
PNG = "data:image/png;base64,AAAA"


def request(*messages: dict[str, Any], **params: Any) -> ChatRequest:
    return ChatRequest(model="gpt-6-sol", messages=messages or (USER,), params=params)


def test_a_question_becomes_a_turn_and_instructions_become_the_base() -> None:
    """A system message replaces Codex's own prompt in the chat profile."""
    plan = plan_of(request({"role": "system", "content": "Be brief."}, USER), CHAT)

    assert plan.thread["baseInstructions"] == "Be brief."
    assert plan.turn["input"] == [{"type": "text", "text": "hi"}]
    assert not plan.history


def test_without_instructions_codexs_own_prompt_is_still_replaced() -> None:
    """A plain chat never carries the coding prompt of 17 kB."""
    assert plan_of(request(), CHAT).thread["baseInstructions"] == PLAIN


def test_the_agent_keeps_codexs_prompt_and_gets_a_locked_permission_profile() -> None:
    """In the agent profile instructions are added, and commands run in our sandbox."""
    plan = plan_of(request({"role": "developer", "content": "Be brief."}, USER), AGENT)

    assert plan.thread["developerInstructions"] == "Be brief."
    assert "baseInstructions" not in plan.thread
    assert plan.thread["permissions"] == "locked_read"


def test_history_is_injected_and_a_late_system_message_becomes_developers() -> None:
    """Nothing of a history is lost: Codex drops `system` there, so it goes as `developer`."""
    plan = plan_of(
        request(
            USER,
            {"role": "assistant", "content": "hello"},
            {"role": "system", "content": "now in French"},
            {"role": "user", "content": "again"},
        ),
        CHAT,
    )

    assert [item["role"] for item in plan.history] == ["user", "assistant", "developer"]
    assert plan.turn["input"] == [{"type": "text", "text": "again"}]


def test_after_tool_messages_the_turn_has_no_input_of_its_own() -> None:
    """The tool loop needs no memory in the sidecar: calls and results are injected."""
    plan = plan_of(
        request(
            USER,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "42"},
            tools=[TOOL],
        ),
        CHAT,
    )

    assert [item["type"] for item in plan.history] == [
        "message",
        "function_call",
        "function_call_output",
    ]
    assert plan.turn["input"] == []
    assert plan.thread["dynamicTools"][0]["name"] == "add"


def test_a_text_longer_than_a_turn_may_be_is_injected() -> None:
    """Codex refuses a longer input of a turn; the question reaches the model all the same."""
    plan = plan_of(request({"role": "user", "content": "x" * (INPUT_CHARS + 1)}), CHAT)

    assert plan.turn["input"] == []
    assert len(plan.history[0]["content"][0]["text"]) == INPUT_CHARS + 1


def test_images_go_along() -> None:
    """An image in the question is an image for Codex."""
    parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": PNG}}]

    plan = plan_of(request({"role": "user", "content": parts}), CHAT)

    assert plan.turn["input"][1] == {"type": "image", "url": PNG}


@pytest.mark.parametrize(
    ("params", "effort"),
    [
        ({"reasoning_effort": "high"}, "high"),
        ({"reasoning": {"effort": "low"}}, "low"),
        ({}, None),
    ],
)
def test_the_effort_is_taken_in_both_forms(params: dict[str, Any], effort: str | None) -> None:
    """`reasoning_effort` and `reasoning.effort` mean the same."""
    assert plan_of(request(**params), CHAT).turn.get("effort") == effort


def test_what_codex_cannot_take_is_named() -> None:
    """Nothing is dropped silently: ignored parameters are listed."""
    plan = plan_of(request(temperature=0, max_tokens=5, seed=1, n=2), CHAT)

    assert plan.ignored == ["max_tokens", "seed", "temperature"]


def test_strict_params_refuses_what_codex_cannot_take() -> None:
    """With strict_params an ignored parameter is an error that names it."""
    with pytest.raises(UnsupportedParamError) as caught:
        plan_of(request(temperature=0, strict_params=True), CHAT)

    assert caught.value.param == "temperature"


def test_tool_choice_none_offers_no_tool() -> None:
    """A client that forbids tools gets none."""
    assert "dynamicTools" not in plan_of(request(tools=[TOOL], tool_choice="none"), CHAT).thread


def test_a_named_tool_is_the_only_one_offered() -> None:
    """Naming a tool leaves the model no other."""
    other = {"type": "function", "function": {"name": "other"}}
    choice = {"type": "function", "function": {"name": "other"}}

    plan = plan_of(request(tools=[TOOL, other], tool_choice=choice), CHAT)

    assert plan.tools == {"other"}


def test_a_call_of_some_tool_is_asked_for_in_words() -> None:
    """`required` is told to the model; Codex has no such setting."""
    plan = plan_of(request(tools=[TOOL], tool_choice="required"), CHAT)

    assert "Call one of the tools" in plan.thread["baseInstructions"]
    assert plan.tools


def test_plain_text_is_no_shape() -> None:
    """`response_format` of the type text is what there is anyway."""
    assert not plan_of(request(response_format={"type": "text"}), CHAT).checked


def test_what_an_assistant_said_in_parts_or_refused_is_kept() -> None:
    """Text parts are joined; a refusal is what was said."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    plan = plan_of(
        request(
            USER,
            {"role": "assistant", "content": parts},
            USER,
            {"role": "assistant", "content": None, "refusal": "I will not."},
            USER,
        ),
        CHAT,
    )

    said = [item["content"][0]["text"] for item in plan.history if item["role"] == "assistant"]
    assert said == ["ab", "I will not."]


@pytest.mark.parametrize(
    ("model", "bare", "ours"),
    [
        ("gpt-5", "gpt-5", True),
        ("codex-agent/gpt-5", "gpt-5", True),
        ("code-agent/gpt-5", "gpt-5", True),
        ("code_agent/gpt-5", "gpt-5", True),
        ("codex/gpt-5", "gpt-5", False),
        ("openai/gpt-5", "openai/gpt-5", False),
        ("codex-agent/", "codex-agent/", True),
    ],
)
def test_a_models_name_is_freed_of_our_prefixes(model: str, bare: str, *, ours: bool) -> None:
    """What is left is the id Codex knows; ids without a provider are the sidecar's."""
    assert (bare_model(model), is_for_codex(model)) == (bare, ours)


ORPHAN = {"role": "tool", "tool_call_id": "call_9", "content": "42"}
OPEN = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (request({"role": "system", "content": "x"}), "messages"),
        (request(USER, ORPHAN), "messages[1].tool_call_id"),
        (request(USER, OPEN, USER), "messages"),
        (request({"role": "function", "content": "x"}), "messages[0].role"),
        (request({"role": "user", "content": [{"type": "input_audio"}]}), "messages[0].content[0]"),
        (request({"role": "user", "content": 7}), "messages[0].content"),
        (request(n=0), "n"),
        (request(n=True), "n"),
        (request(stop=[""]), "stop"),
        (request(tools=[{"type": "function"}]), "tools[0]"),
        (request(tools=[TOOL], tool_choice="sometimes"), "tool_choice"),
        (request(response_format={"type": "xml"}), "response_format"),
        (request(reasoning_effort=3), "reasoning_effort"),
        (request(tools={"type": "function"}), "tools"),
        (
            request(tools=[{"type": "function", "function": {"name": "f", "parameters": [1]}}]),
            "tools[0]",
        ),
        (
            request(response_format={"type": "json_schema", "json_schema": {"schema": 1}}),
            "response_format",
        ),
        (request(response_format={"type": "json_schema", "json_schema": 1}), "response_format"),
        (request(USER, {"role": "assistant", "tool_calls": 3}), "messages[1].tool_calls"),
        (
            request(USER, {"role": "assistant", "tool_calls": [{"id": 1}]}),
            "messages[1].tool_calls[0]",
        ),
        (request(USER, {"role": "assistant", "refusal": 3}), "messages[1].refusal"),
        (
            request(USER, {"role": "assistant", "content": [{"type": "image"}]}),
            "messages[1].content[0]",
        ),
        (
            request({"role": "user", "content": [{"type": "image_url", "image_url": "file:///x"}]}),
            "messages[0].content[0]",
        ),
        (request(codex={"cwd": "/srv/work"}), "codex"),
    ],
)
def test_what_cannot_be_done_names_the_parameter(asked: ChatRequest, param: str) -> None:
    """A request that cannot be carried out is refused before Codex hears of it."""
    with pytest.raises(UnsupportedParamError) as caught:
        plan_of(asked, CHAT)

    assert caught.value.param == param


@pytest.mark.parametrize("cwd", ["/etc", "/srv/projects/../secret", "srv/projects", "/srv", 7])
def test_a_request_cannot_leave_the_folders_it_may_work_in(cwd: Any) -> None:
    """`codex.cwd` outside of the allowed folders is refused, however it is written."""
    with pytest.raises(UnsupportedParamError) as caught:
        plan_of(request(codex={"cwd": cwd}), AGENT)

    assert caught.value.param == "codex.cwd"


def test_a_request_may_choose_a_folder_below_an_allowed_one() -> None:
    """`--allow-cwd` opens a folder and what is below it."""
    plan = plan_of(request(codex={"cwd": "/srv/projects/a"}), AGENT)

    assert plan.thread["cwd"] == "/srv/projects/a"


def test_a_request_cannot_give_itself_more_than_the_sidecar_was_given() -> None:
    """A sidecar started for reading only stays so."""
    with pytest.raises(UnsupportedParamError) as caught:
        plan_of(request(codex={"sandbox": "workspace-write"}), AGENT)

    assert caught.value.param == "codex.sandbox"


PIECES = st.lists(st.text(alphabet="abX\n", max_size=6), max_size=12)


@given(PIECES, st.lists(st.text(alphabet="abX", min_size=1, max_size=4), max_size=3))
def test_a_stop_text_cuts_the_same_place_however_the_text_arrives(
    pieces: list[str], stops: list[str]
) -> None:
    """What is shown is the text before the first stop text, and all of it without one."""
    cut = Stops(stops)

    shown = "".join(cut.feed(piece) for piece in pieces)
    shown += "" if cut.hit else cut.rest()

    whole = "".join(pieces)
    places = [whole.find(stop) for stop in stops if stop in whole]
    assert cut.hit == bool(places)
    # A stop that ends earlier is seen first, so the cut may lie at any first occurrence.
    if places:
        assert whole.startswith(shown)
        assert len(shown) in places
    else:
        assert shown == whole


@given(st.lists(st.binary(min_size=1, max_size=20).map(lambda b: b.replace(b"\n", b"x")
                .replace(b"\r", b"x")).filter(lambda b: b.strip() != b"")),
       st.lists(st.integers(min_value=1, max_value=7)))  # fmt: skip
def test_lines_are_whole_however_the_bytes_arrive(lines: list[bytes], cuts: list[int]) -> None:
    """A line of any length, cut anywhere, comes out once and whole."""
    stream, reader, found = b"".join(line + b"\n" for line in lines), Lines(), []
    for size in [*cuts, len(stream) + 1]:
        piece, stream = stream[:size], stream[size:]
        found += reader.feed(piece)

    assert found == lines
    assert reader.rest() == b""


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "image_url", "url", "tool_calls", "id", "name",
                 "function", "arguments", "tool_call_id", "parameters", "json_schema", "schema",
                 "effort", "cwd", "sandbox"]
            ),
            inner | st.sampled_from(["user", "assistant", "tool", "text", "function", "image_url"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)  # fmt: skip
FIELDS = st.dictionaries(
    st.sampled_from(["n", "stop", "tools", "tool_choice", "response_format", "reasoning", "codex"]),
    JUNK,
    max_size=3,
)


def outcome(asked: ChatRequest, place: Place) -> str:
    """The model that is asked, or the name of what was refused."""
    try:
        return plan_of(asked, place).model
    except UnsupportedParamError as error:
        return error.param


@given(st.lists(st.dictionaries(st.sampled_from(["content", "tool_calls", "tool_call_id"]), JUNK)),
       st.sampled_from(["system", "user", "assistant", "tool", "function"]), FIELDS)  # fmt: skip
def test_whatever_comes_is_planned_or_refused_by_name(
    rows: list[dict[str, Any]], role: str, params: dict[str, Any]
) -> None:
    """Malformed JSON never breaks the sidecar: it is a 400 that names the place."""
    messages = [{"role": role, **row} for row in rows]
    for place in (CHAT, AGENT):
        assert outcome(ChatRequest(model="m", messages=messages, params=params), place)
