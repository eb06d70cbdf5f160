"""Compressed bodies, piece by piece: gzip and deflate (RFC 9110, section 8.4.1)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

GZIP_BITS = 16 + zlib.MAX_WBITS
HEADER_BYTES = 2


class Undecodable(ValueError):  # noqa: N818 - a verdict on the body; the transport names the error
    """The bytes are not in the coding that their header names, or end too early."""


class Gzip:
    """Decodes one or more gzip members. Remembers where in the member it is."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(GZIP_BITS)
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body."""
        out = b""
        while data:
            if self._member.eof:
                self._member = zlib.decompressobj(GZIP_BITS)
            self._begun = True
            out += _inflated(self._member, data)
            data = self._member.unused_data
        return out

    def finish(self) -> bytes:
        """Nothing; `Undecodable` when the last member is not whole."""
        if self._begun and not self._member.eof:
            raise Undecodable("the gzip data ends too early")
        return b""


class Deflate:
    """Decodes `deflate`, which some servers send without its zlib header. Remembers the state."""

    def __init__(self) -> None:
        self._head = b""
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body; the two bytes of a header are waited for."""
        if self._stream is None:
            self._head += data
            if len(self._head) < HEADER_BYTES:
                return b""
            bits = zlib.MAX_WBITS if _is_zlib_header(self._head) else -zlib.MAX_WBITS
            self._stream = zlib.decompressobj(bits)
            data = self._head
        return _inflated(self._stream, data)

    def finish(self) -> bytes:
        """Nothing; `Undecodable` when the data is not whole."""
        if self._head and (self._stream is None or not self._stream.eof):
            raise Undecodable("the deflate data ends too early")
        return b""


class Chain:
    """Several codings on one body, undone in turn. Remembers nothing of its own."""

    def __init__(self, steps: list[Gzip | Deflate]) -> None:
        self._steps = steps

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body."""
        for step in self._steps:
            data = step.feed(data)
        return data

    def finish(self) -> bytes:
        """Nothing; `Undecodable` when one of the codings is not whole."""
        for step in self._steps:
            step.finish()
        return b""


CODINGS: Mapping[str, Callable[[], Gzip | Deflate]] = {
    "gzip": Gzip,
    "x-gzip": Gzip,
    "deflate": Deflate,
}


def decoder_for(header: str) -> Chain | None:
    """The decoder for a Content-Encoding header; None when the body is not encoded.

    Raises `Undecodable` for a coding that was never asked for.
    """
    names = [name for part in header.split(",") if (name := part.strip().lower())]
    wanted = [name for name in names if name != "identity"]
    for name in wanted:
        if name not in CODINGS:
            raise Undecodable(f"its Content-Encoding is {name!r}; only gzip and deflate were asked")
    return Chain([CODINGS[name]() for name in reversed(wanted)]) if wanted else None


def _inflated(stream: zlib._Decompress, data: bytes) -> bytes:
    try:
        return stream.decompress(data)
    except zlib.error as error:
        raise Undecodable(str(error)) from error


def _is_zlib_header(data: bytes) -> bool:
    # RFC 1950, section 2.2: method 8, a window of at most 32 KiB, and a check digit.
    return data[0] & 0x0F == 8 and data[0] >> 4 <= 7 and int.from_bytes(data[:2], "big") % 31 == 0
