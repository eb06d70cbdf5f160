"""HTTP/1.1 on the server's side, as pure functions from bytes to requests and back."""

from __future__ import annotations

import json
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEAD_BYTES = 65_536
TOKEN_BYTES = frozenset(
    b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)


class BadRequest(Exception):
    """The bytes are not an HTTP/1.1 request."""


@frozen(kw_only=True, slots=False)
class Request:
    """One request as it arrived. Header names are lower case; repeated headers are joined."""

    method: str
    target: str
    version: str = "HTTP/1.1"
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""
    at_s: float = 0.0
    """Monotonic time of its last byte."""
    connection: int = 0
    """Which connection it came on, counted from 1."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @cached_property
    def json(self) -> Any:
        """The body as JSON; raises ValueError where it is none."""
        return json.loads(self.body)

    @property
    def keep_alive(self) -> bool:
        """Whether the client wants the connection to stay."""
        wish = self.headers.get("connection", "").lower()
        return wish == "keep-alive" if self.version == "HTTP/1.0" else wish != "close"


def take_request(buffer: bytes | bytearray) -> tuple[Request, int] | None:
    """The first request of `buffer` and the bytes it took; None while it is incomplete.

    Raises `BadRequest`. Source: RFC 9112.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD_BYTES:
            raise BadRequest(f"the head is longer than {MAX_HEAD_BYTES} bytes")
        return None
    method, target, version, headers = _head(bytes(buffer[:end]))
    start = end + 4
    taken = _body(buffer, start, headers)
    if taken is None:
        return None
    body, stop = taken
    request = Request(method=method, target=target, version=version, headers=headers, body=body)
    return request, stop


def _head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    first, *lines = head.split(b"\r\n")
    words = first.decode("latin-1").split(" ")
    if len(words) != 3 or words[2] not in {"HTTP/1.0", "HTTP/1.1"} or words[1][:1] != "/":
        raise BadRequest(f"not a request line: {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or not TOKEN_BYTES.issuperset(name):
            raise BadRequest(f"not a header line: {line[:80]!r}")
        key, text = name.decode().lower(), value.decode("latin-1").strip(" \t")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    if words[2] == "HTTP/1.1" and "host" not in headers:
        raise BadRequest("HTTP/1.1 wants a Host header")
    if "content-length" in headers and "transfer-encoding" in headers:
        raise BadRequest("both Content-Length and Transfer-Encoding were sent")
    return words[0], words[1], words[2], headers


def _body(
    buffer: bytes | bytearray, start: int, headers: Mapping[str, str]
) -> tuple[bytes, int] | None:
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            raise BadRequest(f"unknown Transfer-Encoding {coding!r}")
        return _chunked_body(buffer, start)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(f"Content-Length is {length!r}, not a count of bytes")
    stop = start + int(length)
    return (bytes(buffer[start:stop]), stop) if len(buffer) >= stop else None


def _chunked_body(buffer: bytes | bytearray, start: int) -> tuple[bytes, int] | None:
    body = b""
    while (end := buffer.find(b"\r\n", start)) >= 0:
        digits = bytes(buffer[start:end]).partition(b";")[0].strip()
        try:
            size = int(digits, 16)
        except ValueError:
            raise BadRequest(f"not a chunk size: {digits[:20]!r}") from None
        stop = end + 2 + size + 2
        if len(buffer) < stop:
            return None
        if buffer[stop - 2 : stop] != b"\r\n":
            raise BadRequest("a chunk is longer than its size says")
        if size == 0:
            return body, stop
        body += bytes(buffer[end + 2 : stop - 2])
        start = stop
    return None


def reply_head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers, up to and including the empty line."""
    known = {member.value: member.phrase for member in HTTPStatus}
    lines = [f"HTTP/1.1 {status} {known.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of the chunked coding; empty data ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
