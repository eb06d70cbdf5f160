"""A chat server with canned answers, far faster than any client: python benchmarks/server.py

Prints its port and serves until standard input ends. `"stream":true` in the body asks for events,
`"max_tokens"` for how many. It checks nothing, so it says nothing about correctness.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import cache

TEXT = "The answer is 42."
PIECE = "word "
EVENTS_PER_WRITE = 16
"""After the first event, which is written alone. One write each would measure the server."""

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
            body, self.buffer = self.buffer[end + 4 : stop], self.buffer[stop:]
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
