"""What a probe saw inside decides whether a level is had: anything open is said, by name. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm_codeworld.sandbox.levels import L2, L3, L4
from scillm_codeworld.sandbox.probe import CLOSED, shortfall, wasm_shortfall

SHUT = dict.fromkeys(CLOSED[L2], "PermissionError")
WASM_SHUT = {
    "platform": "wasi",
    "host files": "PermissionError",
    "sockets": "ModuleNotFoundError",
    "environment": "empty",
    "clock": "its own",
}


@given(st.sampled_from([L2, L3, L4]), st.sets(st.sampled_from(sorted(SHUT))), st.booleans())
def test_every_open_door_is_named_and_no_other(level, doors, missing):
    """Found open, or not found at all: either way the level is not had."""
    observed = {**SHUT, "first of its processes": True}
    for door in doors:
        if missing:
            del observed[door]
        else:
            observed[door] = "open"

    found = shortfall(level, observed)

    if not doors:
        assert found is None
        return
    assert found is not None
    named = found.removeprefix(f"{level}: the probe found open: ").split(", ")
    assert sorted(named) == sorted(doors)


@pytest.mark.parametrize(("level", "lacks"), [(L2, False), (L3, True), (L4, True)])
def test_a_confined_program_is_the_first_of_its_processes(level, lacks):
    """L3 and L4 promise a process namespace; L2 does not."""
    found = shortfall(level, {**SHUT, "first of its processes": False})

    assert (found is not None) == lacks
    assert not lacks or "a process namespace of its own" in found


def test_level_wasm_is_had_when_nothing_is_open_on_its_platform():
    """Nothing else calls itself wasi."""
    assert wasm_shortfall(WASM_SHUT) is None
    assert wasm_shortfall({**WASM_SHUT, "platform": "linux"}) == (
        "wasm: the probe found open: the platform"
    )
    assert wasm_shortfall({**WASM_SHUT, "clock": "open", "sockets": "open"}) == (
        "wasm: the probe found open: sockets, clock"
    )
    assert "the platform" in (wasm_shortfall({}) or "")
