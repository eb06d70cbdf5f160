"""What the kit lends to a provider under test: a loopback transport, and a recorded one."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.records import ChatRequest, Endpoint, HttpCall, HttpReply
from scillm.testing import Exchange, RecordedTransport, host_for, json_exchange
from scillm.testing.hosts import is_loopback

URL = "http://api.example/v1/say"
ANSWER = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}


def call(body: Any, *, url: str = URL, **headers: str) -> HttpCall:
    return HttpCall(method="POST", url=url, headers=headers, body=json.dumps(body).encode())


@pytest.mark.parametrize(
    "url", ["https://api.openai.com/v1", "http://10.0.0.1/v1", "http://127.0.0.1.example/", "/v1"]
)
@pytest.mark.anyio
async def test_a_conformance_host_never_leaves_this_machine(url: str) -> None:
    """A call to another machine fails the test, says where it went, and opens no connection."""
    transport = host_for().transport

    with pytest.raises(AssertionError, match="never leaves this machine"):
        await transport.send(HttpCall(method="GET", url=url))
    with pytest.raises(AssertionError, match="never leaves this machine"):
        transport.stream(HttpCall(method="GET", url=url))


@given(last=st.integers(0, 255), middle=st.integers(0, 255))
def test_all_of_127_is_this_machine(last: int, middle: int) -> None:
    """Every address of 127.0.0.0/8 is loopback (RFC 1122, section 3.2.1.3), and ::1 is."""
    assert is_loopback(f"127.{middle}.0.{last}")
    assert is_loopback("::1")
    assert not is_loopback(f"128.{middle}.0.{last}")


@pytest.mark.anyio
async def test_a_conformance_host_reaches_a_server_on_loopback(faulty_server: Any) -> None:
    """A real provider gets a real answer over the lent transport."""
    from scillm.providers.openai_like import OpenAILike

    endpoint = Endpoint(provider="openai_like", api_base=faulty_server.base_url)
    provider = OpenAILike(endpoint, host_for())
    request = ChatRequest(model="m", messages=[{"role": "user", "content": "Hi"}])
    answer = await provider.complete(request)

    assert answer.text == "echo:Hi"


@pytest.mark.anyio
async def test_a_recorded_call_gets_its_reply_as_often_as_it_comes() -> None:
    """The body is compared as JSON, so that the order of its keys does not matter."""
    transport = RecordedTransport([json_exchange(URL, sent={"a": 1, "b": 2}, got=ANSWER)])
    replies = [await transport.send(call({"b": 2, "a": 1})) for _ in range(2)]

    assert [json.loads(reply.body) for reply in replies] == [ANSWER, ANSWER]
    assert len(transport.calls) == 2
    assert transport.unused() == []


@pytest.mark.parametrize(
    ("came", "said"),
    [
        (call({"a": 2}, authorization="Bearer abc"), "recorded is"),
        (call({"a": 1}, url="http://api.example/v2", authorization="Bearer abc"), "URL"),
        (call({"a": 1}, authorization="Bearer other-secret"), "header authorization"),
        (call({"a": 1}), "header authorization"),
    ],
)
@pytest.mark.anyio
async def test_a_call_that_was_not_recorded_fails_and_says_what_differs(
    came: HttpCall, said: str
) -> None:
    """Nothing is answered by guess; header values are not shown."""
    transport = RecordedTransport(
        [json_exchange(URL, sent={"a": 1}, got={}, headers={"authorization": "Bearer abc"})]
    )

    with pytest.raises(AssertionError, match=said) as caught:
        await transport.send(came)
    assert "secret" not in str(caught.value)
    assert "abc" not in str(caught.value)
    assert len(transport.unused()) == 1


@given(body=st.binary(max_size=60), piece_bytes=st.integers(1, 70))
def test_a_recorded_stream_arrives_whole_in_pieces(body: bytes, piece_bytes: int) -> None:
    """The pieces add up to the recorded body, and none is longer than asked for."""
    exchange = Exchange(
        call=HttpCall(method="GET", url=URL), reply=HttpReply(status=200, body=body)
    )
    transport = RecordedTransport([exchange], piece_bytes=piece_bytes)

    async def read() -> list[bytes]:
        async with transport.stream(HttpCall(method="GET", url=URL)) as head:
            return [piece async for piece in head.chunks]

    pieces = anyio.run(read)

    assert b"".join(pieces) == body
    assert all(0 < len(piece) <= piece_bytes for piece in pieces)
