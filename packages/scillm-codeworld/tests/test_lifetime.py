"""No process outlives the work it was started for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox.execution import execute

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")

PARENT = """
import sys, anyio
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox.execution import execute
code = 'import time\\ndef solve(x):\\n    while True: time.sleep(1)'
async def main():
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(execute, Program(code=code), None, Limits(time_s=600.0))
        print('started', flush=True)
anyio.run(main, backend=sys.argv[1])
"""


def children(pid):
    """Ids of the living children of a process."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if after_name[1] == str(pid) and after_name[0] != "Z":
            found.append(int(folder.name))
    return found


def open_pipes():
    """Numbers of this process's open files."""
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def is_alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition, *, within_s=30.0):
    """Whether `condition()` becomes true in time."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def denies_processes(pid):
    """Whether the child has put its limits on, and so is about to run the program."""
    try:
        limits = (Path("/proc") / str(pid) / "limits").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    line = next(row for row in limits.splitlines() if row.startswith("Max processes"))
    return line.split()[2] == "0"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_parent_that_is_killed_takes_its_children_with_it(backend):
    """`kill -9` of the parent leaves no program running."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, backend], stdout=subprocess.PIPE)
    try:
        assert parent.stdout.readline() == b"started\n"
        assert eventually(lambda: len(children(parent.pid)) == 2)
        pids = children(parent.pid)
        assert eventually(lambda: all(denies_processes(pid) for pid in pids))
        time.sleep(0.2)  # from the limits to the death signal is the child's own next step
        parent.send_signal(signal.SIGKILL)
        parent.wait()

        assert eventually(lambda: not any(is_alive(pid) for pid in pids))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_run_leaves_no_process_and_no_pipe(backend):
    """When the cancelled call returns, its process is gone and its pipes are closed."""
    code = "def solve(x):\n    while True: pass"

    async def main():
        before = open_pipes()
        async with anyio.create_task_group() as group:
            group.start_soon(execute, Program(code=code), None, Limits(time_s=600.0))
            with anyio.fail_after(30):
                while not children(os.getpid()):  # noqa: ASYNC110  (no event tells of a fork)
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        return len(open_pipes() - before)

    already = set(children(os.getpid()))

    assert anyio.run(main, backend=backend) == 0
    assert set(children(os.getpid())) <= already


def test_a_finished_run_leaves_no_process_no_pipe_and_no_folder(tmp_path, monkeypatch):
    """Whatever the end: answered, crashed, timed out, cut off."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    programs = [
        "def solve(x): return x",
        "def solve(x): return x / 0",
        "def solve(x):\n    while True: pass",
        "def solve(x):\n    while True: print('x' * 999)",
        "import os\ndef solve(x): os.closerange(0, 1024)",
        "import os\ndef solve(x):\n    for n in range(99): os.mkdir(str(n))",
    ]

    async def main():
        before = open_pipes()
        ends = [
            (await execute(Program(code=code), 1, Limits(time_s=0.5))).status for code in programs
        ]
        return ends, len(open_pipes() - before)

    already = set(children(os.getpid()))
    ends, pipes = anyio.run(main)

    assert ends == ["ok", "exception", "timeout", "output_limit", "exception", "exception"]
    assert pipes == 0
    assert set(children(os.getpid())) <= already
    assert list(tmp_path.iterdir()) == []
