"""Whether a broken stream can be gone on with, and what another model is then asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.models import ChatMessage, Choice, Completion, ToolCall
from scillm.routing.continuing import asked_to_go_on, text_so_far


def answer(*choices):
    return Completion(choices=list(choices))


def said(content=None, *, reason=None, **more):
    return Choice(message=ChatMessage(content=content, **more), finish_reason=reason)


@given(
    text=st.text(), before=st.lists(st.fixed_dictionaries({"role": st.just("user")}), max_size=3)
)
def test_the_text_so_far_is_handed_on_whole_and_the_messages_stay(text, before):
    """What was said comes exactly once, after the old messages, which are unchanged."""
    found = text_so_far(answer(said(text)))
    asked = asked_to_go_on(before, text)

    assert found == text
    assert list(asked)[: len(before)] == before
    assert [m["content"] for m in asked if m["role"] == "assistant"] == ([text] if text else [])
    assert len(asked) == len(before) + (2 if text else 0)


@pytest.mark.parametrize(
    "partial",
    [
        answer(said("a"), said("b")),
        answer(said("a", reason="stop")),
        answer(said("a", tool_calls=[ToolCall(id="c")])),
        answer(said("a", function_call={"name": "f"})),
        answer(said("a", refusal="no")),
        answer(said([{"type": "text", "text": "a"}])),
    ],
)
def test_what_only_the_same_model_could_finish_is_not_handed_on(partial):
    """Several choices, a finished one, half a tool call, a refusal, content that is no text."""
    assert text_so_far(partial) is None


def test_a_stream_without_a_word_yet_is_simply_asked_elsewhere():
    """No choice, or one without content: the messages stay as they are."""
    assert text_so_far(answer()) == text_so_far(answer(said())) == ""
