"""How a test server behaves: each behaviour turns a request into the steps that are played."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen

from support.http1 import Request, chunk, reply_head

# -- steps -------------------------------------------------------------------------------------


@frozen
class Pause:
    """Nothing happens for a while."""

    seconds: float


@frozen
class Gate:
    """Nothing happens until the test calls `open()`; at most `limit_s`, then the server fails."""

    limit_s: float = 30.0
    _event: threading.Event = field(factory=threading.Event, repr=False)

    def open(self) -> None:
        """Let every reply that waits here go on."""
        self._event.set()

    @property
    def is_open(self) -> bool:
        """Whether `open` was called."""
        return self._event.is_set()


@frozen
class Close:
    """Everything written so far is delivered, then the connection ends in the normal way."""


@frozen
class Reset:
    """The connection breaks with a TCP reset."""


Step: TypeAlias = bytes | Pause | Gate | Close | Reset
"""Bytes are written at once and alone, but TCP may join neighbours: put a `Pause` between
pieces that must arrive apart."""


@runtime_checkable
class Scripted(Protocol):
    """A behaviour that knows its steps."""

    def steps(self, request: Request, /) -> Sequence[Step]:
        """What to do about `request`. Without a `Close` or `Reset` the connection stays."""
        ...


Behaviour: TypeAlias = Scripted | Callable[[Request], "Behaviour"]
"""A record below, or a function from the request to one."""


def steps_of(behaviour: Behaviour, request: Request) -> Sequence[Step]:
    """The steps of `behaviour`, asking functions until a record comes."""
    while not isinstance(behaviour, Scripted):
        behaviour = behaviour(request)
    return behaviour.steps(request)


# -- replies -----------------------------------------------------------------------------------

Framing: TypeAlias = Literal["length", "chunked", "close"]
"""How the client learns where the body ends."""


@frozen
class Reply:
    """Any reply. A body of several steps is sent piece by piece, one chunk each when chunked."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes | Sequence[Step] = b""
    framing: Framing = field(default="length", kw_only=True)
    gzip: bool = field(default=False, kw_only=True)
    keep_alive: bool = field(default=True, kw_only=True)
    missing_bytes: int = field(default=0, kw_only=True)
    """Added to the true Content-Length."""

    def steps(self, request: Request, /) -> Sequence[Step]:
        """Head, body pieces, and the end the framing asks for."""
        pieces = [self.body] if isinstance(self.body, bytes) else list(self.body)
        if self.gzip:
            pieces = _compressed(pieces)
        headers = dict(self.headers)
        if self.gzip:
            headers["content-encoding"] = "gzip"
        if self.framing == "chunked":
            headers["transfer-encoding"] = "chunked"
            pieces = _chunks(pieces)
        elif self.framing == "length":
            size = sum(len(piece) for piece in pieces if isinstance(piece, bytes))
            headers.setdefault("content-length", str(size + self.missing_bytes))
        closing = not self.keep_alive or self.framing == "close"
        if closing:
            headers["connection"] = "close"
        end: list[Step] = [Close()] if closing else []
        return [reply_head(self.status, headers), *pieces, *end]


def _compressed(pieces: Iterable[Step]) -> list[Step]:
    squeeze = zlib.compressobj(wbits=31)
    done: list[Step] = [
        squeeze.compress(piece) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        if isinstance(piece, bytes)
        else piece
        for piece in pieces
    ]
    return [*done, squeeze.flush()]


def _chunks(pieces: Sequence[Step]) -> list[Step]:
    done = [chunk(piece) if isinstance(piece, bytes) else piece for piece in pieces if piece != b""]
    if any(isinstance(piece, (Close, Reset)) for piece in pieces):
        return done
    # One write for the last chunk and the end: a client that closes after the last event it
    # wants would otherwise sometimes count as one that went away.
    if done and isinstance(done[-1], bytes):
        return [*done[:-1], done[-1] + chunk(b"")]
    return [*done, chunk(b"")]


@frozen
class Raw:
    """Exactly these steps; nothing is added. For replies that are not HTTP at all."""

    script: Sequence[Step]

    def steps(self, request: Request, /) -> Sequence[Step]:
        """The given steps."""
        return self.script


@frozen
class Json:
    """A JSON reply."""

    obj: Any
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)

    def steps(self, request: Request, /) -> Sequence[Step]:
        """A complete reply."""
        headers = {"content-type": "application/json", **self.headers}
        return Reply(self.status, headers, json.dumps(self.obj).encode()).steps(request)


@frozen
class Html:
    """What a proxy in between says when the real server is down."""

    text: str = "<html><body><h1>502 Bad Gateway</h1></body></html>"
    status: int = 502

    def steps(self, request: Request, /) -> Sequence[Step]:
        """A complete reply."""
        headers = {"content-type": "text/html; charset=utf-8"}
        return Reply(self.status, headers, self.text.encode()).steps(request)


@frozen
class Truncated:
    """A complete HTTP reply whose JSON lacks its last `missing_chars` characters."""

    obj: Any
    missing_chars: int = 1
    status: int = 200

    def steps(self, request: Request, /) -> Sequence[Step]:
        """A complete reply with cut JSON."""
        text = json.dumps(self.obj)
        if not 0 < self.missing_chars <= len(text):
            raise ValueError(f"cannot take {self.missing_chars} characters from {len(text)}")
        headers = {"content-type": "application/json"}
        body = text[: -self.missing_chars].encode()
        return Reply(self.status, headers, body).steps(request)


@frozen
class WrongLength:
    """Content-Length promises more than `body`; the connection then ends in the normal way."""

    body: bytes
    missing_bytes: int = 10
    status: int = 200

    def steps(self, request: Request, /) -> Sequence[Step]:
        """Head, body, close."""
        headers = {"content-type": "application/json"}
        reply = Reply(self.status, headers, (self.body, Close()), missing_bytes=self.missing_bytes)
        return reply.steps(request)


@frozen
class ResetMidBody:
    """The connection breaks after `after_bytes` of the body (half of it by default)."""

    body: bytes
    after_bytes: int | None = None
    status: int = 200

    def steps(self, request: Request, /) -> Sequence[Step]:
        """Head, part of the body, reset."""
        sent = len(self.body) // 2 if self.after_bytes is None else self.after_bytes
        missing = len(self.body) - sent
        if missing <= 0:
            raise ValueError(f"a reset after {sent} of {len(self.body)} bytes is not mid-body")
        headers = {"content-type": "application/json"}
        reply = Reply(self.status, headers, (self.body[:sent], Reset()), missing_bytes=missing)
        return reply.steps(request)


@frozen
class RefuseAfterAccept:
    """The request is read, then the connection ends without one byte of reply."""

    def steps(self, request: Request, /) -> Sequence[Step]:
        """Close at once."""
        return [Close()]


@frozen
class Stall:
    """A silence of `seconds`: before `then`, or after `after_bytes` of what follows its head."""

    seconds: float
    then: Behaviour
    after_bytes: int | None = None

    def steps(self, request: Request, /) -> Sequence[Step]:
        """The steps of `then` with a pause in the right place."""
        steps = list(steps_of(self.then, request))
        if self.after_bytes is None:
            return [Pause(self.seconds), *steps]
        seen = 0
        for place, step in enumerate(steps[1:], start=1):
            size = len(step) if isinstance(step, bytes) else 0
            if isinstance(step, bytes) and seen + size >= self.after_bytes:
                cut = self.after_bytes - seen
                halves: list[Step] = [step[:cut], Pause(self.seconds), step[cut:]]
                return [*steps[:place], *halves, *steps[place + 1 :]]
            seen += size
        raise ValueError(f"a stall after {self.after_bytes} bytes needs a longer body than {seen}")


@frozen
class Sse:
    """A reply of server-sent events: raw pieces with pauses, gates and breaks where wanted."""

    pieces: Sequence[Step]
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    framing: Framing = field(default="chunked", kw_only=True)

    def steps(self, request: Request, /) -> Sequence[Step]:
        """Head and pieces."""
        headers = {"content-type": "text/event-stream; charset=utf-8", **self.headers}
        return Reply(self.status, headers, self.pieces, framing=self.framing).steps(request)


def event(obj: Any) -> bytes:
    """One server-sent event; text goes out as it is, anything else as JSON."""
    return b"data: " + (obj if isinstance(obj, str) else json.dumps(obj)).encode() + b"\n\n"


def spread(data: bytes, size: int, pause_s: float = 0.0) -> list[Step]:
    """`data` cut into pieces of `size` bytes, whatever characters or events that cuts through."""
    steps: list[Step] = []
    for start in range(0, len(data), size):
        steps += [data[start : start + size], Pause(pause_s)]
    return steps
