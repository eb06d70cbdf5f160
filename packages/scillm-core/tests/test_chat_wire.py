"""Chat on the wire: whatever an engine answers, what leaves has OpenAI's shape."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter
from scillm.errors import UnsupportedParamError
from scillm.http.folding import Fold
from scillm.http.wire import read_chunk
from scillm.models import (
    ChatMessage,
    Choice,
    ChunkChoice,
    Completion,
    CompletionChunk,
    Delta,
    Function,
    ToolCall,
    Usage,
)
from scillm.serve.chat_wire import (
    FINISH_REASONS,
    Stamp,
    piece_of_answer,
    pieces_of_whole,
    read_chat,
    usage_piece,
    whole_answer,
)

WHOLE: Any = TypeAdapter(ChatCompletion)
PIECE: Any = TypeAdapter(ChatCompletionChunk)
STAMP = Stamp(id="chatcmpl-1", created=1, model="m")

counts = st.none() | st.integers(0, 10**6)
calls = st.lists(
    st.builds(
        ToolCall,
        id=st.text(min_size=1),
        type=st.none() | st.just("function"),
        index=st.none() | st.integers(0, 3),
        function=st.builds(Function, name=st.text(min_size=1), arguments=st.text()),
    ),
    max_size=2,
)
usages = st.none() | st.builds(
    Usage, prompt_tokens=counts, completion_tokens=counts, total_tokens=counts
)
completions = st.builds(
    lambda messages, reasons, usage: Completion(
        choices=[
            Choice(index=place, message=message, finish_reason=reason)
            for place, (message, reason) in enumerate(zip(messages, reasons, strict=False))
        ],
        usage=usage,
    ),
    st.lists(
        st.builds(
            ChatMessage,
            content=st.none() | st.text(),
            tool_calls=st.none() | calls,
            refusal=st.none() | st.text(),
            reasoning_content=st.none() | st.text(),
        ),
        min_size=1,
        max_size=3,
    ),
    st.lists(st.none() | st.text() | st.sampled_from(sorted(FINISH_REASONS)), min_size=3),
    usages,
)


@given(completion=completions)
def test_every_completion_leaves_in_openais_shape(completion: Completion) -> None:
    """Whatever an engine left out or called by another word, strict clients can read it."""
    document = json.loads(json.dumps(whole_answer(completion, STAMP)))

    read = WHOLE.validate_python(document, strict=True)
    assert [row.message.content for row in read.choices] == [
        row.message.content for row in completion.choices
    ]
    assert [row.finish_reason for row in read.choices if row.finish_reason in FINISH_REASONS] == [
        row.finish_reason for row in read.choices
    ]


@given(completion=completions)
def test_a_whole_answer_streamed_is_the_same_answer(completion: Completion) -> None:
    """One that cannot stream is sent in pieces which add up to what it said."""
    document = whole_answer(completion, STAMP)

    pieces = pieces_of_whole(document, STAMP)

    fold = Fold()
    for piece in pieces:
        PIECE.validate_python(json.loads(json.dumps(piece)), strict=True)
        fold.add(read_chunk(piece))
    added = fold.completion()
    for told, kept in zip(added.choices, document["choices"], strict=True):
        assert (told.message.content or None) == (kept["message"]["content"] or None)
        assert told.finish_reason == kept["finish_reason"]
        assert len(told.message.tool_calls or ()) == len(kept["message"].get("tool_calls", ()))


@given(
    texts=st.lists(st.none() | st.text(), min_size=1, max_size=5),
    role=st.none() | st.just("assistant"),
    reason=st.text(),
    usage_wanted=st.booleans(),
)
def test_every_chunk_leaves_in_openais_shape(
    texts: list[str | None], role: str | None, reason: str, usage_wanted: bool
) -> None:
    """Roles come first and once, ends are known words, usage only where it was asked for."""
    stamp = Stamp(id="c", created=1, model="m", usage_wanted=usage_wanted)
    begun: set[int] = set()
    rows = []
    for place, text in enumerate(texts):
        finish = reason if place == len(texts) - 1 else None
        choice = ChunkChoice(delta=Delta(role=role, content=text), finish_reason=finish)
        chunk = CompletionChunk(id="other", choices=[choice], usage=Usage(total_tokens=1))
        row = piece_of_answer(chunk, stamp, begun=begun)
        assert row is not None
        PIECE.validate_python(json.loads(json.dumps(row)), strict=True)
        begun.add(0)
        rows.append(row)

    assert ["role" in row["choices"][0]["delta"] for row in rows] == [True] + [False] * (
        len(rows) - 1
    )
    assert all(("usage" in row) == usage_wanted for row in rows)
    assert "".join(row["choices"][0]["delta"].get("content") or "" for row in rows) == "".join(
        text or "" for text in texts
    )


def test_a_tool_call_chunk_has_an_index_and_no_text() -> None:
    """OpenAI's client sorts the pieces of a call by its index."""
    call = ToolCall(id="a", type="function", function=Function(name="f", arguments=""))
    chunk = CompletionChunk(choices=[ChunkChoice(delta=Delta(tool_calls=[call]))])

    row = piece_of_answer(chunk, STAMP, begun=())

    assert row is not None
    delta = row["choices"][0]["delta"]
    assert delta["content"] is None
    assert delta["tool_calls"][0]["index"] == 0
    PIECE.validate_python(row, strict=True)


def test_a_chunk_with_nothing_but_usage_leaves_no_piece() -> None:
    """Usage has its own last piece."""
    assert piece_of_answer(CompletionChunk(usage=Usage(total_tokens=1)), STAMP, begun=()) is None


@given(usage=usages)
def test_usage_is_sent_whole_or_not_at_all(usage: Usage | None) -> None:
    """Counts nobody reported are not invented."""
    if usage is None:
        return
    row = usage_piece(usage, STAMP)

    known = None not in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    assert (row is not None) == known
    if row is not None:
        PIECE.validate_python(row, strict=True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    document=json_values
    | st.dictionaries(
        st.sampled_from(["model", "messages", "stream", "stream_options", "temperature"]),
        json_values,
    )
)
def test_any_json_is_a_question_or_names_the_field(document: Any) -> None:
    """A request never breaks the server."""
    try:
        asked = read_chat(document, timeout_s=1.0)
    except UnsupportedParamError as error:
        told = error.message
    else:
        told = f"the model {asked.request.model} is asked with {asked.request.messages}"

    assert len(told) > 20


@given(params=st.dictionaries(st.text(), json_values, max_size=4))
def test_every_parameter_of_a_request_is_kept(params: dict[str, Any]) -> None:
    """What the server does not know is the model's to judge."""
    own = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    more = {k: v for k, v in params.items() if k not in ("stream", "stream_options", *own)}

    asked = read_chat({**own, **more}, timeout_s=1.0)

    assert dict(asked.request.params) == more
    assert not asked.request.stream
