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
