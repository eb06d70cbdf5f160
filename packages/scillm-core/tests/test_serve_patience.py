"""Clients that hold a server's connections open for nothing, over real sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import httpx
import pytest
from scillm.models import ChatMessage, Choice, ChunkChoice, Completion, CompletionChunk, Delta
from scillm.serve.chat_app import ChatLimits, chat_app
from support.served import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scillm.records import ChatRequest

ASKED = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def hello(_request: ChatRequest) -> Completion:
    """Answers at once."""
    said = ChatMessage(content="hello")
    return Completion(model="m", choices=[Choice(message=said, finish_reason="stop")])


class Endless:
    """Streams for ever. Remembers when it began and when it was stopped."""

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent
        self.begun = threading.Event()
        self.stopped = threading.Event()

    async def complete(self, request: ChatRequest, /) -> Completion:
        return await hello(request)

    def stream(self, _request: ChatRequest, /) -> Any:
        return self

    async def __aenter__(self) -> AsyncIterator[CompletionChunk]:
        self.begun.set()
        try:
            if self.silent:
                await anyio.sleep_forever()
        except BaseException:
            self.stopped.set()
            raise
        return self._chunks()

    async def __aexit__(self, *_error: object) -> None:
        self.stopped.set()

    async def _chunks(self) -> AsyncIterator[CompletionChunk]:
        words = ChunkChoice(delta=Delta(content="x" * 100_000))
        while True:
            await anyio.lowlevel.checkpoint()
            yield CompletionChunk(model="m", choices=[words])


def connected(url: str) -> socket.socket:
    """A bare connection that gives up after 10 s."""
    return socket.create_connection(address(url), timeout=10)


def address(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def head(body: bytes = b"") -> bytes:
    """A question with `body`, as it goes over the wire."""
    path = b"POST /v1/chat/completions" if body else b"GET /healthz"
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return path + b" HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n" + body


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: local"])
def test_a_head_that_does_not_come_is_not_waited_for(sent: bytes) -> None:
    """A connection on which no whole request comes is closed; others are answered meanwhile."""
    with (
        served(chat_app(hello, models=["m"]), head_s=0.5) as url,
        closing(connected(url)) as slow,
    ):
        slow.sendall(sent)
        began = time.monotonic()
        answer = httpx.get(f"{url}/healthz", trust_env=False)
        rest = slow.recv(100)

        assert (answer.status_code, rest) == (200, b"")
        assert 0.3 < time.monotonic() - began < 5


def test_a_later_head_is_waited_for_no_longer_than_the_first() -> None:
    """Also the second request of a connection may not be sent byte by byte for ever."""
    with (
        served(chat_app(hello, models=["m"]), head_s=0.5) as url,
        closing(connected(url)) as slow,
    ):
        slow.sendall(head())
        first = b""
        while not first.endswith(b"}"):
            first += slow.recv(10_000)
        began = time.monotonic()
        rest = b"-"
        for byte in head():
            try:
                slow.sendall(bytes([byte]))
                slow.settimeout(0.1)
                rest = slow.recv(100)
            except TimeoutError:
                continue
            except OSError:
                rest = b""
            break

        assert first.startswith(b"HTTP/1.1 200")
        assert rest == b""
        assert time.monotonic() - began < 5


def test_a_slow_answer_is_not_a_late_head() -> None:
    """The wait for a head ends with the head, however long the answer then takes."""

    async def slowly(request: ChatRequest) -> Completion:
        await anyio.sleep(1.0)
        return await hello(request)

    with (
        served(chat_app(slowly, models=["m"]), head_s=0.3) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=10) as client,
    ):
        answers = [client.post("/v1/chat/completions", json=ASKED) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system cannot watch it")
def test_a_client_that_takes_nothing_counts_as_gone() -> None:
    """A stream that nobody reads is stopped, and its slot is free for others."""
    endless = Endless()
    app = chat_app(endless, models=["m"], limits=ChatLimits(max_concurrency=1, queue=0))
    with served(app, take_s=1.0) as url, closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(address(url))
        client.sendall(head(json.dumps({**ASKED, "stream": True}).encode()))
        begun = endless.begun.wait(10)
        was_stopped = endless.stopped.is_set()
        stopped = endless.stopped.wait(30)
        answer = httpx.post(f"{url}/v1/chat/completions", json=ASKED, trust_env=False, timeout=10)

        assert (begun, was_stopped, stopped) == (True, False, True)
        assert answer.status_code == 200


def test_a_stream_that_never_opens_has_an_end() -> None:
    """The limit of time holds up to the first piece too, whatever the provider does."""
    endless = Endless(silent=True)
    app = chat_app(endless, models=["m"], limits=ChatLimits(max_seconds=0.5))
    with served(app) as url:
        answer = httpx.post(
            f"{url}/v1/chat/completions",
            json={**ASKED, "stream": True},
            trust_env=False,
            timeout=10,
        )
        stopped = endless.stopped.wait(10)

    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "out_of_time"
    assert stopped


def test_headers_that_cannot_be_made_cost_no_slot() -> None:
    """What fails between a request and its work leaves the place of the request to others."""

    def broken(_request: ChatRequest) -> dict[str, str]:
        raise RuntimeError("no headers")

    app = chat_app(
        Endless(),
        models=["m"],
        headers=broken,
        limits=ChatLimits(max_concurrency=1, queue=1),
    )
    with served(app) as url:
        statuses = [
            httpx.post(
                f"{url}/v1/chat/completions",
                json={**ASKED, "stream": True},
                trust_env=False,
                timeout=10,
            ).status_code
            for _ in range(4)
        ]

    assert statuses == [500] * 4
