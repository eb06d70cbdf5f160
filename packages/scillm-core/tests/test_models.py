"""OpenAI-shaped answers: read by attribute and key, kept whole, plain on demand."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import MalformedReplyError
from scillm.http.wire import read_chunk, read_completion
from scillm.models import ChatMessage, Completion

REPLY = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hi", "annotations": [1]},
            "finish_reason": "stop",
            "content_filter_results": {"hate": False},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.1},
    "provider": "upstream",
}


def test_attribute_and_key_access_agree_at_every_depth():
    """`resp.a[0].b` and `resp["a"][0]["b"]` are the same, for unknown fields too."""
    answer = read_completion(REPLY)

    assert answer.choices[0].message.content == answer["choices"][0]["message"]["content"] == "hi"
    assert answer.provider == answer["provider"] == answer.get("provider") == "upstream"
    assert answer.usage.cost == answer["usage"]["cost"] == 0.1
    assert answer.get("nothing", 7) == 7
    assert "provider" in answer
    assert "nothing" not in answer
    with pytest.raises(KeyError):
        answer["nothing"]
    with pytest.raises(AttributeError):
        _ = answer.nothing


def test_to_dict_gives_back_what_came():
    """Nothing the upstream sent is lost, and iteration follows the same order of keys."""
    answer = read_completion(REPLY)

    assert json.loads(json.dumps(answer.to_dict())) == REPLY
    assert list(answer) == answer.keys()
    assert list(dict(answer)) == answer.keys()


def test_answers_pickle_and_copy_equal():
    """Answers travel to other processes and into checkpoints."""
    answer = read_completion(REPLY)

    assert pickle.loads(pickle.dumps(answer)) == answer
    assert copy.deepcopy(answer) == answer


def test_null_and_missing_fields_take_their_defaults():
    """Sparse servers: no id, null usage, no role."""
    answer = read_completion({"id": None, "choices": [{"message": {"content": None}}]})

    assert answer.id == ""
    assert answer.usage is None
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0]["message"].to_dict() == {"role": "assistant", "content": None}


@pytest.mark.parametrize(
    "document",
    [None, [], "x", {}, {"choices": 3}, {"choices": [3]}, {"choices": [{"index": "a"}]}],
)
def test_a_wrong_shape_is_refused_with_its_reason(document):
    """A reply that is JSON but no completion is never taken for one."""
    with pytest.raises(MalformedReplyError, match="chat completion"):
        read_completion(document)


def test_chunks_keep_unknown_delta_fields():
    """A field such as `reasoning` in a delta is readable."""
    chunk = read_chunk({"choices": [{"index": 0, "delta": {"reasoning": "hm"}}]})

    assert chunk.choices[0].delta["reasoning"] == "hm"


def test_text_joins_the_text_parts_of_the_first_choice():
    """`.text` works for strings, parts and empty answers."""
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]

    assert read_completion({"choices": [{"message": {"content": parts}}]}).text == "ab"
    assert Completion().text == ""


def test_side_information_has_one_store_and_two_views():
    """`scillm_meta` and `_hidden_params` are views of additional_kwargs, which JSON leaves out."""
    answer = Completion(additional_kwargs={"scillm": {"served_model": "m"}})

    assert answer.scillm_meta is answer._hidden_params is answer.additional_kwargs["scillm"]
    assert "additional_kwargs" not in answer.to_dict()


@given(st.dictionaries(st.sampled_from(["keys", "get", "extra", "to_dict", "a"]), st.integers()))
def test_upstream_fields_named_like_methods_are_readable_by_key(fields):
    """A field called `get` or `keys` does no harm."""
    message = ChatMessage(extra=fields)

    for name, value in fields.items():
        assert message[name] == value
        assert message.get(name) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(
    st.fixed_dictionaries(
        {"choices": st.just([])},
        optional={
            "id": st.text(max_size=3),
            "model": st.text(max_size=3) | st.none(),
            "created": st.integers(0, 9) | st.none(),
            "system_fingerprint": st.none() | st.text(max_size=3),
            "unknown": json_values,
        },
    )
)
def test_a_read_answer_is_one_that_was_made(document):
    """What comes off the wire equals the record of the same fields: no field is left without."""
    read = read_completion(document)

    said = {name: value for name, value in document.items() if value is not None}
    extra = {name: document[name] for name in document if name == "unknown"}
    made = Completion(**{name: said[name] for name in said if name != "unknown"}, extra=extra)
    assert (read, read.__dict__.keys()) == (made, made.__dict__.keys())
    assert read.additional_kwargs is not read_completion(document).additional_kwargs


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_side_information_that_nobody_looked_at_travels_along(way):
    """It is written down when it is first wanted; a copy made before that has it too, as data."""
    answer = read_completion(REPLY).with_additional_later(lambda: {"scillm": {"provider": "p"}})

    copied = way(answer)

    assert copied.__dict__.keys() == read_completion(REPLY).__dict__.keys()
    assert copied == answer
    assert copied.scillm_meta == {"provider": "p"}


def test_side_information_is_made_once():
    """Whoever looks again finds the same object, with what was written into it meanwhile."""
    made = []
    answer = read_completion(REPLY).with_additional_later(lambda: made.append(1) or {})

    answer.additional_kwargs["own"] = 1

    assert answer.additional_kwargs == {"own": 1}
    assert answer.with_additional({"other": 2}).additional_kwargs == {"other": 2}
    assert len(made) == 1
    with pytest.raises(AttributeError, match="no field 'missing'"):
        _ = answer.missing
