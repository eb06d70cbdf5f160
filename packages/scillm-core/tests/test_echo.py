"""The echo provider keeps the promises of every provider, and says that it is an echo."""

from __future__ import annotations

import pytest
import scillm
from scillm import errors

MESSAGES = [{"role": "user", "content": "one  two\nthree "}]


def test_it_says_back_the_last_user_message_and_marks_it():
    """No answer of the echo can be taken for a model's."""
    answer = scillm.completion("echo/any", MESSAGES)

    assert answer.text == MESSAGES[0]["content"]
    assert answer.additional_kwargs["echo"] == {"echo": True}
    assert answer.usage is None


def test_the_stream_joins_to_the_same_text_with_white_space_kept():
    """Nothing is lost between the words."""
    stream = scillm.completion("echo/any", MESSAGES, stream=True)

    assert "".join(c.choices[0].delta.content or "" for c in stream) == MESSAGES[0]["content"]
    assert stream.completion.choices[0].finish_reason == "stop"


def test_the_same_question_has_the_same_id():
    """Ids depend on the request alone."""
    one, two = (scillm.completion("echo/any", MESSAGES).id for _ in range(2))

    assert one == two
    assert one != scillm.completion("echo/other", MESSAGES).id


def test_without_a_user_message_it_refuses():
    """An echo of nothing is no answer."""
    with pytest.raises(errors.BadRequestError, match="last user message"):
        scillm.completion("echo/any", [{"role": "system", "content": "x"}])


def test_text_parts_are_echoed():
    """Multimodal content: the text parts come back."""
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]

    assert scillm.completion("echo/any", [{"role": "user", "content": parts}]).text == "a"
