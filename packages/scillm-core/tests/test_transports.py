"""Both transports keep the same promises, against a real server that misbehaves on request."""

from __future__ import annotations

import gc
import gzip
import json
import socket
import ssl
import subprocess
import sys
import threading
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path

import anyio
import attrs
import pytest
from scillm import errors
from scillm.http.aiohttp_transport import AiohttpTransport
from scillm.http.proxies import ProxyRules
from scillm.http.transport import HttpxTransport
from scillm.protocols import Closes, Transport
from scillm.records import HttpCall
from support.certificates import make_certificates
from support.faulty import (
    CHAT_PATH,
    Close,
    FaultyServer,
    Gate,
    Json,
    Pause,
    Raw,
    RefuseAfterAccept,
    Reply,
    Reset,
    ResetMidBody,
    Sse,
    Stall,
    WrongLength,
)
from support.proxy import HttpProxy

BODY = b'{"answer": "\xc3\xbc"}'
SECRET = "sk-0123456789-secret"


@attrs.frozen
class Way:
    """A transport on an event loop."""

    kind: type
    backend: str

    def make(self, **options):
        return self.kind(**options)

    def run(self, main, **options):
        """What `main(transport)` returns; the transport is closed afterwards."""

        async def whole():
            transport = self.make(**options)
            try:
                return await main(transport)
            finally:
                await transport.aclose()

        return anyio.run(whole, backend=self.backend)

    def send(self, call, **options):
        return self.run(lambda transport: transport.send(call), **options)

    def pieces(self, call, **options):
        """Status and pieces of a streamed reply."""

        async def main(transport):
            async with transport.stream(call) as head:
                return head.status, [piece async for piece in head.chunks]

        return self.run(main, **options)


WAYS = [
    pytest.param(Way(HttpxTransport, "asyncio"), id="httpx"),
    pytest.param(Way(HttpxTransport, "trio"), id="httpx-trio"),
    pytest.param(Way(AiohttpTransport, "asyncio"), id="aiohttp"),
]
either = pytest.mark.parametrize("way", WAYS)


def call_to(server, path=CHAT_PATH, *, body=b"{}", method="POST", timeout_s=10.0, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpCall(
        method=method,
        url=f"{server.root_url}{path}",
        headers={"content-type": "application/json", **names},
        body=body,
        timeout_s=timeout_s,
    )


async def until(predicate, server):
    await anyio.to_thread.run_sync(server.wait_until, predicate)


# -- what is sent, what comes back -----------------------------------------------------------------


@either
def test_the_request_arrives_as_it_was_written(way, faulty_server):
    """Method, path, query, headers and body are the caller's; nothing is added but framing."""
    body = json.dumps({"text": "x" * 200_000}).encode()
    faulty_server.route("/v1/a%2Fb", Reply(200, {}, BODY))
    call = call_to(faulty_server, "/v1/a%2Fb?q=1%20x&y", body=body, authorization="Bearer k")

    way.send(call)

    seen = faulty_server.requests[0]
    assert (seen.method, seen.target, seen.body) == ("POST", "/v1/a%2Fb?q=1%20x&y", body)
    assert set(seen.headers) == {"host", "content-type", "authorization", "content-length"}
    assert seen.headers["host"] == f"127.0.0.1:{faulty_server.port}"
    assert faulty_server.malformed == []


@either
def test_head_and_body_of_a_small_request_leave_in_one_write(way, faulty_server):
    """A server that reads once has the whole request: one packet, one wake-up."""
    sizes = []
    with FaultyServer() as server:
        server.route(CHAT_PATH, lambda request: sizes.append(len(request.body)) or Json({}))
        way.send(call_to(server, body=b"[1]"))

    assert sizes == [3]


@either
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_call_without_body_works(way, faulty_server, method):
    """Models are listed with a GET, jobs deleted with a DELETE."""
    faulty_server.route("/x", Reply(200, {}, BODY))

    assert way.send(call_to(faulty_server, "/x", method=method, body=b"")).body == BODY
    assert faulty_server.requests[0].method == method


@either
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_reply_is_whole_whatever_its_framing(way, faulty_server, framing, status):
    """Status, lower-case header names and the body come back; no status is an error here."""
    headers = {"X-Request-ID": "Abc", "Retry-After": "7"}
    faulty_server.queue(CHAT_PATH, Reply(status, headers, [BODY, BODY], framing=framing))

    reply = way.send(call_to(faulty_server))

    assert (reply.status, reply.body) == (status, BODY * 2)
    assert reply.headers["x-request-id"] == "Abc"
    assert reply.headers["retry-after"] == "7"
    assert all(name == name.lower() for name in reply.headers)


@either
def test_an_empty_reply_is_whole(way, faulty_server):
    """204 has no body, and the connection lives on."""
    faulty_server.route(CHAT_PATH, Reply(204, {}, b""))

    async def main(transport):
        return [await transport.send(call_to(faulty_server)) for _ in range(2)]

    assert [reply.body for reply in way.run(main)] == [b"", b""]
    assert faulty_server.connections == 1


@either
def test_redirects_are_not_followed_and_cookies_not_kept(way, faulty_server):
    """A key is never carried to an address that a server names, nor a session built up."""
    headers = {"location": "/elsewhere", "set-cookie": "a=b"}
    faulty_server.route(CHAT_PATH, Reply(307, headers, b""))

    async def main(transport):
        return [await transport.send(call_to(faulty_server)) for _ in range(2)]

    replies = way.run(main)

    assert [(reply.status, reply.headers["location"]) for reply in replies] == [
        (307, "/elsewhere")
    ] * 2
    assert [request.path for request in faulty_server.requests] == [CHAT_PATH] * 2
    assert all("cookie" not in request.headers for request in faulty_server.requests)


@either
def test_a_password_in_a_url_is_not_sent_and_not_shown(way, faulty_server):
    """Credentials travel in headers that the provider writes, and nowhere else."""
    url = f"http://user:{SECRET}@127.0.0.1:{faulty_server.port}{CHAT_PATH}?key={SECRET}"
    faulty_server.queue(CHAT_PATH, Json({}), RefuseAfterAccept())

    async def main(transport):
        await transport.send(HttpCall(method="POST", url=url, body=b"{}"))
        with pytest.raises(errors.APIConnectionError) as caught:
            await transport.send(HttpCall(method="POST", url=url, body=b"{}"))
        return caught.value

    error = way.run(main)

    assert "authorization" not in faulty_server.requests[0].headers
    assert SECRET not in str(error)


# -- coding ----------------------------------------------------------------------------------------


def raw_deflate(data):
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


CODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    " Deflate ": raw_deflate(BODY),
    "identity": BODY,
    "deflate, gzip": gzip.compress(zlib.compress(BODY)),
}


@either
@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("streamed", [False, True])
def test_compressed_bodies_are_decoded(way, faulty_server, coding, streamed):
    """gzip and deflate, with and without zlib header, also one in the other, cut anywhere."""
    data = CODED[coding]
    pieces = [data[:3], Pause(0.01), data[3:]]
    headers = {"content-encoding": coding}
    faulty_server.queue(CHAT_PATH, Reply(200, headers, pieces, framing="chunked"))
    call = call_to(faulty_server)

    body = b"".join(way.pieces(call)[1]) if streamed else way.send(call).body

    assert body == BODY


@either
@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", b"this is not gzip"),
        ("gzip", gzip.compress(BODY)[:-6]),
        ("deflate", zlib.compress(BODY)[:-6]),
        ("br", BODY),
    ],
    ids=["garbage", "cut gzip", "cut deflate", "unasked"],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_that_cannot_be_decoded_is_malformed(way, faulty_server, coding, data, streamed):
    """Garbage, and data that ends too early, are never taken for an answer."""
    faulty_server.queue(CHAT_PATH, Reply(200, {"content-encoding": coding}, data))

    with pytest.raises(errors.MalformedReplyError, match="cannot be decoded"):
        (way.pieces if streamed else way.send)(call_to(faulty_server))

    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)


@either
def test_a_reply_that_is_too_large_is_given_up(way, faulty_server):
    """Memory is bounded, also for what decompresses to a thousand times its size."""
    faulty_server.queue(CHAT_PATH, Reply(200, {}, b"x" * 200_000, gzip=True))

    with pytest.raises(errors.MalformedReplyError, match="larger than 100000 bytes"):
        way.send(call_to(faulty_server), max_reply_bytes=100_000)


@either
def test_long_heads_are_read(way, faulty_server):
    """Gateways send headers of several kilobytes."""
    faulty_server.queue(CHAT_PATH, Reply(200, {"x-long": "v" * 20_000}, BODY))

    assert way.send(call_to(faulty_server)).headers["x-long"] == "v" * 20_000


# -- what goes wrong -------------------------------------------------------------------------------

BROKEN = [
    (WrongLength(BODY), "broke"),
    (ResetMidBody(BODY), "broke"),
    (RefuseAfterAccept(), "broke"),
    (Raw([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", Reset()]), "broke"),
    (Raw([b"SSH-2.0-OpenSSH_9.2\r\n", Close()]), "broke"),
    (Raw([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"]), "broke"),
]


@either
@pytest.mark.parametrize(
    ("behaviour", "said"),
    BROKEN,
    ids=["length", "reset", "no reply", "reset in chunk", "no HTTP", "bad chunk"],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_broken_reply_is_a_connection_error(way, faulty_server, behaviour, said, streamed):
    """Whatever breaks says where, is worth another try, and leaves no connection behind."""
    faulty_server.queue(CHAT_PATH, behaviour)

    with pytest.raises(errors.APIConnectionError, match=said) as caught:
        (way.pieces if streamed else way.send)(call_to(faulty_server, authorization=SECRET))

    assert type(caught.value) is errors.APIConnectionError
    assert f"http://127.0.0.1:{faulty_server.port}{CHAT_PATH}" in str(caught.value)
    assert SECRET not in f"{caught.value}{caught.value.__dict__}"
    assert len(faulty_server.requests) == 1
    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)


@either
def test_nobody_listening_is_a_connection_error(way):
    """The address is named; the cause too."""
    with FaultyServer() as server:
        call = call_to(server)

    with pytest.raises(errors.APIConnectionError, match="No connection could be made") as caught:
        way.send(call)

    assert call.url in str(caught.value)


@either
def test_an_unknown_name_is_a_connection_error(way):
    """A name that does not resolve is told apart from a broken exchange."""
    call = HttpCall(method="GET", url="http://nowhere.invalid/x", timeout_s=5)

    with pytest.raises(errors.APIConnectionError, match="No connection could be made"):
        way.send(call)


@either
@pytest.mark.parametrize("url", ["ftp://x/v1", "localhost:80", "http://", "http://[::1", "x", ""])
def test_a_url_that_cannot_be_used_is_refused(way, url):
    """Nothing is sent, and the message says what is wanted."""
    with pytest.raises(errors.UsageError, match="is wanted"):
        way.send(HttpCall(method="GET", url=url))


@either
@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "nul\0", "日本"], ids=["crlf", "nul", "kanji"])
def test_a_header_that_would_break_the_request_is_refused(way, faulty_server, value):
    """No header can smuggle in another one; the connection that was idle is not lost by it."""
    faulty_server.route("/x", Reply(200, {}, BODY))

    async def main(transport):
        await transport.send(call_to(faulty_server, "/x"))
        with pytest.raises(errors.UsageError):
            await transport.send(call_to(faulty_server, x_note=value))
        await transport.aclose()
        await until(lambda: faulty_server.open_connections == 0, faulty_server)

    way.run(main)

    assert [request.path for request in faulty_server.requests] == ["/x"]


@either
@pytest.mark.parametrize(
    "behaviour",
    [
        Stall(5, Json({})),
        Stall(5, Json({"pad": "x" * 99}), 20),
        Sse([b"a", Pause(0.1), b"b", Pause(0.1), b"c", Pause(0.1), b"d", Pause(0.1), b"e"]),
    ],
    ids=["before", "within", "dripping"],
)
def test_the_time_of_a_call_bounds_all_of_it(way, faulty_server, behaviour):
    """Silence, a stall in the body, and a body that drips: each ends with the call's time."""
    faulty_server.queue(CHAT_PATH, behaviour)

    with pytest.raises(errors.APITimeoutError, match=r"within 0\.3 s"):
        way.send(call_to(faulty_server, timeout_s=0.3))

    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)


@either
def test_the_time_of_a_stream_bounds_each_silence_only(way, faulty_server):
    """A stream may last longer than its time, as long as it says something."""
    pieces = [b"a", Pause(0.15), b"b", Pause(0.15), b"c", Pause(0.15), b"d"]
    faulty_server.queue(CHAT_PATH, Sse(pieces))

    assert b"".join(way.pieces(call_to(faulty_server, timeout_s=0.35))[1]) == b"abcd"


@either
@pytest.mark.parametrize("pieces", [[b"a", Gate()], [Gate()]], ids=["after a piece", "after head"])
def test_a_silence_in_a_stream_is_a_timeout(way, faulty_server, pieces):
    """What a stream says after its time is not waited for, and the connection is closed."""
    faulty_server.queue(CHAT_PATH, Sse(pieces))

    with pytest.raises(errors.APITimeoutError, match="in time"):
        way.pieces(call_to(faulty_server, timeout_s=0.3))

    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)


@either
def test_a_slow_reader_is_no_silent_server(way, faulty_server):
    """Time that the caller takes for a piece is not charged to the server."""
    faulty_server.queue(CHAT_PATH, Sse([b"a", Pause(0.5), b"b"]))

    async def main(transport):
        seen = b""
        async with transport.stream(call_to(faulty_server, timeout_s=0.3)) as head:
            async for piece in head.chunks:
                seen += piece
                await anyio.sleep(0.4)
        return seen

    assert way.run(main) == b"ab"


@either
def test_connecting_has_a_time_of_its_own(way):
    """A server that takes no connections is given up long before the call's time."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # A full queue: the kernel leaves further connections unanswered.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.settimeout(0)
            one.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        try:
            with pytest.raises(errors.APITimeoutError, match="No connection to"):
                way.send(HttpCall(method="GET", url=url, timeout_s=30), connect_timeout_s=0.3)
        finally:
            for one in waiting:
                one.close()


# -- streams and connections -----------------------------------------------------------------------


@either
def test_pieces_are_handed_over_as_they_come(way, faulty_server):
    """The first piece is here while the server still holds the second back."""
    gate = Gate()
    faulty_server.queue(CHAT_PATH, Sse([b"a", gate, b"b"]))

    async def main(transport):
        async with transport.stream(call_to(faulty_server)) as head:
            first = await anext(aiter(head.chunks))
            assert not gate.is_open
            gate.open()
            return head.headers["content-type"], first, [piece async for piece in head.chunks]

    kind, first, rest = way.run(main)

    assert kind.startswith("text/event-stream")
    assert (first, rest) == (b"a", [b"b"])


@either
@pytest.mark.parametrize("taken", [0, 1])
def test_leaving_a_stream_early_closes_its_connection(way, faulty_server, taken):
    """The server sees the client go while the caller's own loop runs on."""
    faulty_server.queue(CHAT_PATH, Sse([b"a", Gate(), b"b"]))

    async def main(transport):
        async with transport.stream(call_to(faulty_server)) as head:
            for _ in range(taken):
                await anext(aiter(head.chunks))
        await until(lambda: faulty_server.open_connections == 0, faulty_server)
        return head

    head = way.run(main)
    del head
    gc.collect()

    assert len(faulty_server.disconnects) == 1


@either
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("behaviour", [Stall(20, Json({})), Sse([b"a", Gate()])])
def test_a_cancelled_call_closes_its_connection(way, faulty_server, streamed, behaviour):
    """Whoever cancels is obeyed at once, and the upstream is let go."""
    faulty_server.queue(CHAT_PATH, behaviour)
    call = call_to(faulty_server)

    async def main(transport):
        with anyio.move_on_after(0.2) as scope:
            if streamed:
                async with transport.stream(call) as head:
                    async for _ in head.chunks:
                        pass
            else:
                await transport.send(call)
        assert scope.cancelled_caught
        await until(lambda: faulty_server.open_connections == 0, faulty_server)
        return await transport.send(call)

    assert way.run(main).status in (200, 400)


@either
def test_calls_in_turn_share_a_connection(way, faulty_server):
    """Plain calls, streams read to their end and error replies all give it back."""
    faulty_server.route("/x", Reply(500, {}, BODY))
    faulty_server.route("/s", Sse([b"a", b"b"]))

    async def main(transport):
        for _ in range(4):
            await transport.send(call_to(faulty_server, "/x"))
            async with transport.stream(call_to(faulty_server, "/s")) as head:
                assert b"".join([piece async for piece in head.chunks]) == b"ab"

    way.run(main)

    assert faulty_server.connections == 1
    assert len(faulty_server.requests) == 8


@either
def test_a_connection_that_the_server_closed_is_not_used_again(way, faulty_server):
    """Keep-alive is a courtesy; its end costs a connection, not a call."""
    faulty_server.route(CHAT_PATH, Reply(200, {}, BODY, keep_alive=False))

    async def main(transport):
        for _ in range(3):
            assert (await transport.send(call_to(faulty_server))).body == BODY
            await anyio.sleep(0.02)

    way.run(main)

    assert faulty_server.connections == 3


@contextmanager
def lost_tls_is_closed():
    """asyncio of 3.10 calls a TLS transport unclosed whose connection is already lost."""
    with warnings.catch_warnings():
        if sys.version_info < (3, 11):
            warnings.simplefilter("ignore", ResourceWarning)
        yield


@either
@pytest.mark.parametrize("secure", [False, True])
def test_a_connection_that_ended_while_it_was_idle_is_not_used_again(way, certificates, secure):
    """Servers give up idle connections without a word; the next call opens another."""
    goodbye = Raw([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Close()])
    with FaultyServer(tls=certificates.server_context() if secure else None) as server:
        server.route("/x", goodbye)

        async def main(transport):
            for _ in range(4):
                assert (await transport.send(call_to(server, "/x"))).body == b"ok"
                await anyio.sleep(0.1)  # the goodbye arrives; over TLS the server waits for ours

        with lost_tls_is_closed():
            way.run(main, ca_bundle=certificates.authority)
            gc.collect()

        server.wait_until(lambda: server.open_connections == 0)
        assert server.connections == 4


@either
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_sent_twice(way, faulty_server, method):
    """A kept connection that breaks under a request is an error, not a silent second request."""
    faulty_server.queue("/x", Reply(200, {}, BODY), RefuseAfterAccept(), Reply(200, {}, BODY))
    call = call_to(faulty_server, "/x", method=method, body=b"")

    async def main(transport):
        await transport.send(call)
        with pytest.raises(errors.APIConnectionError):
            await transport.send(call)

    way.run(main)

    assert len(faulty_server.requests) == 2


@either
@pytest.mark.parametrize("at_once", [100, 200])
def test_calls_at_once_mix_nothing_and_reuse_their_connections(way, faulty_server, at_once):
    """Every caller gets its own answer; as many calls once more open no further connection."""
    faulty_server.route("/echo", lambda request: Reply(200, {}, request.body))
    answers = {}

    async def main(transport):
        async def one(number):
            call = call_to(faulty_server, "/echo", body=b"%d" % number, timeout_s=60.0)
            answers[number] = (await transport.send(call)).body

        for start in (0, at_once):
            async with anyio.create_task_group() as group:
                for number in range(start, start + at_once):
                    group.start_soon(one, number)

    way.run(main, connect_timeout_s=60.0)

    assert answers == {number: b"%d" % number for number in range(2 * at_once)}
    assert faulty_server.connections <= at_once


@either
def test_closing_lets_go_of_every_connection_and_calls_still_work(way, faulty_server):
    """`aclose` may be called at any time, and more than once."""

    async def main(transport):
        await transport.aclose()
        for _ in range(2):
            await transport.send(call_to(faulty_server, method="GET", body=b""))
            await transport.aclose()
            await transport.aclose()
            await until(lambda: faulty_server.open_connections == 0, faulty_server)

    way.run(main)

    assert faulty_server.connections == 2


@either
def test_the_end_of_the_loop_closes_what_was_left_open(way, faulty_server):
    """Two loops, one transport, nothing closed by hand: no connection is left, no warning."""
    transport = way.make()
    for _ in range(2):
        anyio.run(transport.send, call_to(faulty_server), backend=way.backend)

    gc.collect()
    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)
    assert faulty_server.connections == 2


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
@either
def test_faults_leave_no_file_open(way, faulty_server):
    """After every kind of break the process holds as many files as before."""
    behaviours = [behaviour for behaviour, _ in BROKEN] + [Reply(200, {}, BODY)]

    async def main(transport):
        await transport.send(call_to(faulty_server, method="GET", body=b""))
        await transport.aclose()
        await until(lambda: faulty_server.open_connections == 0, faulty_server)
        before = open_files()
        for behaviour in behaviours * 3:
            faulty_server.queue(CHAT_PATH, behaviour)
            try:
                await transport.send(call_to(faulty_server))
            except errors.APIConnectionError:
                continue
        await transport.aclose()
        await until(lambda: faulty_server.open_connections == 0, faulty_server)
        return before, open_files()

    before, after = way.run(main)

    assert after <= before


SCRIPT = """
import sys, anyio
from scillm.records import HttpCall
from scillm.http.{module} import {name}
transport = {name}(ca_bundle={ca!r})
async def main():
    call = HttpCall(method="GET", url=sys.argv[1] + "/v1/models")
    print((await transport.send(call)).status)
    async with transport.stream(call) as head:
        print(head.status)
anyio.run(main)
"""


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("module", "name"),
    [("transport", "HttpxTransport"), ("aiohttp_transport", "AiohttpTransport")],
)
def test_a_script_that_closes_nothing_ends_without_a_warning(tmp_path, module, name, tls):
    """No unclosed socket and no pending task, with and without TLS."""
    made = make_certificates(tmp_path)
    script = SCRIPT.format(module=module, name=name, ca=str(made.authority))
    with FaultyServer(tls=made.server_context() if tls else None) as server:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", script, server.root_url],
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert (done.stdout.split(), done.stderr) == (["200", "200"], "")


def test_both_are_transports_that_close():
    """What the Router asks of a transport, both have."""
    for kind in (HttpxTransport, AiohttpTransport):
        assert isinstance(kind(), Transport)
        assert isinstance(kind(), Closes)


def test_aiohttp_on_trio_is_a_clear_error(faulty_server):
    """The message names the transport that works there; nothing is sent."""
    transport = AiohttpTransport()

    with pytest.raises(errors.UsageError, match="SCILLM_TRANSPORT=httpx"):
        anyio.run(transport.send, call_to(faulty_server), backend="trio")

    assert faulty_server.requests == []


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority nobody trusts, and a certificate for 127.0.0.1."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_server(certificates):
    """A server with that certificate."""
    with FaultyServer(tls=certificates.server_context()) as server:
        server.route("/x", Reply(200, {}, BODY))
        yield server


@either
def test_a_given_authority_is_trusted(way, tls_server, certificates):
    """`ca_bundle` makes a private server reachable; streams and reuse work over TLS too."""
    tls_server.route("/s", Sse([b"a", Pause(0.02), b"b"]))

    async def main(transport):
        async with transport.stream(call_to(tls_server, "/s")) as head:
            assert b"".join([piece async for piece in head.chunks]) == b"ab"
        return await transport.send(call_to(tls_server, "/x"))

    assert way.run(main, ca_bundle=certificates.authority).body == BODY
    assert tls_server.connections == 1


@either
def test_a_folder_of_authorities_is_trusted(way, tls_server, certificates, tmp_path):
    """`ca_bundle` may be a folder as `openssl rehash` makes it."""
    (tmp_path / "authority.pem").write_bytes(certificates.authority.read_bytes())
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True, capture_output=True)

    assert way.send(call_to(tls_server, "/x"), ca_bundle=tmp_path).body == BODY


@either
def test_an_unknown_authority_is_refused(way, tls_server):
    """A certificate nobody vouches for: no request is sent, and the reason is said."""
    with pytest.raises(errors.APIConnectionError, match=r"(?i)certificate.verify.failed"):
        way.send(call_to(tls_server, "/x"))

    assert tls_server.requests == []


@either
def test_a_certificate_for_another_host_is_refused(way, tls_server, certificates):
    """Trust in the authority is not trust in every name."""
    call = attrs.evolve(call_to(tls_server, "/x"), url=f"https://127.0.0.2:{tls_server.port}/x")

    with pytest.raises(errors.APIConnectionError):
        way.send(call, ca_bundle=certificates.authority)

    assert tls_server.requests == []


@either
def test_a_server_without_tls_is_given_up_in_the_time_for_connecting(way, faulty_server):
    """`https://` typed for a server that waits for plain HTTP: the handshake has its limit."""
    url = faulty_server.root_url.replace("http:", "https:")

    with pytest.raises(errors.APITimeoutError, match="No connection to"):
        way.send(HttpCall(method="GET", url=url, timeout_s=30), connect_timeout_s=0.3)


@either
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bundle_that_cannot_be_read_is_named(way, tls_server, tmp_path, content):
    """A wrong path, or a file without a certificate, is a wrong setting."""
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)

    with pytest.raises(errors.SettingsError, match=r"bundle\.pem"):
        way.send(call_to(tls_server, "/x"), ca_bundle=bundle)


@either
def test_a_break_within_tls_is_a_connection_error(way, tls_server, certificates):
    """Resets are told apart from answers over TLS as well."""
    tls_server.queue("/x", ResetMidBody(BODY * 100))

    with lost_tls_is_closed():
        with pytest.raises(errors.APIConnectionError, match="broke"):
            way.send(call_to(tls_server, "/x"), ca_bundle=certificates.authority)
        gc.collect()


@either
def test_a_second_connection_takes_the_session_up_again(way, certificates):
    """Only the first of several connections pays for certificates and signatures."""
    context = certificates.server_context()
    with FaultyServer(tls=context) as server:
        server.route("/x", Reply(200, {}, BODY, keep_alive=False))

        async def main(transport):
            for _ in range(4):
                assert (await transport.send(call_to(server, "/x"))).body == BODY

        way.run(main, ca_bundle=certificates.authority)

        stats = context.session_stats()

    assert (stats["accept_good"], stats["hits"]) == (4, 3)


@either
def test_a_server_without_a_goodbye_leaves_no_socket_open(way, certificates):
    """When the loop ends, so do its connections, even one whose TLS end was never answered."""
    held = threading.Event()

    def serve(listener):
        accepted, _ = listener.accept()
        with certificates.server_context().wrap_socket(accepted, server_side=True) as client:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            held.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        try:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
            call = HttpCall(method="GET", url=url, timeout_s=10.0)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                reply = way.send(call, ca_bundle=certificates.authority)
                gc.collect()
        finally:
            held.set()
            server.join()

    assert reply.body == b"ok"
    assert [str(one.message) for one in told if one.category is ResourceWarning] == []


# -- proxies ---------------------------------------------------------------------------------------


@either
def test_a_plain_call_is_forwarded_by_the_proxy(way, faulty_server):
    """The proxy gets the whole URL; loopback is no exception unless NO_PROXY makes it one."""
    with HttpProxy() as proxy:
        reply = way.send(
            call_to(faulty_server, "/v1/models?x=1", method="GET", body=b""),
            proxies=ProxyRules(http=proxy.url),
        )

        assert reply.status == 200
        assert proxy.asked == [f"GET {faulty_server.root_url}/v1/models?x=1"]
    assert faulty_server.requests[0].target == "/v1/models?x=1"
    assert faulty_server.requests[0].headers["host"] == f"127.0.0.1:{faulty_server.port}"


@either
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tls_call_is_tunnelled_unread(way, tls_server, certificates, streamed):
    """The proxy learns host and port, no path and no key; the tunnel is used again."""
    with HttpProxy() as proxy:
        call = call_to(tls_server, "/x", authorization=f"Bearer {SECRET}")

        async def main(transport):
            for _ in range(2):
                if streamed:
                    async with transport.stream(call) as head:
                        assert b"".join([piece async for piece in head.chunks]) == BODY
                else:
                    assert (await transport.send(call)).body == BODY

        way.run(main, proxies=ProxyRules(https=proxy.url), ca_bundle=certificates.authority)

        assert proxy.asked == [f"CONNECT 127.0.0.1:{tls_server.port}"]
        assert SECRET not in "".join(proxy.heads)
    assert len(tls_server.requests) == 2


@either
def test_a_proxy_with_a_password_gets_it_and_the_server_does_not(
    way, faulty_server, tls_server, certificates
):
    """Proxy credentials stay between client and proxy."""
    with HttpProxy(user="me", password="p%40ss") as proxy:
        rules = ProxyRules(http=proxy.url.replace("%", "%25"), https=proxy.url.replace("%", "%25"))
        for server in (faulty_server, tls_server):
            server.route("/x", Reply(200, {}, BODY))
            call = call_to(server, "/x")
            reply = way.send(call, proxies=rules, ca_bundle=certificates.authority)

            assert reply.body == BODY
            assert "proxy-authorization" not in server.requests[0].headers
        assert len(proxy.asked) == 2


@either
def test_a_tunnel_that_the_proxy_refuses_is_a_connection_error(way, tls_server):
    """407 of a proxy is no answer of the model's server; the password is not shown."""
    with HttpProxy(user="me", password=SECRET) as proxy:
        wrong = ProxyRules(https=f"http://me:not-{SECRET}@127.0.0.1:{proxy.port}")

        with pytest.raises(errors.APIConnectionError, match="407") as caught:
            way.send(call_to(tls_server, "/x"), proxies=wrong)

    assert SECRET not in f"{caught.value}{wrong!r}"
    assert tls_server.requests == []


@either
def test_a_proxy_that_is_down_is_a_connection_error(way, faulty_server):
    """The call is not sent past its proxy."""
    with HttpProxy() as proxy:
        url = proxy.url

    with pytest.raises(errors.APIConnectionError, match="No connection could be made"):
        way.send(call_to(faulty_server), proxies=ProxyRules(http=url))

    assert faulty_server.requests == []


@either
def test_a_host_of_no_proxy_is_reached_directly(way, faulty_server):
    """NO_PROXY wins over HTTP_PROXY."""
    rules = ProxyRules(http="http://127.0.0.1:1", no_proxy="example.org, 127.0.0.1")
    faulty_server.route("/x", Reply(200, {}, BODY))

    assert way.send(call_to(faulty_server, "/x"), proxies=rules).body == BODY


@either
def test_a_proxy_that_cannot_be_used_is_a_settings_error(way, faulty_server):
    """SOCKS proxies are not understood, and the message says so."""
    with pytest.raises(errors.SettingsError, match="socks5"):
        way.send(call_to(faulty_server), proxies=ProxyRules(http="socks5://127.0.0.1:1"))


def test_tls_contexts_verify_by_default():
    """What a transport trusts is certifi's authorities, names checked, TLS 1.2 and up."""
    from scillm.http.tls import client_context

    context = client_context()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) > 50
