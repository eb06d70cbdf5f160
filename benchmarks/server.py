"""A chat server with canned answers, far faster than any client: python benchmarks/server.py

Prints its port and serves until standard input ends. `"stream":true` in the body asks for events,
`"max_tokens"` for how many. It checks nothing, so it says nothing about correctness.

Under `/random/v1` it refuses three requests of ten, under `/bucket/v1` those that a bucket of
`BUCKET_PER_S` has no token for, both with 429 and Retry-After. `GET /reset` begins new counts and
answers with the old ones.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from functools import cache
from random import Random

TEXT = "The answer is 42."
PIECE = "word "
EVENTS_PER_WRITE = 16
"""After the first event, which is written alone. One write each would measure the server."""

REFUSED_SHARE, PAUSE_S = 0.3, 0.1
BUCKET_PER_S, BUCKET_BURST = 200.0, 20.0

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
STREAM = re.compile(rb'"stream": *true')
COUNT = re.compile(rb'"max_tokens": *(\d+)')
TOP = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": "bench"}


@cache
def whole_reply() -> bytes:
    """The reply to a call that does not stream."""
    message = {"role": "assistant", "content": TEXT, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}
    answer = {**TOP, "object": "chat.completion", "choices": [choice], "usage": usage}
    body = json.dumps(answer).encode()
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
    return head.format(len(body)).encode() + body


def event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    """One event of a stream, in an HTTP chunk of its own."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    document = {**TOP, "object": "chat.completion.chunk", "choices": [choice]}
    return chunk(b"data: " + json.dumps(document).encode() + b"\n\n")


def chunk(data: bytes) -> bytes:
    """`data` in the chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@cache
def stream_writes(count: int) -> tuple[bytes, ...]:
    """Everything a stream of `count` pieces sends, write by write."""
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    piece = event({"content": PIECE})
    batches, rest = divmod(count - 1, EVENTS_PER_WRITE)
    end = event({}, "stop") + chunk(b"data: [DONE]\n\n") + chunk(b"")
    return (head + piece, *[piece * EVENTS_PER_WRITE] * batches, piece * rest + end)


class Gates:
    """Who is refused, and how many were. Remembers the bucket and its luck."""

    def __init__(self) -> None:
        self.counts = b""
        self.reset()

    def reset(self) -> bytes:
        """Begin anew; what was counted, as JSON."""
        counts, self.counts = self.counts, b""
        self.luck = Random(429)
        self.asked = self.refused = 0
        self.tokens, self.at = BUCKET_BURST, time.monotonic()
        return counts

    def pause_s(self, target: bytes) -> float:
        """Seconds that a request must wait; 0 lets it in."""
        pause_s = 0.0
        if target.startswith(b"/random/"):
            pause_s = PAUSE_S if self.luck.random() < REFUSED_SHARE else 0.0
        elif target.startswith(b"/bucket/"):
            now = time.monotonic()
            filled = self.tokens + (now - self.at) * BUCKET_PER_S
            self.tokens, self.at = min(BUCKET_BURST, filled), now
            pause_s = 0.0 if self.tokens >= 1 else (1 - self.tokens) / BUCKET_PER_S
            self.tokens -= pause_s == 0
        self.asked += 1
        self.refused += pause_s > 0
        self.counts = b'{"asked": %d, "refused": %d}' % (self.asked, self.refused)
        return pause_s


def reply(status: str, body: bytes, more: str = "") -> bytes:
    """A whole JSON reply."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{more}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def refusal(pause_s: float) -> bytes:
    """429 with the pause in the two ways that clients read."""
    body = b'{"error": {"message": "slow down", "type": "rate_limit", "code": "rate_limit"}}'
    more = f"retry-after: {pause_s:.3f}\r\nretry-after-ms: {pause_s * 1000:.0f}\r\n"
    return reply("429 Too Many Requests", body, more)


GATES = Gates()


class Canned(asyncio.Protocol):
    """One connection. Remembers bytes of a request that is not complete."""

    def __init__(self) -> None:
        self.buffer = b""
        self.transport: asyncio.Transport | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self.streams: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Stop streaming to nobody."""
        for task in self.streams:
            task.cancel()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        """Answer every complete request."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self.buffer, 0, end + 2)
            stop = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < stop:
                return
            head, body = self.buffer[:end], self.buffer[end + 4 : stop]
            self.buffer = self.buffer[stop:]
            if head.startswith(b"POST /v1/"):
                self.answer(body)
            else:
                self.maybe_answer(head, body)

    def maybe_answer(self, head: bytes, body: bytes) -> None:
        """Answer, or refuse, as the path says."""
        assert self.transport is not None
        target = head.split(b" ", 2)[1]
        if target == b"/reset":
            self.transport.write(reply("200 OK", GATES.reset() or b"{}"))
            return
        pause_s = GATES.pause_s(target)
        if pause_s:
            self.transport.write(refusal(pause_s))
        else:
            self.answer(body)

    def answer(self, body: bytes) -> None:
        """Send the canned reply that `body` asks for."""
        assert self.transport is not None
        if not STREAM.search(body):
            self.transport.write(whole_reply())
            return
        count = COUNT.search(body)
        task = asyncio.get_running_loop().create_task(self.send(int(count[1]) if count else 10))
        self.streams.add(task)
        task.add_done_callback(self.streams.discard)

    async def send(self, count: int) -> None:
        """Stream, no faster than the client reads."""
        assert self.transport is not None
        for data in stream_writes(count):
            await self.writable.wait()
            self.transport.write(data)
            await asyncio.sleep(0)


async def serve() -> None:
    """Print the port, serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Canned, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
