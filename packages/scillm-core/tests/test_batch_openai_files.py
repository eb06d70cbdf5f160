"""The OpenAI Batch file formats: what is read is checked by line, what is written is readable."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.batch.entries import Failure
from scillm.batch.openai_files import (
    BatchRequest,
    answer_line,
    check_input,
    failure_line,
    read_request,
    requests_in,
)
from scillm.errors import UsageError

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def row(**changes: Any) -> dict[str, Any]:
    whole = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": BODY}
    return {key: value for key, value in {**whole, **changes}.items() if value is not ...}


def line(**changes: Any) -> bytes:
    return json.dumps(row(**changes)).encode() + b"\n"


def test_a_request_is_read_as_it_is() -> None:
    """Every field of the body stays; blank lines and a byte-order mark do no harm."""
    lines = [b"\xef\xbb\xbf" + line(), b"\n", line(custom_id="b", body={**BODY, "seed": 1})]

    assert list(requests_in(lines, needs_model=True)) == [
        BatchRequest(line=1, custom_id="a", body=BODY),
        BatchRequest(line=3, custom_id="b", body={**BODY, "seed": 1}),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"not json\n", "line 4: is not JSON"),
        (b"\xff\n", "line 4: is not JSON"),
        (line(body={**BODY, "seed": float("nan")}), "line 4: is not JSON (NaN is no JSON"),
        (b"[" * 100_000, "line 4: is not JSON"),
        (b"[]\n", "line 4: must be an object, but is list"),
        (line(more=1), "line 4: has 'more'; known are custom_id"),
        (line(custom_id=...), "line 4: custom_id must be a text, but is None"),
        (line(custom_id=""), "line 4: custom_id must be a text"),
        (line(custom_id=7), "line 4: custom_id must be a text, but is 7"),
        (line(method="GET"), "line 4: method must be \"POST\", but is 'GET'"),
        (line(url="/v1/embeddings"), "line 4: url must be '/v1/chat/completions'"),
        (line(body=...), "line 4: body must be an object, but is NoneType"),
        (line(body={"model": "m"}), "line 4: body.messages must be a list of objects"),
        (line(body={"model": "m", "messages": ["x"]}), "line 4: body.messages must be a list"),
        (line(body={"model": "m", "messages": []}), "line 4: body.messages is empty"),
        (line(body={**BODY, "stream": True}), "line 4: body.stream is on"),
        (line(body={**BODY, "model": None}), "line 4: body.model must be a text, but is None"),
        (line(body={**BODY, "model": 1}), "line 4: body.model must be a text, but is 1"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_number(text: bytes, told: str) -> None:
    """Wrong lines are refused before anything is sent: number, field, value."""
    with pytest.raises(UsageError) as caught:
        read_request(text, 4, needs_model=True)

    assert caught.value.message.startswith(told)


def test_a_body_needs_no_model_when_one_is_named() -> None:
    """With -m the bodies may leave the model out."""
    text = line(body={"messages": BODY["messages"]})

    assert read_request(text, 1, needs_model=False).custom_id == "a"


def test_method_and_url_may_be_left_out() -> None:
    """There is one kind of request, so id and body are enough; null is not absence."""
    text = line(method=..., url=...)

    assert read_request(text, 1, needs_model=True).body == BODY
    with pytest.raises(UsageError, match="method must be"):
        read_request(line(method=None), 1, needs_model=True)


def test_all_problems_are_listed_at_once() -> None:
    """One pass tells everything: wrong lines, repeated ids with both lines, and how many more."""
    lines = [line(), b"x\n", line(custom_id="b"), line(), *[b"y\n"] * 30]
    found = check_input(lines, needs_model=True)
    with pytest.raises(UsageError) as caught:
        found.require_sound("in.jsonl")

    assert "line 2: is not JSON" in caught.value.message
    assert "line 4: custom_id 'a' is that of line 1 too" in caught.value.message
    assert caught.value.message.endswith("and 12 more")
    assert "in.jsonl cannot be run as a batch; nothing was sent:" in caught.value.message


@pytest.mark.parametrize("lines", [[], [b"\n", b"  \n"]])
def test_an_empty_input_is_no_batch(lines: list[bytes]) -> None:
    """Nothing to do is said, not done."""
    with pytest.raises(UsageError, match="it has no requests"):
        check_input(lines, needs_model=True).require_sound("in.jsonl")


@given(ids=st.lists(st.text(min_size=1), min_size=1, unique=True), seed=st.integers())
def test_a_sound_input_gives_each_request_once(ids: list[str], seed: int) -> None:
    """Every id comes out, and its digest changes with the body."""
    lines = [line(custom_id=name) for name in ids]
    changed = [line(custom_id=name, body={**BODY, "seed": seed}) for name in ids]
    found, other = check_input(lines, needs_model=True), check_input(changed, needs_model=True)
    found.require_sound("x")

    assert list(found.digests) == ids
    assert not set(found.digests.values()) & set(other.digests.values())


def test_an_answer_is_an_output_object() -> None:
    """The shape of the API reference."""
    assert answer_line("a", {"id": "c"}, id="0f") == {
        "id": "batch_req_0f",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": None, "body": {"id": "c"}},
        "error": None,
    }


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ('{"error": {"message": "no", "code": "x"}}', {"error": {"message": "no", "code": "x"}}),
        ('{"error": "no"}', None),
        ("<html>", None),
        ("", None),
    ],
)
def test_a_refusal_over_http_keeps_its_status_and_words(body: str, wanted: Any) -> None:
    """What the upstream said in the API's form stays; anything else is put into that form."""
    failure = Failure(
        id="a", type="BadRequestError", message="m", status_code=400, body=body, request_id="r"
    )
    ours = {"error": {"message": "m", "type": "BadRequestError", "param": None, "code": None}}

    assert failure_line(failure, id="0f") == {
        "id": "batch_req_0f",
        "custom_id": "a",
        "response": {"status_code": 400, "request_id": "r", "body": wanted or ours},
        "error": None,
    }


def test_a_failure_without_a_reply_is_an_error() -> None:
    """Where no reply came there is no response, and the reason is under `error`."""
    failure = Failure(id="a", type="APIConnectionError", message="refused", retryable=True)

    assert failure_line(failure, id="0f") == {
        "id": "batch_req_0f",
        "custom_id": "a",
        "response": None,
        "error": {"code": "APIConnectionError", "message": "refused"},
    }
