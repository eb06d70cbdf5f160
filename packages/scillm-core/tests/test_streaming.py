"""Streams from a real server: whole, early closed, broken, and by sloppy servers."""

from __future__ import annotations

import gc
import json

import anyio
import pytest
import scillm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scillm import errors
from support.faulty import (
    CHAT_PATH,
    FaultyServer,
    Gate,
    Html,
    Json,
    Pause,
    Reply,
    Reset,
    Sse,
    chunk_objects,
    completion_object,
    event,
    spread,
)

BODY = {"model": "m", "messages": [{"role": "user", "content": "grüße an alle"}], "stream": True}
TEXT = "echo:grüße an alle"
CHUNKS = chunk_objects(["echo:", "grüße ", "an ", "alle"], model="m")
DONE = event("[DONE]")


def ask(server, **more):
    return scillm.completion(
        "openai/m", BODY["messages"], api_base=server.base_url, stream=True, **more
    )


def delta(text=None, finish_reason=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return event({"id": "c", "model": "m", "choices": [choice]})


def test_a_stream_arrives_in_pieces_and_adds_up(faulty_server):
    """Chunks come one by one; the joined answer equals the unstreamed one, with usage."""
    stream = ask(faulty_server, stream_options={"include_usage": True})

    texts = [c.choices[0].delta.content or "" for c in stream if c.choices]

    assert "".join(texts) == TEXT
    assert len(texts) > 2
    assert stream.completion.text == TEXT
    assert stream.completion.choices[0].finish_reason == "stop"
    assert stream.completion.usage.total_tokens > 0
    assert stream.completion.scillm_meta["served_model"] == "m"
    assert faulty_server.requests[0].json["stream"] is True


def test_chunks_are_handed_over_as_they_come(faulty_server):
    """The first chunk is here while the server still holds the second back."""
    gate = Gate()
    faulty_server.queue(CHAT_PATH, Sse([delta("a"), gate, delta("b", "stop"), DONE]))
    stream = ask(faulty_server)

    first = next(stream)

    assert first.choices[0].delta.content == "a"
    assert not gate.is_open
    gate.open()
    assert [c.choices[0].delta.content for c in stream] == ["b"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(size=st.integers(1, 40), end=st.sampled_from([b"\n\n", b"\r\n\r\n"]))
def test_any_split_of_the_bytes_gives_the_same_answer(faulty_server, size, end):
    """Over a real socket, cut anywhere, with either line end, comments in between."""
    data = b"".join(b": keep-alive" + end + event(c).replace(b"\n\n", end) for c in CHUNKS) + DONE
    faulty_server.queue(CHAT_PATH, Sse(spread(data, size)))

    stream = ask(faulty_server)

    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == TEXT


@pytest.mark.parametrize(
    "pieces",
    [
        [delta("a"), delta("b", "stop")],
        [delta("a"), delta("b", "stop").rstrip(b"\n")],
        [b"data:" + delta("ab", "stop")[6:], b"data:[DONE]\n\n"],
        [delta("ab", ""), DONE],
    ],
    ids=["no DONE", "no last blank line", "no space after data:", "empty finish_reason"],
)
def test_sloppy_but_whole_streams_are_accepted(faulty_server, pieces):
    """What every server in the field gets wrong does not lose an answer."""
    faulty_server.queue(CHAT_PATH, Sse(pieces))

    assert "".join(c.choices[0].delta.content for c in ask(faulty_server)) == "ab"


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_stream_that_ends_without_finishing_is_an_error_with_the_partial(faulty_server, framing):
    """EOF is not an answer: what came so far is on the error."""
    faulty_server.queue(CHAT_PATH, Sse([delta("half an "), delta("answer")], framing=framing))
    stream = ask(faulty_server)

    with pytest.raises(errors.StreamInterruptedError, match="before the answer was") as caught:
        list(stream)

    assert caught.value.partial.text == "half an answer"
    assert caught.value.partial.choices[0].finish_reason is None
    assert caught.value.provider == "openai"


@pytest.mark.parametrize(
    "pieces",
    [
        [delta("a"), event({"error": {"message": "boom", "code": 500}})],
        [delta("a"), b'{"detail": "boom"}\n\n'],
        [delta("a"), b'event: error\ndata: {"message": "boom"}\n\n'],
        [delta("a"), b"data: {boom\n\n"],
        [delta("a"), Pause(0.05), Reset()],
    ],
    ids=["error object", "bare JSON", "error event", "broken JSON", "reset"],
)
def test_what_breaks_after_the_first_chunk_is_an_interrupted_stream(faulty_server, pieces):
    """The partial completion survives every kind of break, and iteration has ended."""
    faulty_server.queue(CHAT_PATH, Sse(pieces))
    stream = ask(faulty_server)

    with pytest.raises(errors.StreamInterruptedError) as caught:
        list(stream)

    assert caught.value.partial.text == "a"
    assert isinstance(caught.value.__cause__, errors.ProviderError)
    assert list(stream) == []


@pytest.mark.parametrize(
    ("behaviour", "cls"),
    [
        (Sse([event({"error": {"code": 429, "message": "slow"}})]), errors.RateLimitError),
        (Sse([]), errors.APIConnectionError),
        (Sse([b": hello\n\n"]), errors.APIConnectionError),
        (Html(status=200), errors.MalformedReplyError),
        (Json({"error": {"message": "no"}}), errors.InternalServerError),
        (Sse([Pause(3), delta("a")]), errors.APITimeoutError),
    ],
    ids=["error first", "empty", "comment only", "html", "json error", "silence"],
)
def test_what_breaks_before_the_first_chunk_is_the_error_itself(faulty_server, behaviour, cls):
    """Nothing was handed out yet, so the call fails as a plain call does."""
    faulty_server.queue(CHAT_PATH, behaviour)

    with pytest.raises(cls):
        ask(faulty_server, timeout=0.3)


def test_a_server_that_does_not_stream_is_understood(faulty_server):
    """A plain completion in answer to stream=True comes as one chunk."""
    faulty_server.queue(CHAT_PATH, Json(completion_object(TEXT)))

    stream = ask(faulty_server)

    assert [c.choices[0].delta.content for c in stream] == [TEXT]
    assert stream.completion.choices[0].finish_reason == "stop"


def test_a_silence_in_the_middle_is_bounded(faulty_server):
    """`timeout` is the longest silence of a stream."""
    faulty_server.queue(CHAT_PATH, Sse([delta("a"), Pause(5), delta("b", "stop")]))

    with pytest.raises(errors.StreamInterruptedError, match="in time"):
        list(ask(faulty_server, timeout=0.3))


ENDLESS = Sse([delta("a"), Gate(), delta("b", "stop"), DONE])


@pytest.mark.parametrize("way", ["close", "with", "forget"])
def test_leaving_a_stream_early_closes_the_upstream(faulty_server, way):
    """The server sees the client go, whichever way the caller leaves."""
    faulty_server.queue(CHAT_PATH, ENDLESS)
    stream = ask(faulty_server)
    next(stream)

    if way == "close":
        stream.close()
    elif way == "with":
        with stream:
            pass
    else:
        del stream
        gc.collect()

    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)
    assert faulty_server.disconnects


@pytest.mark.parametrize("way", ["aclose", "with", "cancel"])
def test_leaving_an_async_stream_early_closes_the_upstream(faulty_server, way):
    """The same for async callers, and for a cancelled task."""
    faulty_server.queue(CHAT_PATH, ENDLESS)

    async def main():
        stream = await scillm.acompletion(
            "openai/m", BODY["messages"], api_base=faulty_server.base_url, stream=True
        )
        await anext(stream)
        if way == "aclose":
            await stream.aclose()
        elif way == "with":
            async with stream:
                pass
        else:
            with anyio.move_on_after(0.05):
                await anext(stream)
        await anyio.to_thread.run_sync(
            faulty_server.wait_until, lambda: faulty_server.open_connections == 0
        )
        assert [chunk async for chunk in stream] == []

    anyio.run(main)
    assert faulty_server.disconnects


def test_an_exhausted_stream_gives_its_connection_back(faulty_server):
    """Streams reuse connections like plain calls."""
    for _ in range(3):
        assert "".join(c.choices[0].delta.content or "" for c in ask(faulty_server)) == TEXT

    assert faulty_server.connections == 1


def test_a_partial_answer_is_readable_while_the_stream_runs(faulty_server):
    """`completion` is what has been handed out so far."""
    stream = ask(faulty_server)
    seen = ""
    for chunk in stream:
        seen += chunk.choices[0].delta.content or ""

        assert stream.completion.text == seen


def test_a_provider_that_cannot_stream_says_so():
    """Asking a provider for what it cannot do is a usage error."""

    class Silent:
        def __init__(self, endpoint, host):
            pass

        async def complete(self, request, /):
            raise AssertionError

    router = scillm.Router(settings={})
    router.registry.register("scillm.providers", "silent", Silent)

    with pytest.raises(errors.UsageError, match="cannot stream"):
        router.completion("silent/m", BODY["messages"], stream=True)


def test_a_large_chunk_is_read_whole(faulty_server):
    """A megabyte in one event is one chunk."""
    text = json.dumps("x" * 1_000_000)
    faulty_server.queue(CHAT_PATH, Sse([delta(json.loads(text), "stop"), DONE]))

    assert len(ask(faulty_server).__next__().choices[0].delta.content) == 1_000_000


def test_a_gzipped_stream_is_read(faulty_server):
    """Compressed event streams are decoded as they arrive."""
    reply = Reply(200, {"content-type": "text/event-stream"}, delta("ab", "stop") + DONE, gzip=True)
    faulty_server.queue(CHAT_PATH, reply)

    assert [c.choices[0].delta.content for c in ask(faulty_server)] == ["ab"]


def test_a_strict_server_sees_nothing_wrong(faulty_server):
    """The default server checks every field of what we send."""
    with FaultyServer(api_key="sk-1234") as server:
        assert list(ask(server, api_key="sk-1234", temperature=0, n=1))
        assert server.malformed == []
