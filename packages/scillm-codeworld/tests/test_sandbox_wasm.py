"""Level wasm: the cost of a run is counted, not timed, and there is nothing to reach for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import anyio
import pytest
from scillm.errors import SandboxError
from scillm.records import Job, Limits
from scillm.runs.record import MemoryRecord
from scillm_codeworld import CodeWorldEngine
from scillm_codeworld.generate.contract import WASM_LIBRARY, Place, runner_contract
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox
from scillm_codeworld.sandbox.wasm import component

pytestmark = pytest.mark.skipif(
    find_spec("wasmtime") is None or find_spec("componentize_py") is None,
    reason="level wasm needs scillm-codeworld[wasm]",
)
LIMITS = Limits(time_s=1.0, memory_mb=128, output_bytes=100_000)
FIB = """
def solve(n):
    return n if n < 2 else solve(n - 1) + solve(n - 2)
"""
LOOPED = """
def solve(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a
"""


@pytest.fixture
def _home(wasm_cells, monkeypatch):
    monkeypatch.setenv("SCILLM_CODEWORLD_WASM_CACHE", str(wasm_cells))
    monkeypatch.delenv("SCILLM_CODEWORLD_ISOLATION", raising=False)


@pytest.fixture
def run(_home):
    """Runs one program on each of several inputs, in a sandbox of its own."""

    def of(code, *values, limits=LIMITS):
        async def main():
            async with open_sandbox(prefer="wasm") as sandbox:
                return [await sandbox.run(Program(code=code), value, limits) for value in values]

        return anyio.run(main)

    return of


def test_the_same_program_and_input_cost_the_same_fuel(run):
    """On every repeat, in every sandbox; more work costs more."""
    first, again, more = run(FIB, 12, 12, 13)
    (later,) = run(FIB, 12)

    assert (first.status, first.output) == ("ok", 144)
    assert first.fuel == again.fuel == later.fuel
    assert more.fuel > first.fuel > 0
    assert first.isolation["level"] == "wasm"


def test_luck_and_clocks_are_the_same_in_every_run(run):
    """Sets, hashes, random numbers and times repeat, so that their cost does too."""
    code = (
        "import random, time\n"
        "def solve(_):\n"
        "    return [random.random(), hash('a'), list({str(i) for i in range(9)}), time.time()]\n"
    )

    first, again = run(code, None, None)

    assert first.status == "ok"
    assert (first.output, first.fuel) == (again.output, again.fuel)


def test_a_loop_ends_when_its_fuel_does(run):
    """A timeout does not depend on the machine."""
    (found,) = run("def solve(_):\n    while True: pass\n", None)

    assert found.status == "timeout"
    assert "1 s, which are 1e+10 of fuel" in found.reason
    assert found.fuel is None


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("def solve(:", "syntax_error", "line 1"),
        ("x = 1", "no_entry_point", "no function 'solve'"),
        ("def solve(_): return {1}", "unserialisable", "set"),
        ("def solve(_): return float('nan')", "unserialisable", "JSON"),
        ("def solve(_): return 'x' * 200_000", "output_limit", "100000 bytes"),
        ("def solve(_):\n    while 1: print('y' * 99)", "output_limit", "stdout"),
        ("def solve(_):\n    a = []\n    while 1: a.append(bytearray(10**6))", "memory", "memory"),
        ("def solve(_): return solve(_)", "exception", "RecursionError"),
        ("import sys\ndef solve(_): sys.exit(0)", "exception", "SystemExit"),
        ("import os\ndef solve(_): os._exit(0)", "exception", "does not have"),
        ("import socket\ndef solve(_): return 1", "exception", "No module named 'socket'"),
        ("def solve(_): return open('/etc/passwd').read()", "exception", "PermissionError"),
        ("import os\ndef solve(_): return os.listdir('/')", "exception", "PermissionError"),
        ("import datetime as d\ndef solve(_): return str(d.datetime.now())", "exception", "clock"),
    ],
)
def test_every_end_has_its_name(run, code, status, reason):
    """What a program does wrong is told as at the other levels."""
    (found,) = run(code, None)

    assert found.status == status, found
    assert reason in found.reason


def test_what_is_printed_is_kept_and_is_no_answer(run):
    """stdout and stderr come beside the answer, never in its place."""
    code = (
        "import sys\n"
        "def solve(x):\n"
        '    print(\'{"status": "ok"}\')\n'
        "    print('odd', file=sys.stderr)\n"
        "    return x\n"
    )

    (found,) = run(code, {"a": [1, None]})

    assert found.output == {"a": [1, None]}
    assert (found.stdout, found.stderr) == ('{"status": "ok"}\n', "odd\n")


def test_nothing_of_one_run_is_there_in_the_next(run):
    """Each run is a fresh instance of the same memory."""
    code = (
        "import math\n"
        "def solve(_):\n"
        "    seen = getattr(math, 'seen', 0)\n"
        "    math.seen = seen + 1\n"
        "    return seen\n"
    )

    runs = run(code, *[None] * 5)

    assert [row.output for row in runs] == [0] * 5


@pytest.mark.usefixtures("_home")
def test_speed_is_ranked_by_fuel_and_repeats_to_the_byte():
    """Two whole jobs at level wasm agree in every finding, speed included, without a timing run."""
    item = {
        "id": "fib",
        "task": "fib",
        "metadata": "two ways",
        "context": {
            "code_variants": {"slow": FIB, "quick": LOOPED},
            "inputs": [12, 3],
            "expected": [144, 2],
        },
    }
    job = Job(
        engine="codeworld",
        items=[item],
        options={"isolation": "wasm", "repeats": 3, "judge": {"mode": "weighted"}},
        seed=1,
    )

    async def main():
        records = MemoryRecord(), MemoryRecord()
        return [await CodeWorldEngine().run_recorded(job, record) for record in records]

    first, again = anyio.run(main)

    best, other = first.results[0]["variants"]
    assert (best["id"], best["scores"]["speed"]) == ("quick", 1.0)
    assert other["scores"]["speed"] == round(best["fuel"] / other["fuel"], 4)
    assert best["executions"][0]["runs"] == 1
    assert first.findings == again.findings


@pytest.mark.usefixtures("_home")
def test_wasm_never_stands_in_for_another_level(monkeypatch):
    """Where the host requires L3, a wish for wasm is refused, and the other way round."""

    async def opened(**wish):
        async with open_sandbox(**wish) as sandbox:
            return sandbox.level

    assert anyio.run(lambda: opened(require="wasm")) == "wasm"
    with pytest.raises(SandboxError, match="cannot be compared"):
        anyio.run(lambda: opened(require="L3", prefer="wasm"))
    monkeypatch.setenv("SCILLM_CODEWORLD_ISOLATION", "L3")
    with pytest.raises(SandboxError, match="cannot be compared"):
        anyio.run(lambda: opened(require="wasm"))


def test_an_interpreter_that_others_could_have_changed_is_not_run(tmp_path, monkeypatch):
    """A folder that everybody may write to is refused: what lies there runs as machine code."""
    tmp_path.chmod(0o777)
    monkeypatch.setenv("SCILLM_CODEWORLD_WASM_CACHE", str(tmp_path))

    async def opened():
        async with open_sandbox(prefer="wasm"):
            return

    with pytest.raises(SandboxError, match="written to by others"):
        anyio.run(opened)


@pytest.mark.usefixtures("_home")
def test_a_run_that_is_given_up_leaves_no_process():
    """Cancelling ends the worker that was busy with it; the sandbox goes on with another."""

    def children():
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    async def main():
        before = children()
        async with open_sandbox(prefer="wasm") as sandbox:
            with anyio.move_on_after(0.1):
                loop = Program(code="def solve(_):\n    while True: pass\n")
                await sandbox.run(loop, None, Limits(time_s=60.0))
            after = await sandbox.run(Program(code=FIB), 5, LIMITS)
        return before, children(), after.output

    before, left, answer = anyio.run(main)

    assert answer == 5
    assert left == before


KILLED_PARENT = """
import sys, anyio
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox
async def main():
    print('starting', flush=True)
    async with open_sandbox(prefer='wasm') as sandbox:
        print('opened', flush=True)
        loop = Program(code='def solve(_):\\n    while True: pass')
        await sandbox.run(loop, None, Limits(time_s=600.0))
anyio.run(main)
"""


@pytest.mark.parametrize("stage", ["while it builds", "while it runs"])
def test_a_parent_that_is_killed_takes_the_worker_with_it(stage, wasm_cells, tmp_path):
    """`kill -9` ends the interpreter's making, and a run in the middle of its ten minutes."""
    place = wasm_cells if stage == "while it runs" else tmp_path
    parent = subprocess.Popen(
        [sys.executable, "-c", KILLED_PARENT],
        stdout=subprocess.PIPE,
        env={**os.environ, "SCILLM_CODEWORLD_WASM_CACHE": str(place)},
    )

    def found():
        tasks = Path(f"/proc/{parent.pid}/task").iterdir()
        return {pid for task in tasks for pid in (task / "children").read_text().split()}

    try:
        words = parent.stdout.readline()
        if stage == "while it runs":
            words = parent.stdout.readline()
        until(found)
        pids = found()
        time.sleep(0.5)  # into the middle of it
        parent.kill()
        parent.wait()

        assert words in (b"starting\n", b"opened\n")
        assert pids
        until(lambda: not any(is_alive(pid) for pid in pids))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def until(condition):
    """Wait for it; fails after half a minute."""
    end = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_a_killed_maker_left_is_removed_once_it_is_old(tmp_path):
    """A folder of work that is still going on is left alone."""
    for name in ("making-old", "making-new", "cell-kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cell.wasm").write_text("half")
    os.utime(tmp_path / "making-old", (0, 0))
    os.utime(tmp_path / "cell-kept", (0, 0))

    component.sweep(tmp_path, now=time.time())

    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell-kept", "making-new"]


def test_what_a_model_is_told_of_the_library_is_there(run):
    """Each module that the contract names can be imported; one that it does not name cannot."""
    said = runner_contract("solve", Place(limits=LIMITS, level="wasm"))
    (good,) = run(f"import {WASM_LIBRARY}\ndef solve(x):\n    return x\n", 1)
    (bad,) = run("import asyncio\ndef solve(x):\n    return x\n", 1)

    assert f"Only part of the standard library is there: {WASM_LIBRARY} and the like;" in said
    assert (good.status, bad.status) == ("ok", "exception")
