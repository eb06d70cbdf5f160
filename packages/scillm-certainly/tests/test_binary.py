"""WebAssembly integers, name tables and modules come out as they went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import ProverError
from scillm_certainly.wasm import binary, exports, glue, names
from scillm_certainly.wasm.derive import derive

SIGNED = st.integers(-(2**63), 2**63 - 1)
UNSIGNED = st.integers(0, 2**64 - 1)
NAMES = st.lists(st.binary(min_size=1, max_size=30), unique=True, max_size=40)


@given(value=UNSIGNED, before=st.binary(max_size=3), after=st.binary(max_size=3))
def test_unsigned_integers_come_back(value: int, before: bytes, after: bytes) -> None:
    """An unsigned integer reads as it was written, and reading stops where it ends."""
    data = before + binary.encode_unsigned(value) + after

    assert binary.unsigned(data, len(before)) == (value, len(data) - len(after))


@given(value=SIGNED, after=st.binary(max_size=3))
def test_signed_integers_come_back(value: int, after: bytes) -> None:
    """A signed integer reads as it was written."""
    data = binary.encode_signed(value)

    assert binary.signed(data + after, 0) == (value, len(data))


@pytest.mark.parametrize(
    ("value", "encoded"), [(624485, b"\xe5\x8e\x26"), (0, b"\x00"), (127, b"\x7f")]
)
def test_unsigned_integers_are_leb128(value: int, encoded: bytes) -> None:
    """The form is LEB128 (the example 624485 is of DWARF 4, figure 22, and Wikipedia)."""
    assert binary.encode_unsigned(value) == encoded


@pytest.mark.parametrize(
    ("value", "encoded"), [(-123456, b"\xc0\xbb\x78"), (-1, b"\x7f"), (64, b"\xc0\x00")]
)
def test_signed_integers_are_leb128(value: int, encoded: bytes) -> None:
    """The form is signed LEB128 (the example -123456 is Wikipedia's)."""
    assert binary.encode_signed(value) == encoded


@given(found=NAMES, others=NAMES)
def test_a_name_is_found_at_its_address(found: list[bytes], others: list[bytes]) -> None:
    """Every name of a table leads to its own address, and no other name to any."""
    table = names.table([(name, at + 1) for at, name in enumerate(found)], bits=8)

    assert [names.lookup(table, name) for name in found] == list(range(1, len(found) + 1))
    assert all(names.lookup(table, name) is None for name in others if name not in found)


def test_a_table_that_would_be_over_full_is_refused() -> None:
    """A table never gets so full that looking up a missing name would go on for ever."""
    with pytest.raises(ProverError, match="do not fit"):
        names.table([(bytes([at]), 1) for at in range(1, 10)], bits=4)


def test_two_names_with_one_hash_are_refused() -> None:
    """A lookup can never lead to another name's address."""
    with pytest.raises(ProverError, match="shares its hash"):
        names.table([(b"a", 1), (b"a", 2)], bits=4)


def vector(*rows: bytes) -> bytes:
    return binary.encode_unsigned(len(rows)) + b"".join(rows)


def text(name: str) -> bytes:
    return binary.encode_unsigned(len(name)) + name.encode()


def module(functions: int) -> bytes:
    """One import, `functions` own functions f0 … of which f0 has slot 1, one global `g` = 70."""
    kind = vector(b"\x60\x00\x00")
    parts = [
        (0, text("dylink")),
        (1, kind),
        (2, vector(text("env") + text("host") + b"\x00\x00")),
        (3, vector(*[b"\x00"] * functions)),
        (4, vector(b"\x70\x00\x02")),
        (6, vector(b"\x7f\x00\x41\xc6\x00\x0b")),
        (
            7,
            vector(
                *[
                    text(f"f{at}") + b"\x00" + binary.encode_unsigned(at + 1)
                    for at in range(functions)
                ],
                text("g") + b"\x03\x00",
            ),
        ),
        (9, vector(b"\x00\x41\x01\x0b" + vector(b"\x01"))),
        (10, vector(*[b"\x02\x00\x0b"] * functions)),
    ]
    return binary.MAGIC + b"".join(binary.encode_section(at, body) for at, body in parts)


@given(functions=st.integers(1, 300), kept=st.integers(0, 299))
def test_a_function_that_is_no_longer_exported_has_a_slot(functions: int, kept: int) -> None:
    """Every function is found by name at a slot of its own; code and data stay as they were."""
    before = module(functions)
    slim = exports.slim(before, {f"f{kept}"})
    parts = binary.by_id(binary.sections(slim.module))
    code = binary.by_id(binary.sections(before))[10]
    slots = [names.lookup(slim.names, f"f{at}".encode()) for at in range(functions)]

    assert slots == [1, *range(2, functions + 1)]
    assert names.lookup(slim.names, b"g") == 70
    assert exports.read_table(slim.module, parts[4].content) == (0, functions + 1, 0)
    assert [row[0] for row in exports.read_exports(slim.module, parts[7].content)] == (
        [f"f{kept}".encode()] if kept < functions else []
    )
    assert slim.module[parts[10].start : parts[10].end] == before[code.start : code.end]


def parts(changes: dict[int, bytes]) -> bytes:
    """A module of every kind of import and global, with some sections replaced."""
    usual = {
        0: text("dylink"),
        2: vector(
            text("env") + text("host") + b"\x00\x00",
            text("env") + text("memory") + b"\x02\x03\x01\x02",
            text("env") + text("spare") + b"\x01\x70\x00\x01",
            text("GOT.func") + text("f0") + b"\x03\x7f\x01",
        ),
        4: vector(b"\x70\x01\x02\x03"),
        6: vector(b"\x7f\x00\x41\xc6\x00\x0b", b"\x7e\x00\x42\x05\x0b", b"\x7f\x00\x23\x00\x0b"),
        7: vector(
            text("f0") + b"\x00\x01",
            text("host") + b"\x00\x00",
            text("table") + b"\x01\x00",
            text("g") + b"\x03\x01",
            text("wide") + b"\x03\x02",
        ),
        9: vector(b"\x00\x41\x01\x0b" + vector(b"\x01")),
    }
    rows = {**usual, **changes}
    return binary.MAGIC + b"".join(binary.encode_section(at, rows[at]) for at in sorted(rows))


def test_what_the_loader_needs_stays_exported() -> None:
    """Offsets, tables and memory stay; a global has its address, an import has none."""
    slim = exports.slim(parts({}), set())
    section = binary.by_id(binary.sections(slim.module))

    assert [row[0] for row in exports.read_exports(slim.module, section[7].content)] == [
        b"f0",
        b"table",
    ]
    assert exports.read_table(slim.module, section[4].content) == (1, 2, 3)
    assert names.lookup(slim.names, b"g") == 70
    assert names.lookup(slim.names, b"wide") is None
    assert names.lookup(slim.names, b"host") is None


@pytest.mark.parametrize(
    ("section", "content", "says"),
    [
        (6, vector(b"\x7f\x00\x44\x00\x0b"), "operation 0x44"),
        (6, vector(b"\x7f\x00\x41\x00\x41"), "single constants"),
        (4, vector(b"\x70\x00\x02", b"\x70\x00\x02"), "2 tables"),
        (9, vector(b"\x01\x00\x01" + vector(b"\x01")), "element section"),
    ],
)
def test_another_module_is_refused(section: int, content: bytes, says: str) -> None:
    """A module that is laid out in another way is never half rewritten."""
    with pytest.raises(ProverError, match=says):
        exports.slim(parts({section: content}), set())


def test_the_three_files_come_from_the_two() -> None:
    """Glue and module lose the same names, and the table has them all."""
    calls = "".join(
        f"function {name}(a){{if(ENVIRONMENT_IS_PTHREAD)return proxyToMainThread(1,0,1,a);}}"
        for name in (*glue.CALLS, *glue.REFUSED)
    )
    mounts = "".join(f'FS.mount(NODEFS,{{root:"/{name}"}},"/{name}");' for name in ("home", "tmp"))
    script = (
        "var used=_f1(1);var __dlsym_js=(h,s)=>{};__dlsym_js.sig=1;"
        "updateTableMap(0,wasmTable.length);var _main,_f0,_f1;"
        f"{glue.STOCK_READ}}}{glue.STOCK_WRITE}{calls}{mounts}FS.chdir(cwd);"
        "if(isNode){path=__filename}function assignWasmExports(wasmExports){"
        '_f0=Module["_f0"]=wasmExports["f0"];_f1=Module["_f1"]=wasmExports["f1"]}var wasmImports;é'
    )
    made = derive(script.encode("latin-1"), module(3))
    exported = binary.by_id(binary.sections(made.module))[7]

    assert [row[0] for row in exports.read_exports(made.module, exported.content)] == [b"f1"]
    assert b"_f0" not in made.glue
    assert made.glue.endswith("é".encode("latin-1"))
    assert [names.lookup(made.names, name) for name in (b"f0", b"f1", b"f2")] == [1, 2, 3]


@pytest.mark.parametrize("data", [b"", b"MZ", b"\0asm\x02\0\0\0", module(2)[:-3]])
def test_what_is_no_whole_module_is_refused(data: bytes) -> None:
    """A file that is no module, or half of one, is named as that."""
    with pytest.raises(ProverError, match="WebAssembly"):
        binary.sections(data)
