"""Recording and replaying: the same answers again, from a file, without network and secrets."""

from __future__ import annotations

import json
import re
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.recording import record, replay
from scillm.records import HttpCall, HttpReply, HttpStream, evolve
from scillm.runs.cassette import RecordingTransport, ReplayTransport
from scillm.runs.cassette_rows import (
    SCHEMA,
    Row,
    differences,
    head_line,
    key_of,
    line_of,
    masked_pieces,
    request_of,
    rows_of,
    secrets_of,
    unrecorded,
)
from support.faulty import (
    CHAT_PATH,
    Gate,
    Json,
    Pause,
    RefuseAfterAccept,
    Reply,
    Reset,
    Sse,
    Stall,
    completion_object,
    event,
)

KEY = "sk-cassette-0123456789"
MESSAGES = [{"role": "user", "content": "grüße"}]


def target(server):
    return {"model": "openai/m", "api_base": server.base_url, "api_key": KEY}


ELSEWHERE = {"model": "openai/m", "api_base": "http://127.0.0.1:9/v1", "api_key": "none"}


def delta(text, finish_reason=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return event({"id": "c", "model": "m", "choices": [choice]})


# -- through the Router ----------------------------------------------------------------------------


def test_a_pipeline_that_calls_scillm_completion_is_recorded_and_replayed(faulty_server, tmp_path):
    """Inside the block `scillm.completion` goes through the session, and after it no longer."""
    with record(tmp_path / "run.cassette"):
        then = scillm.completion(messages=MESSAGES, **target(faulty_server))

    with replay(tmp_path / "run.cassette"):
        now = scillm.completion(messages=MESSAGES, **ELSEWHERE)
        with pytest.raises(errors.CassetteError):
            scillm.completion(messages=MESSAGES, **ELSEWHERE)
    scillm.completion(messages=MESSAGES, **target(faulty_server))

    assert (now.text, now.to_dict()) == (then.text, then.to_dict())
    assert len(faulty_server.requests) == 2


def test_a_pipeline_runs_again_without_its_server(faulty_server, tmp_path):
    """Calls and streams give the same answers, from another base and with another key."""
    path = tmp_path / "run.cassette"

    def pipeline(router, where):
        first = router.completion(messages=MESSAGES, **where)
        asked = [*MESSAGES, first.choices[0].message, {"role": "user", "content": "and?"}]
        with router.completion(messages=asked, stream=True, **where) as stream:
            return first.to_dict(), [chunk.to_dict() for chunk in stream]

    with record(path, settings={}) as router:
        then = pipeline(router, target(faulty_server))
    with replay(path, settings={}) as router:
        now = pipeline(router, ELSEWHERE)

    assert now == then
    assert len(faulty_server.requests) == 2


def test_async_callers_record_and_replay_too(faulty_server, tmp_path):
    """`async with` does the same on the caller's own loop."""
    path = tmp_path / "run.cassette"

    async def main():
        async with record(path, settings={}) as router:
            then = await router.acompletion(messages=MESSAGES, **target(faulty_server))
        async with replay(path, settings={}) as router:
            now = await router.acompletion(messages=MESSAGES, **ELSEWHERE)
        return then.text, now.text

    assert anyio.run(main) == ("echo:grüße", "echo:grüße")


def test_no_secret_is_in_the_file(faulty_server, tmp_path):
    """Not the key, though the server repeats it; not a header, though it carries a password."""
    complaint = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    headers = {"set-cookie": "session=abcdefgh", "x-request-id": "r-1", "retry-after": "7"}
    faulty_server.queue(CHAT_PATH, Json(complaint, 401, headers))
    path = tmp_path / "run.cassette"

    call = {**target(faulty_server), "extra_headers": {"x-pass-token": "hunter2hunter2"}}
    with record(path, settings={}) as router, pytest.raises(errors.AuthenticationError):
        router.completion(messages=MESSAGES, **call)

    text = path.read_text()
    assert not re.search(rf"{KEY}|hunter2|abcdefgh|Bearer|127\.0\.0\.1", text)
    with replay(path, settings={}) as router, pytest.raises(errors.AuthenticationError) as caught:
        router.completion(messages=MESSAGES, **ELSEWHERE)
    assert (caught.value.retry_after, caught.value.request_id) == (7.0, "r-1")


@pytest.mark.parametrize(
    ("behaviour", "cls"),
    [
        (Json({"error": {"message": "slow"}}, 429, {"retry-after": "3"}), errors.RateLimitError),
        (RefuseAfterAccept(), errors.APIConnectionError),
        (Stall(5, Json({})), errors.APITimeoutError),
        (Reply(200, {}, b"\xff\xfe"), errors.MalformedReplyError),
    ],
)
def test_failures_are_replayed_as_they_were(faulty_server, tmp_path, behaviour, cls):
    """A recorded error comes back as the same class; a recorded status as its own error."""
    faulty_server.queue(CHAT_PATH, behaviour)
    path = tmp_path / "run.cassette"
    with record(path, settings={}) as router, pytest.raises(cls) as then:
        router.completion(messages=MESSAGES, timeout=0.3, **target(faulty_server))

    with replay(path, settings={}) as router, pytest.raises(cls) as now:
        router.completion(messages=MESSAGES, **ELSEWHERE)

    assert type(now.value) is type(then.value)
    assert now.value.retry_after == then.value.retry_after


def test_equal_requests_are_answered_in_order(faulty_server, tmp_path):
    """Asking twice gave two answers; so it does again, and a third time is an error."""
    for text in ("one", "two"):
        faulty_server.queue(CHAT_PATH, Json(completion_object(text)))
    path = tmp_path / "run.cassette"
    with record(path, settings={}) as router:
        for _ in range(2):
            router.completion(messages=MESSAGES, **target(faulty_server))

    with replay(path, settings={}) as router:
        texts = [router.completion(messages=MESSAGES, **ELSEWHERE).text for _ in range(2)]
        with pytest.raises(errors.CassetteError, match="came once more"):
            router.completion(messages=MESSAGES, **ELSEWHERE)

    assert texts == ["one", "two"]


def test_an_unrecorded_request_names_the_nearest(faulty_server, tmp_path):
    """The error says what was asked, and in which fields the nearest recorded request differs."""
    path = tmp_path / "run.cassette"
    with record(path, settings={}) as router:
        router.completion(messages=MESSAGES, temperature=0, **target(faulty_server))
        router.completion(messages=[{"role": "user", "content": "x"}], **target(faulty_server))

    with replay(path, settings={}) as router, pytest.raises(errors.CassetteError) as caught:
        router.completion(messages=MESSAGES, temperature=1, **ELSEWHERE)

    assert "does not hold POST /v1/chat/completions" in str(caught.value)
    assert "/body/json/temperature is 1, not 0" in str(caught.value)


def test_a_recording_does_not_overwrite_another(faulty_server, tmp_path):
    """What was paid for is not lost by a second run."""
    path = tmp_path / "run.cassette"
    path.write_text("precious")

    with pytest.raises(errors.CassetteError, match="exists"), record(path, settings={}):
        pass

    assert path.read_text() == "precious"
    with record(path, overwrite=True, settings={}):
        pass
    assert path.read_text() == head_line()


def test_a_missing_cassette_is_named(tmp_path):
    """The error says how a cassette is made."""
    with pytest.raises(errors.CassetteError, match=r"scillm\.record"), replay(tmp_path / "none"):
        pass


# -- streams, piece by piece -----------------------------------------------------------------------

CALL = HttpCall(method="POST", url="http://h/v1/x?key=abc", body=b'{"a": 1}', timeout_s=0.2)


class Scripted:
    """A transport whose streams are these pieces: bytes, an error that is raised, None to wait."""

    def __init__(self, pieces):
        self.pieces = pieces

    async def send(self, call, /):
        raise AssertionError

    @asynccontextmanager
    async def stream(self, call, /):
        async with aclosing(self.chunks()) as chunks:
            yield HttpStream(status=200, headers={"content-type": "t"}, chunks=chunks)

    async def chunks(self):
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                await anyio.sleep_forever()
            yield piece


def recorded(path, pieces, *, taken=None):
    """Record a stream of `pieces`, of which `taken` are read (None: all), ready to be replayed."""

    async def main():
        transport = RecordingTransport(Scripted(pieces), path)
        seen = 0
        with suppress(StopAsyncIteration, errors.ProviderError):
            async with transport.stream(CALL) as head:
                with anyio.move_on_after(0.1):
                    while seen != taken:
                        await anext(aiter(head.chunks))
                        seen += 1
        transport.finish()

    anyio.run(main)
    return ReplayTransport(path)


def replayed(transport):
    """The pieces, and the class of the error that ended them."""
    seen = []

    async def main():
        async with transport.stream(CALL) as head:
            async for piece in head.chunks:
                seen.append(piece)  # noqa: PERF401 - what came before an error counts

    try:
        anyio.run(main)
    except errors.ScillmError as error:
        return seen, type(error)
    return seen, None


def test_piece_boundaries_are_kept(tmp_path):
    """A stream comes in the same pieces, also when they cut a character in two."""
    pieces = [b"data: gr\xc3", b"\xbc\xc3\x9fe\n", b"\n", b"\x00\xff"]

    assert replayed(recorded(tmp_path / "c", pieces)) == (pieces, None)


def test_a_stream_that_broke_breaks_again(tmp_path):
    """The pieces before the break, then the same error."""
    pieces = [b"a", errors.APIConnectionError("broke")]

    assert replayed(recorded(tmp_path / "c", pieces)) == ([b"a"], errors.APIConnectionError)


def test_reading_past_where_a_stream_was_left_is_an_error(tmp_path):
    """What was never read cannot be replayed; it is not taken for the end."""
    transport = recorded(tmp_path / "c", [b"a", b"b", b"c"], taken=2)

    assert replayed(transport) == ([b"a", b"b"], errors.CassetteError)


def test_a_silence_is_a_silence_again(tmp_path):
    """Where the caller gave up waiting, the replay is silent for the call's time."""
    transport = recorded(tmp_path / "c", [b"a", None])

    assert replayed(transport) == ([b"a"], errors.APITimeoutError)


def test_an_interrupted_stream_of_a_server_is_replayed(faulty_server, tmp_path):
    """Through the Router: the same partial answer on the same error."""
    faulty_server.queue(CHAT_PATH, Sse([delta("half "), Pause(0.05), Reset()]))
    path = tmp_path / "run.cassette"
    with record(path, settings={}) as router, pytest.raises(errors.StreamInterruptedError):
        list(router.completion(messages=MESSAGES, stream=True, **target(faulty_server)))

    with replay(path, settings={}) as router, pytest.raises(errors.StreamInterruptedError) as now:
        list(router.completion(messages=MESSAGES, stream=True, **ELSEWHERE))

    assert now.value.partial.text == "half "


def test_a_stream_without_an_end_is_left_in_both(faulty_server, tmp_path):
    """A server that stays silent after [DONE] does not make the replay fail."""
    faulty_server.queue(CHAT_PATH, Sse([delta("a", "stop"), event("[DONE]"), Gate()]))
    path = tmp_path / "run.cassette"
    with record(path, settings={}) as router:
        list(router.completion(messages=MESSAGES, stream=True, **target(faulty_server)))

    with replay(path, settings={}) as router:
        stream = router.completion(messages=MESSAGES, stream=True, **ELSEWHERE)
        assert "".join(chunk.choices[0].delta.content for chunk in stream) == "a"


def test_calls_at_once_are_replayed_in_order_of_asking(tmp_path):
    """Equal requests answered out of order are given back in the order in which they were asked."""

    class Inner:
        def __init__(self):
            self.count = 0

        async def send(self, call, /):
            self.count += 1
            number = self.count
            await anyio.sleep(0.1 / number)  # the first is answered last
            return HttpReply(status=200, body=b"%d" % number)

        def stream(self, call, /):
            raise AssertionError

    async def main():
        transport = RecordingTransport(Inner(), tmp_path / "c")
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(transport.send, CALL)
        transport.finish()
        again = ReplayTransport(tmp_path / "c")
        assert len(again.unused()) == 3
        bodies = [(await again.send(CALL)).body for _ in range(3)]
        assert again.unused() == []
        return bodies

    assert anyio.run(main) == [b"1", b"2", b"3"]


def test_an_exchange_after_the_end_is_not_lost_silently(tmp_path):
    """A call that outlives its recording says so."""

    class Inner:
        async def send(self, call, /):
            return HttpReply(status=200)

        def stream(self, call, /):
            raise AssertionError

    transport = RecordingTransport(Inner(), tmp_path / "c")
    transport.finish()

    with pytest.raises(errors.CassetteError, match="has ended"):
        anyio.run(transport.send, CALL)


# -- rows ------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
ROWS = st.builds(
    Row,
    request=st.fixed_dictionaries({"method": st.just("POST"), "path": st.text(), "body": JSON}),
    nth=st.integers(0, 9),
    status=st.none() | st.integers(100, 599),
    headers=st.dictionaries(st.text(), st.text(), max_size=2),
    pieces=st.lists(st.binary(max_size=9)).map(tuple),
    end=st.sampled_from(["whole", "left", "silent", "failed"]),
    error=st.none() | st.tuples(st.text(), st.text()),
)


@given(rows=st.lists(ROWS, max_size=4))
def test_rows_survive_being_written(rows):
    """Every row comes back as it was, whatever bytes and characters are in it."""
    text = head_line() + "".join(map(line_of, rows))

    assert rows_of(text.splitlines(keepends=True), where="c") == rows
    assert text.isascii()


@given(row=ROWS, cut=st.integers(1, 40))
def test_a_cut_line_is_named(row, cut):
    """A torn file is refused with the number of its line, not read as less."""
    line = line_of(row)[:-1]

    with pytest.raises(errors.CassetteError, match="c, line 2"):
        rows_of([head_line(), line[: -min(cut, len(line) - 1)]], where="c")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}\n",
        "[]\n",
        json.dumps({"schema": SCHEMA + "0"}) + "\n",
        head_line() + "{}\n",
        head_line() + line_of(Row(request={}, nth=0, end="odd")),
        head_line() + line_of(Row(request={}, nth=0)).replace("[]", '[{"base64": "!"}]'),
    ],
)
def test_what_is_no_cassette_is_refused(text):
    """Empty files, other files and other versions are told apart from an empty recording."""
    with pytest.raises(errors.CassetteError, match=r"^c"):
        rows_of(text.splitlines(keepends=True), where="c")


@given(body=st.dictionaries(st.text(), JSON), seed=st.randoms(use_true_random=False))
def test_a_request_is_known_however_its_json_is_written(body, seed):
    """Order of keys and white space do not matter; the values do."""
    names = list(body)
    seed.shuffle(names)
    other = json.dumps({name: body[name] for name in names}, indent=3).encode()
    one = HttpCall(method="post", url="https://a/v1/x?k=1", body=json.dumps(body).encode())
    two = HttpCall(method="POST", url="http://b:8/v1/x#f", body=other)

    assert key_of(request_of(one)) == key_of(request_of(two))
    changed = HttpCall(method="POST", url=one.url, body=json.dumps([body]).encode())
    assert key_of(request_of(changed)) != key_of(request_of(one))


@pytest.mark.parametrize("body", [b"", b"text", b"\xff", b"NaN", b'"\\ud800"'])
def test_bodies_that_are_no_json_are_known_too(body):
    """Uploads and odd bodies have a request of their own."""
    request = request_of(HttpCall(method="POST", url="http://h", body=body))

    assert request["path"] == "/"
    assert json.loads(json.dumps(request)) == request


@given(data=st.lists(st.sampled_from([b"sk-12345", b"678", b"x", b"sk-", b"12345678"])))
def test_a_secret_is_masked_wherever_pieces_cut_it(data):
    """No secret is left in the joined pieces; pieces without any stay as they are."""
    secret = b"sk-12345678"
    pieces = masked_pieces(data, [secret])

    assert secret not in b"".join(pieces)
    assert b"".join(pieces) == b"".join(data).replace(secret, b"***")
    if secret not in b"".join(data):
        assert pieces == tuple(data)


def test_secrets_are_known_in_the_forms_json_gives_them():
    """Bearer tokens bare too, and with escaped slashes; placeholders stay readable."""
    headers = {"authorization": "Bearer abc/def/ghi", "x-api-key": "test", "accept": "text/plain"}
    found = secrets_of(headers)

    assert {b"abc/def/ghi", rb"abc\/def\/ghi", b"Bearer abc/def/ghi"} <= set(found)
    assert b"test" not in found
    assert b"text/plain" not in found


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("https://h/v1?alt=sse&key=AIza-secret-12", b"AIza-secret-12"),
        ("https://h/v1?api_token=a%2Fb%2Fc%2Fd%2Fe#x", b"a/b/c/d/e"),
        ("https://someone:hunter2hunter2@h/v1", b"hunter2hunter2"),
        ("https://h/v1?q=nothing-of-the-kind", None),
        ("http://[half/v1", None),
    ],
)
def test_credentials_of_a_url_are_secrets_too(url, secret):
    """A server or an error may repeat the URL it was asked at."""
    found = secrets_of({}, url)

    assert (secret in found) if secret else (found == ())


def test_an_error_that_repeats_the_url_is_masked(tmp_path):
    """Some APIs take their key in the query; it is in no line of the file."""
    call = evolve(CALL, url="http://h/v1/x?key=AIza-secret-12")
    failed = errors.APIConnectionError("no answer from http://h/v1/x?key=AIza-secret-12")
    path = tmp_path / "c"

    async def main():
        transport = RecordingTransport(Scripted([failed]), path)
        with suppress(errors.ProviderError):
            async with transport.stream(call) as head:
                await anext(aiter(head.chunks))
        transport.finish()

    anyio.run(main)

    assert "AIza" not in path.read_text()
    assert "no answer from" in path.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told():
    """A recording that cannot be written is an error of ours that says what to do, every time."""
    with pytest.raises(errors.CassetteError, match="could not be written: No space"):
        RecordingTransport(Scripted([]), "/dev/full", overwrite=True)


def test_differences_are_named_by_pointer():
    """Nested values, missing ones, lengths, types and long texts."""
    came = {"a": [1, {"b": 2}], "c": 1, "d": "x" * 100, "f": True}
    then = {"a": [1, {"b": 3}], "d": "y" * 100, "e": [1], "f": 1}

    assert differences(came, then) == [
        "/a/1/b is 2, not 3",
        "/c is 1, not absent",
        f"/d is 'xxx{'x' * 36}…{'x' * 29}', not 'yyy{'y' * 36}…{'y' * 29}'",
        "/f is True, not 1",
        "/e is absent, not [1]",
    ]
    assert differences([1], [1, 2]) == ["/ is [1], not [1, 2]"]
    assert differences({"a": None}, {"a": None}) == []


def test_an_empty_cassette_says_so():
    """Nothing recorded means nothing is near."""
    error = unrecorded({"method": "GET", "path": "/x", "body": ""}, [], where="c")

    assert "holds no exchange" in str(error)
