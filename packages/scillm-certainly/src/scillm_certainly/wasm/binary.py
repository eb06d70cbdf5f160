"""WebAssembly's binary form: integers, sections, and a module's parts that we rewrite.

Source: WebAssembly Core Specification, chapter 5 (binary format).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen
from scillm.errors import ProverError

MAGIC = b"\0asm\x01\0\0\0"
IMPORT, TABLE, GLOBAL, EXPORT, ELEMENT = 2, 4, 6, 7, 9


@frozen(kw_only=True)
class Section:
    """One section: its id, where it starts, where its content starts and ends (byte offsets)."""

    id: int
    start: int
    content: int
    end: int


def sections(module: bytes | memoryview) -> list[Section]:
    """The sections of `module` in file order; `ProverError` when it is not WebAssembly."""
    if bytes(module[:8]) != MAGIC:
        raise ProverError(
            "The file is not a WebAssembly module: it does not start with \\0asm version 1."
        )
    found: list[Section] = []
    at = len(MAGIC)
    while at < len(module):
        size, content = unsigned(module, at + 1)
        if content + size > len(module):
            raise ProverError("The WebAssembly module is cut off in the middle of a section.")
        found.append(Section(id=module[at], start=at, content=content, end=content + size))
        at = content + size
    return found


def by_id(found: Iterable[Section]) -> Mapping[int, Section]:
    """Sections by id; of the custom ones (id 0) the first."""
    table: dict[int, Section] = {}
    for section in found:
        table.setdefault(section.id, section)
    return table


def unsigned(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The unsigned LEB128 integer at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def signed(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The signed LEB128 integer at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return (value - (1 << shift) if byte & 64 else value), at


def encode_unsigned(value: int) -> bytes:
    """`value` (0 or more) as unsigned LEB128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_signed(value: int) -> bytes:
    """`value` as signed LEB128."""
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value & 127)
    return bytes(out)


def encode_section(id: int, content: bytes) -> bytes:
    """A whole section."""
    return bytes([id]) + encode_unsigned(len(content)) + content
