"""Programs that try to get out: what each level holds, as whoever runs the tests and as a user.

The attempts and the script that makes them are in tests/support/hostile.py and hostile_run.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import anyio
import attrs
import pytest
import scillm
import scillm_codeworld
from support.hostile import CORPUS, FAST, HELD_BELOW

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "tests" / "support" / "hostile_run.py"
USER = 12345
CODE_FOLDERS = {
    str(Path(module.__file__).parents[1]) for module in (anyio, attrs, scillm, scillm_codeworld)
}
USABLE = """
import os, sys
sys.exit(sys.version_info < (3, 10) or not os.access(sys.executable, os.X_OK))
"""
CASES = [(level, user) for level in ("L2", "L3", "L4") for user in ("same", "ordinary")]


def command(user):
    """How to run Python as the wanted user; skips where that cannot be had."""
    if user == "same" or os.geteuid() != 0:
        return [sys.executable]
    become = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]
    if shutil.which("setpriv") is None:
        pytest.skip("becoming an ordinary user needs setpriv")
    for python in (sys.executable, "/usr/bin/python3"):
        done = subprocess.run(
            [*become, python, "-c", USABLE],
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return [*become, python]
    pytest.skip("an ordinary user can read no Python here")


def attempts(level, user, names=(), *, cache=""):
    """What came of each attempt."""
    done = subprocess.run(
        [*command(user), str(SCRIPT), level, *names],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/tmp",
            "PYTHONPATH": os.pathsep.join(CODE_FOLDERS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SCILLM_CODEWORLD_WASM_CACHE": str(cache),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if "SandboxError" in done.stderr:
        pytest.skip(f"this host does not give {level}: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def check(level, rows, names):
    """Every attempt was held, left nobody behind, and did not touch the next run."""
    out = {name for name, row in rows.items() if not row["held"]}
    known = {name for name, lowest in HELD_BELOW.items() if level < lowest and level != "wasm"}

    assert set(rows) == set(names)
    assert out <= known, [rows[name] for name in out - known]
    assert [row for row in rows.values() if row["survivors"]] == []
    assert [row for row in rows.values() if not row["clean"]] == []


@pytest.mark.parametrize("user", ["same", "ordinary"])
@pytest.mark.parametrize("level", ["L2", "L3"])
def test_the_worst_attempts_are_held(level, user):
    """Files, keys, sockets, processes, memory and the next run are out of a program's reach."""
    rows = attempts(level, user, sorted(FAST))

    check(level, rows, FAST)


def test_every_attempt_is_held_at_level_wasm(wasm_cells):
    """The whole corpus comes to nothing where there is nothing to reach for."""
    if find_spec("wasmtime") is None or find_spec("componentize_py") is None:
        pytest.skip("level wasm needs scillm-codeworld[wasm]")
    rows = attempts("wasm", "same", cache=wasm_cells)

    check("wasm", rows, [attempt.name for attempt in CORPUS])


@pytest.mark.deep
@pytest.mark.parametrize(("level", "user"), CASES)
def test_every_attempt_is_held(level, user):
    """The whole corpus, at every level that promises to hold it."""
    rows = attempts(level, user)

    check(level, rows, [attempt.name for attempt in CORPUS])


@pytest.mark.deep
@pytest.mark.parametrize("user", ["same", "ordinary"])
def test_at_the_lowest_level_nothing_survives_either(user):
    """L1 leaves files and sockets open and says so; no process outlives a run even there."""
    rows = attempts("L1", user)

    assert len(rows) == len(CORPUS)
    assert [row for row in rows.values() if row["survivors"]] == []
    assert [row for row in rows.values() if not row["clean"]] == []


def test_the_corpus_is_large_and_names_are_unique():
    """At least sixty attempts, each told apart by its name."""
    names = [attempt.name for attempt in CORPUS]

    assert len(set(names)) == len(names) >= 60
    assert set(names) >= FAST
    assert set(HELD_BELOW) <= set(names)


def test_the_documented_table_is_of_this_corpus():
    """The guide's table has one row for each attempt, nothing open where it must be held."""
    text = (ROOT / "docs" / "guide" / "codeworld_isolation.md").read_text(encoding="utf-8")
    table = text.split("<!-- table: begin -->")[1].split("<!-- table: end -->")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    header, cells = rows[0], rows[2:]

    assert header == ["", "attempt", "L1", "L2", "L3", "L4", "wasm"]
    assert [row[1] for row in cells] == [attempt.name for attempt in CORPUS]
    assert {mark for row in cells for mark in row[2:]} <= {
        "held",
        "out",
        "out as root",
        "out as user",
    }
    for row in cells:
        for level, mark in zip(header[3:], row[3:], strict=True):
            lowest = HELD_BELOW.get(row[1], "L1")
            assert mark == "held" or (level != "wasm" and level < lowest), row
