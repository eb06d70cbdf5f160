"""Lean's WebAssembly module with few exports: the rest moves behind the name table.

Node refuses a module with more than 100,000 exports; the published one has 201,110. Every function
that is looked up by name gets a slot in the module's function table; code and data stay as they
are, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from attrs import frozen
from scillm.errors import ProverError

from scillm_certainly.wasm import binary, names
from scillm_certainly.wasm.binary import unsigned

FUNCTION, TABLE_KIND, MEMORY, GLOBAL_KIND = 0, 1, 2, 3
I32_CONST, I64_CONST, GLOBAL_GET, END = 0x41, 0x42, 0x23, 0x0B


@frozen(kw_only=True)
class Slim:
    """The rewritten module, its name table, and the number of table slots it had before."""

    module: bytes
    names: bytes
    slots: int
    kept: int
    added: int


@frozen(kw_only=True)
class Imports:
    """How many functions and globals a module imports, and the names of its GOT entries."""

    functions: int
    globals: int
    offsets: frozenset[str]


def slim(module: bytes, keep: Set[str]) -> Slim:
    """`module` exporting only `keep`, what it imports by offset, its tables and its memory.

    Raises `ProverError` when the module is not laid out as the one known version is.
    """
    found = binary.sections(module)
    part = binary.by_id(found)
    imports = read_imports(module, part[binary.IMPORT].content)
    values = read_globals(module, part[binary.GLOBAL].content)
    flag, least, most = read_table(module, part[binary.TABLE].content)
    slots = read_slots(module, part[binary.ELEMENT].content)
    dynamic = module[found[0].content : found[0].end]
    wanted = {name.encode() for name in keep | imports.offsets}
    kept: list[bytes] = []
    added: list[int] = []
    addresses: list[tuple[bytes, int]] = []
    for name, kind, index, entry in read_exports(module, part[binary.EXPORT].content):
        if kind in (TABLE_KIND, MEMORY) or name in wanted or name in dynamic:
            kept.append(entry)
        if kind == FUNCTION and index >= imports.functions:
            if index not in slots:
                slots[index] = least + len(added)
                added.append(index)
            addresses.append((name, slots[index]))
        elif kind == GLOBAL_KIND and index >= imports.globals:
            value = values[index - imports.globals]
            if value is not None:
                addresses.append((name, value))
    total = least + len(added)
    limits = binary.encode_unsigned(total)
    if flag & 1:
        limits += binary.encode_unsigned(max(most, total))
    reference = module[part[binary.TABLE].content + 1]
    rewritten = {
        binary.TABLE: bytes([1, reference, flag]) + limits,
        binary.EXPORT: binary.encode_unsigned(len(kept)) + b"".join(kept),
        binary.ELEMENT: _elements(module, part[binary.ELEMENT], least, added),
    }
    pieces = [module[: len(binary.MAGIC)]]
    for section in found:
        if section.id in rewritten:
            pieces.append(binary.encode_section(section.id, rewritten[section.id]))
        else:
            pieces.append(module[section.start : section.end])
    return Slim(
        module=b"".join(pieces),
        names=names.table(addresses),
        slots=least,
        kept=len(kept),
        added=len(added),
    )


def read_imports(module: bytes, at: int) -> Imports:
    """Count what is imported."""
    functions = globals_ = 0
    offsets: set[str] = set()
    count, at = unsigned(module, at)
    for _ in range(count):
        space, at = _text(module, at)
        name, at = _text(module, at)
        kind = module[at]
        at += 1
        if kind == FUNCTION:
            _, at = unsigned(module, at)
            functions += 1
        elif kind == GLOBAL_KIND:
            at += 2
            globals_ += 1
        else:
            at = _after_limits(module, at + (kind == TABLE_KIND))
        if space.startswith(b"GOT."):
            offsets.add(name.decode())
    return Imports(functions=functions, globals=globals_, offsets=frozenset(offsets))


def _after_limits(module: bytes, at: int) -> int:
    flag = module[at]
    _, at = unsigned(module, at + 1)
    if flag & 1:
        _, at = unsigned(module, at)
    return at


def read_globals(module: bytes, at: int) -> list[int | None]:
    """The constant each global starts with (the address of a data symbol), or None."""
    values: list[int | None] = []
    count, at = unsigned(module, at)
    for _ in range(count):
        operation = module[at + 2]
        at += 3
        value: int | None = None
        if operation == I32_CONST:
            value, at = binary.signed(module, at)
        elif operation == I64_CONST:
            _, at = binary.signed(module, at)
        elif operation == GLOBAL_GET:
            _, at = unsigned(module, at)
        else:
            raise ProverError(f"The module's globals start with operation {operation:#x}.")
        if module[at] != END:
            raise ProverError("The module's globals are not set by single constants.")
        at += 1
        values.append(value)
    return values


def read_table(module: bytes, at: int) -> tuple[int, int, int]:
    """Flag, least and greatest size of the module's only table."""
    count, at = unsigned(module, at)
    if count != 1:
        raise ProverError(f"The module has {count} tables; the version known has one.")
    flag = module[at + 1]
    least, at = unsigned(module, at + 2)
    most = unsigned(module, at)[0] if flag & 1 else 0
    return flag, least, most


def read_slots(module: bytes, at: int) -> dict[int, int]:
    """Function index → first slot, from the module's only element segment."""
    count, at = unsigned(module, at)
    if count != 1 or module[at] != 0 or module[at + 1] != I32_CONST:
        raise ProverError("The element section is not laid out as in the version known.")
    start, at = binary.signed(module, at + 2)
    size, at = unsigned(module, at + 1)
    slots: dict[int, int] = {}
    for slot in range(start, start + size):
        index, at = unsigned(module, at)
        slots.setdefault(index, slot)
    return slots


def read_exports(module: bytes, at: int) -> Iterator[tuple[bytes, int, int, bytes]]:
    """Name, kind, index and raw entry of every export."""
    count, at = unsigned(module, at)
    for _ in range(count):
        start = at
        name, at = _text(module, at)
        kind = module[at]
        index, at = unsigned(module, at + 1)
        yield name, kind, index, module[start:at]


def _elements(module: bytes, section: binary.Section, start: int, added: list[int]) -> bytes:
    _, first = unsigned(module, section.content)
    second = [bytes([0, I32_CONST]), binary.encode_signed(start), bytes([END])]
    second += [binary.encode_unsigned(len(added)), *map(binary.encode_unsigned, added)]
    return b"\x02" + module[first : section.end] + b"".join(second)


def _text(module: bytes, at: int) -> tuple[bytes, int]:
    size, at = unsigned(module, at)
    return module[at : at + size], at + size
