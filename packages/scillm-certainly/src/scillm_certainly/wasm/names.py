"""Symbol names as an open-addressed hash table, the form in which the runtime looks them up.

The published runtime finds a name by scanning 201,110 strings; Lean's interpreter asks thousands
of times. The table has `1 << BITS` rows of three 32-bit words: two hashes of the name and the
address, 0 in the last word meaning an empty row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from scillm.errors import ProverError

BITS = 19
FIRST, SECOND = 0x811C9DC5, 0x9747B28C
FIRST_FACTOR, SECOND_FACTOR = 0x01000193, 0x85EBCA6B
WORD = 0xFFFFFFFF


def hashes(name: bytes) -> tuple[int, int]:
    """Two 32-bit hashes of a name, computed by the same steps as `glue.LOOKUP` in JavaScript."""
    first, second = FIRST, SECOND
    for byte in name:
        first = (first ^ byte) * FIRST_FACTOR & WORD
        second = (second ^ byte) * SECOND_FACTOR & WORD
        second = (second << 13 | second >> 19) & WORD
    return first ^ first >> 15, second ^ second >> 16


def table(addresses: Iterable[tuple[bytes, int]], *, bits: int = BITS) -> bytes:
    """The table of (name, address) pairs as words of this machine.

    Raises `ProverError` when two names share both hashes, or the table would be over half full.
    """
    rows = array("I", bytes(12 << bits))
    mask = (1 << bits) - 1
    seen: set[tuple[int, int]] = set()
    for name, address in addresses:
        key = hashes(name)
        if key in seen:
            raise ProverError(f"The symbol {name!r} shares its hash with another; change the seed.")
        seen.add(key)
        if 2 * len(seen) > mask:
            raise ProverError(f"More than {mask // 2} symbols do not fit; raise BITS.")
        row = key[0] & mask
        while rows[3 * row + 2]:
            row = row + 1 & mask
        rows[3 * row], rows[3 * row + 1], rows[3 * row + 2] = *key, address & WORD
    return rows.tobytes()


def lookup(rows: bytes, name: bytes) -> int | None:
    """The address of `name` in a table, or None; what the runtime does, for checking it."""
    words = memoryview(rows).cast("I")
    mask = len(words) // 3 - 1
    key = hashes(name)
    row = key[0] & mask
    while words[3 * row + 2]:
        if (words[3 * row], words[3 * row + 1]) == key:
            return words[3 * row + 2]
        row = row + 1 & mask
    return None
