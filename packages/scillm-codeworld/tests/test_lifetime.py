"""No process outlives the work it was started for."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import pytest
from scillm.errors import SandboxError
from scillm.fanout import each
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox
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


WARM_PARENT = """
import sys, anyio
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox
code = 'import time\\ndef solve(x):\\n    while True: time.sleep(1)'
async def main():
    level = sys.argv[2]
    async with open_sandbox(require=level, prefer=level) as sandbox:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(sandbox.run, Program(code=code), None, Limits(time_s=600.0))
            await anyio.sleep(1.0)
            print('started', flush=True)
anyio.run(main, backend=sys.argv[1])
"""


def descendants(pid):
    """Ids of all living processes below one."""
    found = set(children(pid))
    for child in list(found):
        found |= descendants(child)
    return found


async def settled():
    """How many processes there are below this one, once no run is ending and no cell being made.

    Which ones they are changes: each zygote makes the cell of its next run in advance.
    """
    counts = []
    while len(counts) < 10 or len(set(counts[-10:])) > 1:
        await anyio.sleep(0.03)
        counts.append(len(descendants(os.getpid())))
        assert len(counts) < 300, counts
    return counts[-1]


def opened(level, work):
    """What `work(sandbox)` gives at that level; skips where it is not had."""

    async def main():
        async with open_sandbox(require=level, prefer=level) as sandbox:
            return await work(sandbox)

    try:
        return anyio.run(main)
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("level", ["L2", "L3"])
def test_a_parent_that_is_killed_takes_zygotes_and_runs_with_it(backend, level):
    """`kill -9` of the parent ends everything below it, at the levels with a zygote too."""
    parent = subprocess.Popen(
        [sys.executable, "-c", WARM_PARENT, backend, level],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        if parent.stdout.readline() != b"started\n":
            pytest.skip(parent.stderr.read().decode()[-300:])
        pids = descendants(parent.pid)
        assert len(pids) >= 4  # a zygote at least, and three runs
        parent.send_signal(signal.SIGKILL)
        parent.wait()

        assert eventually(lambda: not any(is_alive(pid) for pid in pids))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        parent.stderr.close()


@pytest.mark.parametrize("level", ["L2", "L3", "L4"])
def test_cancelled_and_finished_runs_leave_nothing_in_an_open_sandbox(level):
    """No process, no descriptor: what was there before the runs is there after them."""

    async def work(sandbox):
        await sandbox.run(Program(code="def solve(x): return x"), 1, Limits())
        before = open_pipes(), await settled()
        with anyio.move_on_after(0.4):
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    code = "def solve(x):\n    while True: pass"
                    group.start_soon(sandbox.run, Program(code=code), None, Limits(time_s=600.0))
        for code in (
            "def solve(x): return x",
            "def solve(x): return x / 0",
            "import os; os._exit(1)",
        ):
            await sandbox.run(Program(code=code), 1, Limits())
        return before, (open_pipes(), await settled())

    before, after = opened(level, work)

    assert after == before


@pytest.mark.parametrize("level", ["L1", "L2", "L3"])
def test_a_closed_sandbox_leaves_no_process_and_no_descriptor(level):
    """Its zygotes end with it."""

    async def work(sandbox):
        return (await sandbox.run(Program(code="def solve(x): return x"), 1, Limits())).status

    before = open_pipes(), descendants(os.getpid())
    status = opened(level, work)

    assert status == "ok"
    assert (open_pipes(), descendants(os.getpid())) == before


def resident_kb(pid):
    """Memory a process holds."""
    line = next(
        row
        for row in (Path("/proc") / str(pid) / "status").read_text().splitlines()
        if row.startswith("VmRSS")
    )
    return int(line.split()[1])


BUSY_PARENT = """
import anyio
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox
LONG = {
    'python': 'def solve(x):\\n    while True: pass',
    'c': 'int main(void){for(;;);}',
    'cpp': 'template<int N,int M>struct A{static const long v=A<N-1,M>::v+A<N-1,M+(1<<N)>::v;};'
           'template<int M>struct A<0,M>{static const long v=1;};int main(){return A<24,0>::v;}',
    'javascript': 'for(;;);',
}
async def main():
    while True:
        async with open_sandbox(require='L3', prefer='L3', languages=tuple(LONG)) as sandbox:
            async with anyio.create_task_group() as group:
                async def run(code, language='python'):
                    program = Program(code=code, language=language)
                    await sandbox.run(program, None, Limits(time_s=600.0))
                for language, code in LONG.items():
                    group.start_soon(run, code, language)
                for _ in range(50):
                    await run('def solve(x): return x')
                group.cancel_scope.cancel()
anyio.run(main)
"""
KILLER = """
import ctypes, os, subprocess, sys, time
from pathlib import Path
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: survivors become ours
def own():
    tasks = Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()
    states = (Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] for pid in tasks)
    return sum(state != 'Z' for state in states)
left = []
for moment in map(float, sys.argv[2:]):
    parent = subprocess.Popen([sys.executable, '-c', sys.argv[1]])
    time.sleep(moment)
    assert parent.poll() is None
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while own() and time.monotonic() < end:
        time.sleep(0.02)
    left.append(own())
print(left)
"""


@pytest.mark.deep
def test_whenever_its_parent_is_killed_nothing_is_left():
    """While zygotes start, cells are made, compilers and programs of three languages run."""
    moments = [0.1, 0.4, 0.7, 0.9, 1.1, 1.3, 1.7, 2.1, 2.6, 3.3, 4.2, 5.7]
    opened("L3", lambda sandbox: sandbox.run(Program(code="def solve(x): return x"), 1, Limits()))

    done = subprocess.run(
        [sys.executable, "-c", KILLER, BUSY_PARENT, *map(str, moments)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.returncode) == (f"{[0] * len(moments)}\n", 0), done.stderr


@pytest.mark.deep
@pytest.mark.parametrize("level", ["L3", "L4"])
def test_ten_thousand_runs_leave_nothing_behind(level):
    """Descriptors, processes, folders, mounts, control groups and memory are as at the start."""

    async def work(sandbox):
        async def some(count):
            numbers = iter(range(count))

            async def worker():
                for number in numbers:
                    run = await sandbox.run(
                        Program(
                            code="def solve(x):\n    open('f', 'w').write('x' * 999)\n    return x"
                        ),
                        number,
                        Limits(),
                    )
                    assert run.output == number

            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(worker)

        def seen(count):
            pids = descendants(os.getpid())
            return (
                len(open_pipes()),
                count,
                sorted(len(list((Path("/proc") / str(pid) / "fd").iterdir())) for pid in pids),
                sorted(path.name for path in Path("/tmp").iterdir() if "codeworld" in path.name),
                len(Path("/proc/self/mounts").read_text().splitlines()),
                [str(path) for path in Path("/sys/fs/cgroup").rglob(f"codeworld-{os.getpid()}-*")],
            )

        await some(500)
        before = seen(await settled()), {pid: resident_kb(pid) for pid in descendants(os.getpid())}
        own = resident_kb(os.getpid())
        await some(10_000)
        after = seen(await settled()), {pid: resident_kb(pid) for pid in descendants(os.getpid())}
        return before, after, resident_kb(os.getpid()) - own

    before, after, grown_kb = opened(level, work)

    assert after[0] == before[0]
    stayed = before[1].keys() & after[1].keys()
    assert stayed
    assert all(after[1][pid] - before[1][pid] < 2_000 for pid in stayed)
    assert grown_kb < 8_000


@pytest.mark.parametrize("level", ["L1", "L2", "L3", "L4"])
def test_a_run_that_finds_no_free_descriptor_is_refused_and_takes_none_with_it(
    level, tmp_path, monkeypatch
):
    """However far it came in making its pipes; it leaves no folder, and with room again is run."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def work(sandbox):
        program = Program(code="def solve(x): return x")
        await sandbox.run(program, 0, Limits())
        before, ends = open_pipes(), []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = set(map(int, before))
        free = [number for number in range(1000) if number not in taken]
        for spare in range(10):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], hard))
            try:
                ends.append(await sandbox.run(program, spare, Limits()))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        ends.append(await sandbox.run(program, 10, Limits()))
        return ends, len(open_pipes() - before)

    ends, left = opened(level, work)
    groups = list(Path("/sys/fs/cgroup").rglob(f"codeworld-{os.getpid()}-*"))

    assert (ends[0].status, ends[-1].status) == ("sandbox_refused", "ok")
    assert "Too many open files" in ends[0].reason
    assert {run.status for run in ends} == {"sandbox_refused", "ok"}
    assert (left, groups, list(tmp_path.iterdir())) == (0, [], [])


@pytest.mark.parametrize("level", ["L2", "L3"])
def test_more_runs_at_once_than_a_zygote_can_hold_wait_their_turn(level):
    """Seven hundred orders at the same moment: none is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 5_000:
        pytest.skip("seven hundred runs need five thousand descriptors")

    async def work(sandbox):
        async def one(number):
            program = Program(code="def solve(x): return x")
            return (await sandbox.run(program, number, Limits(time_s=60.0))).output

        return await each(one, range(700), limit=700)

    resource.setrlimit(resource.RLIMIT_NOFILE, (5_000, hard))
    try:
        answers = opened(level, work)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert answers == list(range(700))
