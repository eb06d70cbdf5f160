"""The lines of a journal: how a row is written, how a line proves its place, what is damage. Pure.

A line is `{"seq":N,"prev":H,"data":…,"hash":H}` and a newline. `hash` is the SHA-256 of the bytes
before `,"hash"`, `prev` the hash of the line before (64 zeros in front of the first). So every
byte is covered, and a line fits in one place of one journal only.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from attrs import frozen

from scillm.errors import ScillmError

if TYPE_CHECKING:
    from scillm.records import Json

GENESIS = "0" * 64
"""What the first line names as the hash before it."""

DEEPEST = 200
"""Levels of nesting; Python reads about 1,000, less what is on the stack already."""

LINE = re.compile(
    rb'(\{"seq":([1-9][0-9]*),"prev":"([0-9a-f]{64})","data":(.*)),"hash":"([0-9a-f]{64})"\}\n',
    re.DOTALL,
)


class JournalError(ScillmError):
    """A journal cannot be read or written."""


class JournalDamagedError(JournalError):
    """A journal was changed after it was written. `.line` is the first line that is wrong."""

    def __init__(self, message: str, *, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class JournalLockedError(JournalError):
    """Another writer has the journal open. `.pid` is its process, None when it did not say."""

    def __init__(self, message: str, *, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


@frozen(kw_only=True)
class Place:
    """The end of a journal: how many rows it has, and the hash of the last."""

    rows: int = 0
    head: str = GENESIS


def opening(place: Place) -> bytes:
    """The bytes that the line after `place` begins with."""
    return b'{"seq":%d,"prev":"%s","data":' % (place.rows + 1, place.head.encode())


def json_text(data: Json) -> str:
    """`data` as compact JSON; `TypeError`, `ValueError` or `RecursionError` when it is not JSON.

    Nested deeper than `DEEPEST` it is refused too: what one stack can write, another must read.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    if text.count("[") + text.count("{") > DEEPEST and _depth(data) > DEEPEST:
        raise ValueError(f"JSON nested deeper than {DEEPEST} levels cannot be kept.")
    return text


def _depth(data: Json) -> int:
    level, depth = [data], 0
    while level := [value for value in level if isinstance(value, (dict, list, tuple))]:
        depth += 1
        inner = (value.values() if isinstance(value, dict) else value for value in level)
        level = [value for values in inner for value in values]
    return depth


def encode(data: Json, place: Place) -> tuple[bytes, Place]:
    """The line for `data` after `place`, and the place after it; raises as `json_text` does."""
    try:
        written = json_text(data).encode()
    except UnicodeEncodeError:  # a lone surrogate is JSON, but only as an escape
        written = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
    body = opening(place) + written
    head = hashlib.sha256(body).hexdigest()
    return b'%s,"hash":"%s"}\n' % (body, head.encode()), Place(rows=place.rows + 1, head=head)


def decode(line: bytes, place: Place, *, where: str = "the journal") -> tuple[Json, Place]:
    """What the line after `place` says, and the place after it; `JournalDamagedError` otherwise."""
    number = place.rows + 1
    found = _proved(line)
    if found is None:
        raise _damaged(where, number, "it is not a line of a journal, or was changed")
    data, seq, prev, head = found
    if seq != number:
        raise _damaged(
            where,
            number,
            f"it says it is row {seq}, so rows are missing, repeated or in another order",
        )
    if prev != place.head:
        raise _damaged(where, number, "it does not follow the line before it")
    return json.loads(data), Place(rows=number, head=head)


def decode_alone(line: bytes, *, where: str) -> tuple[Json, Place]:
    """What a line says and the place after it, proving the line but not what stands before it."""
    found = _proved(line)
    if found is None:
        raise _damaged(where, 0, "it is not a line of a journal, or was changed")
    data, seq, _, head = found
    return json.loads(data), Place(rows=seq, head=head)


def _proved(line: bytes) -> tuple[bytes, int, str, str] | None:
    match = LINE.fullmatch(line)
    if match is None:
        return None
    body, seq, prev, data, head = match.groups()
    if hashlib.sha256(body).hexdigest() != head.decode():
        return None
    return data, int(seq), prev.decode(), head.decode()


def is_torn(tail: bytes, place: Place) -> bool:
    """Whether `tail`, which has no newline, can be what a crash left of the line after `place`.

    Zeros are what a file system may leave of bytes that did not reach the disk. A whole line whose
    newline is another byte is no such thing: it was changed.
    """
    if not tail.endswith(b"\0") and _proved(tail[:-1] + b"\n") is not None:
        return False
    wanted = opening(place)
    begun = tail[: len(wanted)].rstrip(b"\0")
    return wanted.startswith(begun)


def not_torn(where: str, place: Place) -> JournalDamagedError:
    """The error for an unfinished last line that no crash of ours can have left."""
    return _damaged(
        where,
        place.rows + 1,
        "it has no end, and its beginning is not that of a journal's next row",
    )


def _damaged(where: str, line: int, why: str) -> JournalDamagedError:
    place = f"Line {line} of {where}" if line else where
    return JournalDamagedError(
        f"{place} is wrong: {why}. Nothing was written; restore the file from a copy, or move it "
        "away to start anew.",
        line=line,
    )
