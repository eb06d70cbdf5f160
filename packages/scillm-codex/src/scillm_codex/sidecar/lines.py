"""JSON lines from bytes: no limit on a line's length, one list of whole lines per piece."""

from __future__ import annotations


class Lines:
    """Cuts a byte stream into lines. Remembers the unfinished one."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in `piece`, without their ends; empty lines are left out."""
        first, *rest = piece.split(b"\n")
        self._parts.append(first)
        if not rest:
            return []
        whole = [b"".join(self._parts), *rest[:-1]]
        self._parts = [rest[-1]]
        return [line for line in (each.rstrip(b"\r") for each in whole) if line.strip()]

    def rest(self) -> bytes:
        """What came after the last line end."""
        return b"".join(self._parts)
