"""The test server is strict by default, and as broken as it is told to be."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.faulty import (
    CHAT_PATH,
    Close,
    FaultyServer,
    Gate,
    Html,
    Json,
    Pause,
    Raw,
    RefuseAfterAccept,
    Reply,
    Request,
    Reset,
    ResetMidBody,
    Sse,
    Stall,
    Step,
    Truncated,
    WrongLength,
    chunk_objects,
    completion_object,
    event,
    spread,
)
from support.strict_chat import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.chat import ChatCompletionUserMessageParam

USER: ChatCompletionUserMessageParam = {"role": "user", "content": "hello there, server"}
GOOD: dict[str, Any] = {"model": "m", "messages": [USER]}


@pytest.fixture
def client(faulty_server: FaultyServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=faulty_server.base_url, api_key="any", max_retries=0, timeout=5.0
    ) as client:
        yield client


@pytest.fixture
def http(faulty_server: FaultyServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=faulty_server.root_url, timeout=5.0) as client:
        yield client


# -- the strict chat server --------------------------------------------------------------------


def test_the_openai_client_gets_its_last_words_back(client: openai.OpenAI) -> None:
    """An ordinary client gets an ordinary answer with usage that counts its words."""
    reply = client.chat.completions.create(model="m", messages=[USER])

    assert reply.choices[0].message.content == "echo:hello there, server"
    assert (reply.choices[0].finish_reason, reply.model) == ("stop", "m")
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 3)


@pytest.mark.parametrize("with_usage", [True, False])
def test_the_openai_client_gets_a_stream(client: openai.OpenAI, *, with_usage: bool) -> None:
    """A stream joins to the same answer; its usage comes last, and only when asked for."""
    options: Any = {"stream_options": {"include_usage": True}} if with_usage else {}
    stream = client.chat.completions.create(model="m", messages=[USER], stream=True, **options)

    chunks = list(stream)

    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == "echo:hello there, server"
    assert len([delta for delta in deltas if delta]) == 3
    assert [chunk.usage is not None for chunk in chunks].count(True) == with_usage
    assert (chunks[-1].usage is not None) == with_usage


def test_the_openai_client_gets_the_models(client: openai.OpenAI) -> None:
    """The list of models is served."""
    assert [model.id for model in client.models.list()] == ["echo-small", "echo-large"]


def test_n_and_max_tokens_are_obeyed(client: openai.OpenAI) -> None:
    """As many answers as asked for, each no longer than allowed."""
    reply = client.chat.completions.create(
        model="m",
        messages=[USER],
        n=2,
        max_tokens=2,
    )

    assert [choice.message.content for choice in reply.choices] == ["echo:hello there,"] * 2
    assert {choice.finish_reason for choice in reply.choices} == {"length"}
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 4


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [USER]}, "model"),
        ({"model": "", "messages": [USER]}, "model"),
        ({"model": 3, "messages": [USER]}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": "hi"}, "messages"),
        ({"model": "m", "messages": ["hi"]}, "messages[0]"),
        ({"model": "m", "messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": "user"}]}, "messages[0].content"),
        ({"model": "m", "messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"model": "m", "messages": [USER, {"role": "tool", "content": "4"}]},
            "messages[1].tool_call_id",
        ),
        (GOOD | {"temperature": 3}, "temperature"),
        (GOOD | {"temperature": "hot"}, "temperature"),
        (GOOD | {"n": True}, "n"),
        (GOOD | {"max_tokens": 0}, "max_tokens"),
        (GOOD | {"stream": "yes"}, "stream"),
        (GOOD | {"stream_options": {"include_usage": True}}, "stream_options"),
        (GOOD | {"api_base": "http://x"}, "api_base"),
        ([GOOD], None),
    ],
)
def test_a_wrong_field_is_named(http: httpx.Client, body: Any, param: str | None) -> None:
    """Whatever is wrong in a request is refused, and the error names the field."""
    reply = http.post(CHAT_PATH, json=body)

    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert reply.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status"),
    [
        ("GET", CHAT_PATH, {}, b"", 405),
        ("POST", "/v1/models", {}, b"", 405),
        ("GET", "/v1/nothing", {}, b"", 404),
        ("POST", CHAT_PATH, {"content-type": "text/plain"}, json.dumps(GOOD).encode(), 415),
        ("POST", CHAT_PATH, {}, json.dumps(GOOD).encode(), 415),
        ("POST", CHAT_PATH, {"content-type": "application/json"}, b"{", 400),
    ],
)
def test_what_is_no_chat_request_is_refused(
    http: httpx.Client, method: str, path: str, headers: Any, content: bytes, status: int
) -> None:
    """Wrong method, path, content type or syntax: each has its own status and an API error."""
    reply = http.request(method, path, headers=headers, content=content)

    assert reply.status_code == status
    assert reply.json()["error"]["message"]


@pytest.mark.parametrize(("key", "status"), [("right", 200), ("wrong", 401)])
def test_a_required_key_is_required(key: str, status: int) -> None:
    """Only the right bearer token is let in, to the chat and to the models."""
    with FaultyServer(api_key="right") as server, httpx.Client(base_url=server.root_url) as http:
        headers = {"authorization": f"Bearer {key}"}

        assert http.post(CHAT_PATH, json=GOOD, headers=headers).status_code == status
        assert http.get("/v1/models", headers=headers).status_code == status
        assert http.get("/v1/models").status_code == 401


@given(text=st.text(max_size=40))
def test_words_join_to_the_text(text: str) -> None:
    """Cutting an answer into words loses no character."""
    assert "".join(words(text)) == text
    assert len(words(text)) == (len(text.split()) or bool(text))


# -- faults ------------------------------------------------------------------------------------


def test_a_queue_is_played_in_order_and_then_the_route_again(
    faulty_server: FaultyServer, http: httpx.Client
) -> None:
    """Scripted replies come one per request; afterwards the server is itself again."""
    faulty_server.queue(CHAT_PATH, Json({}, 429, {"retry-after": "1"}), Html())

    replies = [http.post(CHAT_PATH, json=GOOD) for _ in range(3)]

    assert [reply.status_code for reply in replies] == [429, 502, 200]
    assert replies[0].headers["retry-after"] == "1"
    assert "Bad Gateway" in replies[1].text
    assert faulty_server.queued(CHAT_PATH) == 0
    assert (faulty_server.connections, len(faulty_server.requests)) == (1, 3)


def test_a_route_may_be_a_function_of_the_request(
    faulty_server: FaultyServer, http: httpx.Client
) -> None:
    """A behaviour can look at what was asked."""

    def double(request: Request) -> Json:
        return Json(request.json * 2)

    faulty_server.route("/double", double)

    assert http.post("/double?fast", json=21).json() == 42
    assert faulty_server.requests[0].target == "/double?fast"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("squeezed", [True, False])
def test_every_framing_carries_the_body(
    faulty_server: FaultyServer, http: httpx.Client, framing: Any, *, squeezed: bool
) -> None:
    """Length, chunks or the end of the connection, squeezed or not: the body is the same."""
    body: list[Step] = [b"one ", Pause(0.01), b"two ", b"three"]
    faulty_server.route("/x", Reply(200, {}, body, framing=framing, gzip=squeezed))

    replies = [http.get("/x"), http.get("/x")]

    assert [reply.content for reply in replies] == [b"one two three"] * 2
    assert ("content-encoding" in replies[0].headers) == squeezed
    assert faulty_server.connections == (2 if framing == "close" else 1)


def test_a_squeezed_body_is_real_gzip(faulty_server: FaultyServer, http: httpx.Client) -> None:
    """The compressed bytes are what gzip understands."""
    faulty_server.route("/x", Reply(200, {}, b"abc" * 100, gzip=True))

    with http.stream("GET", "/x") as reply:
        raw = b"".join(reply.iter_raw())

    assert gzip.decompress(raw) == b"abc" * 100
    assert len(raw) < 100


def test_truncated_json_comes_in_a_complete_reply(
    faulty_server: FaultyServer, http: httpx.Client
) -> None:
    """Cut JSON is no transport error."""
    faulty_server.route("/x", Truncated({"a": [1, 2, 3]}, 4))

    reply = http.get("/x")

    assert (reply.status_code, reply.text) == (200, '{"a": [1, 2,')


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (WrongLength(b"{}"), httpx.RemoteProtocolError),
        (ResetMidBody(b'{"a": 1}'), httpx.ReadError),
        (RefuseAfterAccept(), httpx.RemoteProtocolError),
        (Raw([b"SSH-2.0-OpenSSH_9.6\r\n", Close()]), httpx.RemoteProtocolError),
        (Sse([event("a"), Close()]), httpx.RemoteProtocolError),
        (Sse([event("a"), Reset()]), httpx.ReadError),
        (Stall(30.0, Json({})), httpx.ReadTimeout),
        (Stall(30.0, Json({}), after_bytes=1), httpx.ReadTimeout),
    ],
)
def test_a_broken_reply_is_broken_for_a_real_client(
    faulty_server: FaultyServer, http: httpx.Client, behaviour: Any, error: type[Exception]
) -> None:
    """Each fault reaches the client as the error that the real thing gives."""
    faulty_server.route("/x", behaviour)

    with pytest.raises(error):
        http.get("/x", timeout=0.3 if isinstance(behaviour, Stall) else 5.0)


def test_a_connection_can_be_closed_at_the_door(
    faulty_server: FaultyServer, http: httpx.Client
) -> None:
    """A refused connection never gets to ask; the next one does."""
    faulty_server.refuse_connections(1)

    with pytest.raises(httpx.TransportError):
        http.get("/v1/models")
    assert faulty_server.requests == []
    assert http.get("/v1/models").status_code == 200


def test_bytes_that_are_no_http_are_noted(faulty_server: FaultyServer) -> None:
    """A client that writes bad HTTP gets a 400, and the test can see what was wrong."""
    with socket.create_connection(("127.0.0.1", faulty_server.port), timeout=5.0) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        reply = b"".join(iter(lambda: sock.recv(4096), b""))

    assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert "Host" in str(faulty_server.malformed[0])
    assert faulty_server.requests == []


@given(size=st.integers(1, 60))
def test_any_cut_of_a_stream_gives_the_client_the_same_text(size: int) -> None:
    """Events and characters may be cut anywhere; the openai client still reads the text."""
    chunks = chunk_objects(["żółw ", "🐢"])
    data = b"".join([*(event(chunk) for chunk in chunks), event("[DONE]")])
    with (
        FaultyServer() as server,
        openai.OpenAI(base_url=server.base_url, api_key="x", max_retries=0) as client,
    ):
        server.route(CHAT_PATH, Sse(spread(data, size)))

        stream = client.chat.completions.create(model="m", messages=[USER], stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert text == "żółw 🐢"


def test_a_gate_separates_what_it_stands_between(faulty_server: FaultyServer) -> None:
    """Pieces with a gate between them arrive apart, cut through a character if so asked."""
    gate = Gate()
    faulty_server.route("/x", Raw([b"\xf0\x9f", gate, b"\x90\xa2", Close()]))

    with socket.create_connection(("127.0.0.1", faulty_server.port), timeout=5.0) as sock:
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        first = sock.recv(4096)
        gate.open()
        rest = b"".join(iter(lambda: sock.recv(4096), b""))

    assert (first, rest) == (b"\xf0\x9f", b"\x90\xa2")


def test_a_pause_takes_its_time(faulty_server: FaultyServer, http: httpx.Client) -> None:
    """A reply with a pause in it comes no sooner than the pause is over."""
    faulty_server.route("/x", Reply(200, {}, [b"a", Pause(0.1), b"b"]))
    start_s = time.monotonic()

    text = http.get("/x").text

    assert text == "ab"
    assert time.monotonic() - start_s >= 0.1


# -- facts -------------------------------------------------------------------------------------


def test_requests_are_recorded_as_they_came(
    faulty_server: FaultyServer, http: httpx.Client
) -> None:
    """Method, path, headers, body bytes and JSON of every request can be looked at."""
    http.post(CHAT_PATH, json=GOOD, headers={"X-Mine": "1"})

    (request,) = faulty_server.requests
    assert (request.method, request.path, request.connection) == ("POST", CHAT_PATH, 1)
    assert (request.headers["x-mine"], request.json) == ("1", GOOD)
    assert json.loads(request.body) == GOOD


def test_a_client_that_goes_away_in_the_middle_is_noticed(
    faulty_server: FaultyServer, http: httpx.Client
) -> None:
    """Leaving a stream early closes the connection, and the server knows when."""
    gate = Gate()
    faulty_server.route("/x", Sse([event("first"), gate, event("second")]))

    with http.stream("GET", "/x") as reply:
        assert next(reply.iter_lines()) == "data: first"
    faulty_server.wait_until(lambda: faulty_server.disconnects)

    (disconnect,) = faulty_server.disconnects
    assert disconnect.request.path == "/x"
    assert 0 < disconnect.after_s < 5
    assert disconnect.sent_bytes > len(event("first"))
    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)


def test_a_client_that_takes_its_whole_reply_is_no_disconnect(faulty_server: FaultyServer) -> None:
    """Closing after a complete reply is how clients end; it is not counted as going away."""
    for _ in range(20):
        assert httpx.post(faulty_server.root_url + CHAT_PATH, json=GOOD).status_code == 200
    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)

    assert faulty_server.disconnects == []
    assert faulty_server.connections == 20


def test_a_gate_holds_replies_until_it_is_opened(faulty_server: FaultyServer) -> None:
    """Calls can be held in the air together and let go together, without sleeping."""
    gate = Gate()
    held = Reply(200, {}, [gate, b"done"])
    faulty_server.route("/x", held)
    texts: list[str] = []

    def ask() -> None:
        texts.append(httpx.get(faulty_server.root_url + "/x", timeout=5.0).text)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    faulty_server.wait_until(lambda: len(faulty_server.requests) == 3)
    early = list(texts)
    gate.open()
    for asker in askers:
        asker.join(5.0)

    assert (early, texts) == ([], ["done"] * 3)


def test_waiting_for_what_never_comes_ends_and_says_what_was_seen(
    faulty_server: FaultyServer, http: httpx.Client
) -> None:
    """A wait is bounded, and its error shows the server's facts."""
    http.get("/v1/models")

    with pytest.raises(TimeoutError, match="GET /v1/models"):
        faulty_server.wait_until(lambda: False, timeout_s=0.05)


def test_a_mistake_in_a_script_fails_the_test() -> None:
    """A behaviour that raises is not swallowed."""

    def broken(request: Request) -> Json:
        raise KeyError(request.path)

    server = FaultyServer().__enter__()
    server.route("/x", broken)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(server.root_url + "/x")

    with pytest.raises(RuntimeError, match="behaviour") as caught:
        server.__exit__(None, None, None)
    assert isinstance(caught.value.__cause__, KeyError)


def test_stopping_does_not_wait_for_stalled_replies() -> None:
    """However long a reply stalls, the server is gone when its context is left."""
    start_s = time.monotonic()
    with FaultyServer() as server:
        server.route("/x", Stall(60.0, Json({})))
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(server.root_url + "/x", timeout=0.1)
        port = server.port

    assert time.monotonic() - start_s < 5
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1.0)


def test_completion_objects_are_what_the_server_sends(http: httpx.Client) -> None:
    """Tests that script their own answers start from the shape of the real ones."""
    sent = http.post(CHAT_PATH, json=GOOD).json()

    assert completion_object("x").keys() == sent.keys()
    assert completion_object("x")["choices"][0].keys() == sent["choices"][0].keys()
