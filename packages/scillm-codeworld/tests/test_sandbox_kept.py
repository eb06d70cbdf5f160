"""A sandbox keeps a process that is asked for hours, and holds it like any run. Real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from scillm.errors import SandboxError, UsageError
from scillm.plugins.groups import EXTRAS
from scillm.plugins.registry import Registry
from scillm.protocols import Keeps, KeptProgram
from scillm_codeworld.sandbox import open_sandbox

PYTHON = os.path.realpath(sys.executable)
ECHO = "import sys\nfor line in sys.stdin:\n    print(line.strip()[::-1], flush=True)\n"
LEVELS = ["L3", "L4"]


def program(code: str, **changes) -> KeptProgram:
    """A Python program that is kept."""
    words = {"argv": [PYTHON, "-I", "-S", "-c", code], "shown": [PYTHON], "memory_mb": 256}
    return KeptProgram(**{**words, **changes})


async def opened(stack, level):
    """A sandbox of exactly that level, until the stack ends; skips where it is not had."""
    try:
        return await stack.enter_async_context(open_sandbox(require=level, prefer=level))
    except SandboxError as error:
        pytest.skip(str(error))


def kept_in(level, work, *, backend="asyncio"):
    """What `work(sandbox)` gives in a sandbox of that level."""

    async def main():
        async with AsyncExitStack() as stack:
            sandbox = await opened(stack, level)
            with anyio.fail_after(60):
                return await work(sandbox)

    return anyio.run(main, backend=backend)


async def lines(kept, count):
    """So many lines of what a process writes, or all there are."""
    text = b""
    while text.count(b"\n") < count and (chunk := await kept.read()):
        text += chunk
    return text.decode().splitlines()


async def told(kept):
    """The first line of a process, read as JSON."""
    (line, *_) = await lines(kept, 1)
    return json.loads(line)


def gone(pid, *, within_s=10.0):
    """Whether no process of that number runs any more, in that time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return True
        if text.rpartition(") ")[2][0] in "ZX":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("level", LEVELS)
def test_a_kept_process_answers_for_as_long_as_it_is_asked(level, backend):
    """The same process gives a thousand answers, and says how it is held."""

    async def work(sandbox):
        kept = sandbox.keep(program(ECHO))
        isolation = await kept.started()
        pid, found = kept.pid, []
        for number in range(1000):
            assert await kept.write(b"%d\n" % number)
            found += await lines(kept, 1)
        return isolation, pid, kept.pid, found

    isolation, first, last, found = kept_in(level, work, backend=backend)

    assert found == [str(number)[::-1] for number in range(1000)]
    assert first == last
    assert isolation["level"] == level
    assert {"fs", "net", "procs", "mem", "kill", "uid", "rlimits"} <= set(isolation)
    assert "RLIMIT_CPU" not in isolation["rlimits"]


def test_the_registry_offers_a_sandbox_that_keeps():
    """Another package finds the power by its name and its protocol, and never imports this one."""
    opener = Registry().get(EXTRAS, "open_sandbox")

    async def main():
        async with opener(require="L3") as sandbox:
            return isinstance(sandbox, Keeps)

    assert kept_in("L3", some) is None
    assert anyio.run(main) is True


async def some(_sandbox):
    return None


TRIES = """
import ctypes, json, os, socket, sys
port, secret, target, parent = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
libc = ctypes.CDLL(None, use_errno=True)
def tried(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"
def unshared():
    if libc.unshare(0x10000000) != 0:
        raise PermissionError
def revived():
    if libc.prctl(1, 0, 0, 0, 0) != 0:
        raise PermissionError
def inherited():
    for number in range(3, 256):
        try:
            os.fstat(number)
        except OSError:
            continue
        return
    raise PermissionError
print(json.dumps({
    "a descriptor of ours": tried(inherited),
    "connect": tried(lambda: socket.create_connection(("127.0.0.1", port), timeout=5)),
    "listen": tried(lambda: socket.create_server(("127.0.0.1", 0))),
    "read a secret": tried(lambda: open(secret).read()),
    "read a system file": tried(lambda: open("/etc/passwd").read()),
    "read another process": tried(lambda: open("/proc/%d/environ" % parent).read()),
    "write": tried(lambda: open(target, "w").write("x")),
    "write what it is shown": tried(lambda: open(sys.executable, "r+").close()),
    "signal": tried(lambda: os.kill(parent, 0)),
    "fork": tried(os.fork),
    "a namespace": tried(unshared),
    "outlive its parent": tried(revived),
    "a file of its own": tried(lambda: open("mine", "w").write("x")),
}), flush=True)
"""


@pytest.mark.parametrize("level", LEVELS)
def test_every_way_out_is_shut(level, tmp_path):
    """Network, files, processes: a kept process finds each closed, and only its folder open."""
    secret, target = tmp_path / "secret", tmp_path / "written"
    secret.write_text("s")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        words = [str(listener.getsockname()[1]), str(secret), str(target), str(os.getpid())]

        async def work(sandbox):
            argv = [PYTHON, "-I", "-S", "-c", TRIES, *words]
            return await told(await started(sandbox, program("", argv=argv)))

        found = kept_in(level, work)
        with pytest.raises(BlockingIOError):
            listener.accept()

    assert found.pop("a file of its own") == "done"
    assert "done" not in found.values(), found
    assert not target.exists()


async def started(sandbox, kept_program):
    kept = sandbox.keep(kept_program)
    await kept.started()
    return kept


BOMBS = {
    "processes": "while True:\n    try: os.fork(); made += 1\n    except OSError: break\n",
    "threads": "import threading, time\nwhile True:\n"
    "    try: threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); made += 1\n"
    "    except RuntimeError: break\n",
    "files": "kept = []\nwhile True:\n"
    "    try: kept.append(open('/dev/null')); made += 1\n    except OSError: break\n",
    "disk": "file = open('full', 'wb', 0)\nwhile True:\n"
    "    try: file.write(bytes(1 << 20)); made += 1\n    except OSError: break\n",
}
MOST = {"processes": 0, "threads": 64, "files": 256, "disk": 16}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_ends_at_its_limit(level, bomb):
    """No process, 64 threads, 256 files, 16 MB: then the system says no, and the rest goes on."""
    code = "import os, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nmade = 0\n"
    code += BOMBS[bomb] + "print(made, flush=True)\nos._exit(0)\n"

    async def work(sandbox):
        beside = await started(sandbox, program(ECHO))
        made = await told(await started(sandbox, program(code, memory_mb=1024)))
        await beside.write(b"abc\n")
        return made, await lines(beside, 1)

    made, beside = kept_in(level, work)

    assert made <= MOST[bomb]
    assert bomb == "processes" or made > MOST[bomb] / 2
    assert beside == ["cba"]


PRIVATE = "a = []\nwhile True: a.append(bytearray(1 << 20))\n"
SHARED = "import mmap\na = []\nwhile True:\n    a.append(mmap.mmap(-1, 1 << 24))\n"
SHARED += "    a[-1].write(b'x' * (1 << 24))\n"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("code", "why"), [(PRIVATE, "MemoryError"), (SHARED, "used up its memory")]
)
def test_a_memory_bomb_ends_its_process_only(level, code, why):
    """Memory of its own and shared memory both have an end, which is told in words."""

    async def work(sandbox):
        beside = await started(sandbox, program(ECHO))
        bomb = await started(sandbox, program(code))
        assert await bomb.read() == b""
        await beside.write(b"abc\n")
        return await bomb.ending(), bomb.alive, await lines(beside, 1)

    ending, alive, beside = kept_in(level, work)

    assert why in ending or (level == "L4" and "used up its memory" in ending)
    assert alive is False
    assert beside == ["cba"]


PARENT = """
import anyio, os, sys
from scillm.protocols import KeptProgram
from scillm_codeworld.sandbox import open_sandbox
python = os.path.realpath(sys.executable)
code = "import time, signal\\nsignal.signal(15, signal.SIG_IGN)\\n"
code += "print(1, flush=True)\\ntime.sleep(600)"
held = []
async def main():
    opening = open_sandbox(require="L3")
    sandbox = await opening.__aenter__()
    for _ in range(2):
        argv = [python, "-I", "-S", "-c", code]
        kept = sandbox.keep(KeptProgram(argv=argv, shown=[python], memory_mb=256))
        await kept.started()
        await kept.read()
        print(kept.pid, flush=True)
        held.append((kept, opening, sandbox))
    if sys.argv[1] == "sleep":
        await anyio.sleep(600)
    if sys.argv[1] == "fork" and os.fork() == 0:
        held.clear()
        sys.exit(0)
    if sys.argv[1] == "fork":
        os.wait()
        print(all(kept.alive for kept, *_ in held), flush=True)
anyio.run(main)
"""


def parent(how, *, flags=()):
    return subprocess.Popen(
        [sys.executable, *flags, "-c", PARENT, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_is_kept_dies_with_its_parent():
    """After `kill -9` of the program that asked for them, no kept process is left."""
    with parent("sleep") as process:
        try:
            pids = [int(process.stdout.readline()) for _ in range(2)]
            assert not any(gone(pid, within_s=0.01) for pid in pids)
        finally:
            os.kill(process.pid, signal.SIGKILL)

        assert all(gone(pid) for pid in pids)


def test_a_sandbox_that_nobody_closes_leaves_nothing_behind():
    """At the end of a program what it kept is ended, without a word."""
    with parent("leave", flags=("-W", "error")) as process:
        out, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (0, "")
    assert all(gone(int(pid)) for pid in out.split())


def test_a_forked_copy_of_the_parent_ends_nothing():
    """Whoever forks a program that keeps processes may end the copy; they live on."""
    with parent("fork", flags=("-W", "ignore")) as process:
        out, err = process.communicate(timeout=60)

    assert (out.split()[-1], err) == ("True", "")


@pytest.mark.parametrize("level", LEVELS)
def test_a_process_that_is_killed_is_gone(level):
    """`kill` waits for its end; what it wrote before is there, a second call does nothing."""
    code = "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n"

    async def work(sandbox):
        kept = await started(sandbox, program(f"{code}print('last', flush=True)\ntime.sleep(99)"))
        found = await lines(kept, 1)
        pid = kept.pid
        kept.kill()
        kept.kill()
        return (
            found,
            pid,
            kept.alive,
            await kept.read(),
            await kept.write(b"x"),
            await kept.ending(),
        )

    found, pid, alive, rest, written, ending = kept_in(level, work)

    assert found == ["last"]
    assert gone(pid, within_s=0.01)
    assert (alive, rest, written) == (False, b"", False)
    assert "SIGKILL" in ending


def test_closing_the_sandbox_ends_what_it_keeps():
    """Nothing outlives its sandbox, and nothing is started in one that was closed."""

    async def main():
        async with AsyncExitStack() as stack:
            sandbox = await opened(stack, "L3")
            kept = await started(sandbox, program(ECHO))
        pid = kept.pid
        with pytest.raises(SandboxError, match="closed"):
            sandbox.keep(program(ECHO))
        return pid, kept.alive, await kept.ending()

    pid, alive, ending = anyio.run(main)

    assert gone(pid)
    assert alive is False
    assert "sandbox was ended" in ending


def test_a_zygote_that_was_killed_costs_what_it_held_and_no_more():
    """The process says that its sandbox was ended, and the next one is started."""

    async def work(sandbox):
        lost = await started(sandbox, program(ECHO))
        for zygote in sandbox._keeping._zygotes.values():
            zygote.process.kill()
        assert await lost.read() == b""
        new = await started(sandbox, program(ECHO))
        await new.write(b"abc\n")
        return lost.alive, await lost.ending(), await lines(new, 1)

    assert kept_in("L3", work) == (False, "its sandbox was ended", ["cba"])


def test_programs_that_are_done_leave_no_zygote():
    """Of a hundred different programs, only those that still run cost a process each."""

    async def work(sandbox):
        first = await started(sandbox, program(ECHO, shown=[PYTHON, "/etc/hostname"]))
        for path in ("/etc/passwd", "/etc/group", "/etc/hosts"):
            kept = await started(sandbox, program(ECHO, shown=[PYTHON, path]))
            kept.kill()
        await started(sandbox, program(ECHO))
        await first.write(b"abc\n")
        return len(sandbox._keeping._zygotes), await lines(first, 1)

    assert kept_in("L3", work) == (2, ["cba"])


def test_a_flood_on_stderr_holds_nobody_up():
    """More than a pipe holds is read past; the end of it is told when the process ends."""
    code = "import sys\nsys.stderr.write('e' * 3_000_000 + 'the end')\nprint('done', flush=True)\n"

    async def work(sandbox):
        kept = await started(sandbox, program(code))
        return await lines(kept, 1), await kept.read(), await kept.ending()

    found, rest, ending = kept_in("L3", work)

    assert (found, rest) == (["done"], b"")
    assert ending.startswith("it left with exit code 0; it last wrote to stderr: eee")
    assert ending.endswith("eeethe end")
    assert len(ending) < 3_000


def test_a_long_line_is_whole_both_ways():
    """More than a pipe holds at once, in both directions."""
    text = "abc" * 1_000_000

    async def work(sandbox):
        kept = await started(sandbox, program(ECHO))
        found = []
        async with anyio.create_task_group() as group:

            async def read():
                found.extend(await lines(kept, 1))

            group.start_soon(read)
            assert await kept.write(text.encode() + b"\n")
        return found

    assert kept_in("L3", work) == [text[::-1]]


@pytest.mark.parametrize("level", LEVELS)
def test_a_process_comes_up_whether_it_is_awaited_or_not(level):
    """A spare is warm when it is needed: nobody has to wait for it first."""

    def runs_echo(kept):
        return kept.pid and b"reversed" in Path(f"/proc/{kept.pid}/cmdline").read_bytes()

    async def work(sandbox):
        await started(sandbox, program(ECHO))  # the zygote is up
        spare = sandbox.keep(program(ECHO + "# reversed"))
        while not runs_echo(spare):  # noqa: ASYNC110 - a test must not wait for it
            await anyio.sleep(0.005)
        await spare.write(b"abc\n")
        await spare.started()
        return await lines(spare, 1)

    assert kept_in(level, work) == ["cba"]


def test_a_waiter_that_is_cancelled_costs_nothing():
    """Who gives up waiting for the start leaves the process as it is, for the next one."""

    async def work(sandbox):
        kept = sandbox.keep(program(ECHO))
        for wait_s in (0, 0.001, 0.01, 0.02):
            with anyio.move_on_after(wait_s):
                await kept.started()
        isolation = await kept.started()
        await kept.write(b"abc\n")
        return isolation["level"], await lines(kept, 1)

    for level in LEVELS:
        assert kept_in(level, work) == (level, ["cba"])


def test_a_program_finds_its_own_place_and_no_more_of_proc():
    """Loaders and Lean look up where they lie, runtimes how many processors; no process is seen."""
    code = (
        "import os, json\nprint(json.dumps([os.readlink('/proc/self/exe'), "
        "os.readlink('/proc/%d/exe' % os.getpid()), sorted(os.listdir('/proc')), "
        "os.listdir('/proc/self'), open('/proc/cpuinfo').read().count('processor')]))\n"
    )

    async def work(sandbox):
        return await told(await started(sandbox, program(code)))

    cores = len(os.sched_getaffinity(0))
    assert kept_in("L3", work) == [
        PYTHON,
        PYTHON,
        ["1", "cpuinfo", "self", "stat"],
        ["exe"],
        cores,
    ]


def test_only_what_is_shown_can_be_read(tmp_path):
    """Files and folders by name, with all that is in them; their neighbours are not there."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    code = "import os, sys, json\nprint(json.dumps([open(sys.argv[1] + '/file').read(), "
    code += "os.listdir(os.path.dirname(sys.argv[1])), os.environ.get('WORD')]))\n"
    argv = [PYTHON, "-I", "-S", "-c", code, str(tmp_path / "a")]
    shown = [PYTHON, str(tmp_path / "a")]

    async def work(sandbox):
        kept = program("", argv=argv, shown=shown, environment={"WORD": "w"})
        return await told(await started(sandbox, kept))

    assert kept_in("L3", work) == ["a", ["a"], "w"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"argv": []}, "argv is empty"),
        ({"argv": ["python3"]}, "'python3' must be an absolute path"),
        ({"argv": ["/nowhere/lean"]}, "something that is there"),
        ({"argv": ["/etc/passwd"]}, "no program that can be run"),
        ({"argv": [PYTHON, "a\0b"]}, "NUL"),
        ({"argv": [PYTHON, "x" * 40_000]}, "below 32768 bytes"),
        ({"environment": {"A": "\0"}}, "NUL"),
        ({"shown": ["relative"]}, "absolute path"),
        ({"shown": ["/"]}, "'/' cannot be shown"),
        ({"shown": ["/proc/self"]}, "cannot be shown"),
        ({"shown": ["/dev"]}, "cannot be shown"),
        ({"memory_mb": 0}, "from 64 to"),
        ({"memory_mb": -1}, "from 64 to"),
    ],
)
def test_a_program_that_cannot_be_meant_is_refused_at_once(changes, said):
    """The error says what is wrong, and nothing is started."""

    async def work(sandbox):
        with pytest.raises(UsageError, match=said):
            sandbox.keep(program(ECHO, **changes))
        return dict(sandbox._keeping._zygotes)

    assert kept_in("L3", work) == {}


def test_a_file_that_cannot_be_started_is_named(tmp_path):
    """A script whose interpreter is missing is an error of the start, with the system's word."""
    script = tmp_path / "lean"
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)

    async def work(sandbox):
        kept = sandbox.keep(program("", argv=[str(script)]))
        with pytest.raises(SandboxError, match="lean cannot be started: No such file"):
            await kept.started()
        return kept.alive

    assert kept_in("L3", work) is False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can show what the program may not read")
def test_what_the_program_may_not_read_is_named(tmp_path):
    """Kept processes are nobody's; a folder hidden from others is an error with its path."""
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)

    async def work(sandbox):
        for _ in range(4):  # whether it was ordered before or after the refusal
            kept = sandbox.keep(program(ECHO, shown=[PYTHON, str(hidden)]))
            with pytest.raises(SandboxError, match=f"cannot read {hidden}"):
                await kept.started()
        return True

    assert kept_in("L3", work)


def test_below_l3_nothing_is_kept():
    """L2 says so, with the level that would do; L1 does not offer it."""

    async def work(sandbox):
        with pytest.raises(SandboxError, match="kept at level L3 or above; this is L2"):
            sandbox.keep(program(ECHO))
        return True

    async def is_offered(sandbox):
        return isinstance(sandbox, Keeps)

    assert kept_in("L1", is_offered) is False
    assert kept_in("L2", work)
