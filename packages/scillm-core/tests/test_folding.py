"""Folding: the chunks of a stream amount to the answer that was not streamed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scillm.http.folding import Fold
from scillm.http.wire import read_chunk


def folded(*chunks):
    fold = Fold()
    for chunk in chunks:
        fold.add(read_chunk(chunk))
    return fold


def delta(index=0, finish_reason=None, **fields):
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish_reason}]}


@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=5)), max_size=20))
def test_texts_join_per_choice(pieces):
    """Each choice gets its own pieces, in order, however they are interleaved."""
    fold = folded(*(delta(index, content=text) for index, text in pieces))

    for choice in fold.completion().choices:
        mine = [text for index, text in pieces if index == choice.index]
        assert choice.message.content == "".join(mine)


def test_tool_calls_with_index_id_or_neither_are_joined():
    """Servers that leave out the index or the id of a continued call are understood."""
    first = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}}
    by_index = folded(
        delta(tool_calls=[{"index": 0, **first}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
        delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]),
        delta(finish_reason="tool_calls"),
    )
    bare = folded(
        delta(tool_calls=[first]), delta(tool_calls=[{"function": {"arguments": ": 1}"}}])
    )

    calls = by_index.completion().choices[0].message.tool_calls
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
        ("a", "f", '{"x": 1}'),
        ("b", "g", "{}"),
    ]
    assert bare.completion().choices[0].message.tool_calls[0].function.arguments == '{"x": 1}'


def test_a_stream_is_finished_when_every_choice_said_why():
    """An empty finish_reason is no end, and a stream without choices is not finished."""
    fold = folded(delta(0, content="a"), delta(1, content="b"), delta(0, finish_reason="stop"))

    assert not fold.finished
    fold.add(read_chunk(delta(1, finish_reason="")))
    assert not fold.finished
    fold.add(read_chunk(delta(1, finish_reason="length")))
    assert fold.finished
    assert not Fold().finished


def test_usage_only_chunks_and_unknown_fields_are_kept():
    """A last chunk with usage and no choices counts; unknown delta fields are joined."""
    fold = folded(
        {"id": "x", "model": "m", "created": 3, **delta(role="assistant", thinking="a")},
        delta(thinking="b", finish_reason="stop"),
        {"choices": [], "usage": {"prompt_tokens": 2, "total_tokens": 3}, "x_groq": {"id": 1}},
    )

    answer = fold.completion()
    assert (answer.id, answer.model, answer.created) == ("x", "m", 3)
    assert answer.usage.total_tokens == 3
    assert answer.usage.completion_tokens is None
    assert answer.choices[0].message.thinking == "ab"
    assert answer.x_groq == {"id": 1}


def test_logprobs_of_all_chunks_are_joined():
    """Token logprobs arrive in pieces and end up in one list."""

    def chunk(token):
        return {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [token]}}]}

    choice = folded(chunk("a"), chunk("b")).completion().choices[0]

    assert choice.logprobs == {"content": ["a", "b"]}


def test_a_call_continued_by_its_id_alone_is_joined():
    """A server that repeats the id and leaves out the index is understood."""
    fold = folded(
        delta(tool_calls=[{"id": "a", "function": {"name": "f", "arguments": "{"}}]),
        delta(tool_calls=[{"id": "a"}]),
        delta(tool_calls=[{"id": "a", "function": {"arguments": "}"}}]),
    )

    (call,) = fold.completion().choices[0].message.tool_calls
    assert (call.id, call.function.arguments) == ("a", "{}")


def test_a_call_without_id_or_index_opens_one():
    """The sloppiest server still gets its call through."""
    fold = folded(delta(tool_calls=[{"function": {"name": "f", "arguments": "{}"}}]))

    assert fold.completion().choices[0].message.tool_calls[0].function.name == "f"


def test_the_older_function_call_is_joined():
    """`function_call` deltas add up; nonsense in its place does no harm."""
    fold = folded(
        delta(function_call={"name": "f", "arguments": '{"a"'}),
        delta(function_call={"arguments": ": 1}", "name": None}),
        delta(function_call="odd"),
    )

    assert fold.completion().choices[0].message.function_call == {
        "name": "f",
        "arguments": '{"a": 1}',
    }


def test_content_that_comes_in_parts_stays_in_parts():
    """Lists of parts are put one after the other."""
    fold = folded(delta(content=[{"type": "text", "text": "a"}]), delta(content=[{"type": "x"}]))

    assert fold.completion().choices[0].message.content == [
        {"type": "text", "text": "a"},
        {"type": "x"},
    ]


def test_unknown_delta_fields_are_joined_by_their_kind():
    """Texts and lists add up, other values are replaced, null says nothing."""
    fold = folded(
        delta(words=["a"], note=1), delta(words=["b"], note=2), delta(words=None, note=None)
    )

    message = fold.completion().choices[0].message
    assert (message.words, message.note) == (["a", "b"], 2)
