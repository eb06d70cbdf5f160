"""Every level tells what really happened, in the same words. Real processes throughout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import attrs
import pytest
import scillm
import scillm_codeworld as codeworld
from scillm.errors import SandboxError, UsageError
from scillm.fanout import each
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox
from scillm_codeworld.sandbox.inside.jail import Refused, check_readable

AMPLE = Limits(time_s=20.0, memory_mb=256)
SHORT = Limits(time_s=0.6, memory_mb=256)
LEVELS = ["L1", "L2", "L3", "L4"]


def runs(level, work, *, backend="asyncio", **options):
    """What `work(sandbox)` gives in a sandbox of exactly that level; skips where it is not had."""

    async def main():
        async with open_sandbox(require=level, prefer=level, **options) as sandbox:
            assert sandbox.level == level
            return await work(sandbox)

    try:
        return anyio.run(main, backend=backend)
    except SandboxError as error:
        pytest.skip(str(error))


def body(text):
    """A program whose `solve(x)` has this body."""
    lines = "\n".join(f"    {line}" for line in text.splitlines())
    return f"import os, sys, signal, time\ndef solve(x):\n{lines}\n"


ENDS = {
    "answers": (body("return [x, 1]"), "ok", ""),
    "crashes": (body("raise ValueError('no such thing')"), "exception", "no such thing (line 3)"),
    "is no Python": ("def solve(x)\n", "syntax_error", "(line 1)"),
    "has another name": ("def other(x): return x", "no_entry_point", "it defines other"),
    "returns a set": (body("return {1, 2}"), "unserialisable", "set"),
    "returns NaN": (body("return float('nan')"), "unserialisable", "JSON"),
    "loops": (body("while True: pass"), "timeout", "did not answer within 0.6 s"),
    "loops at load": ("while True: pass", "timeout", "did not load within 0.6 s"),
    "stops itself": (body("os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(99)"), "timeout", ""),
    "takes 2 GiB": (body("return len(bytearray(2 << 30))"), "memory", "memory"),
    "takes memory bit by bit": (body("a = []\nwhile True: a.append('x' * 10**6)"), "memory", ""),
    "floods stdout": (body("while True: print('x' * 9999)"), "output_limit", "stdout"),
    "floods its answer": (body("return 'x' * 10**7"), "output_limit", "answer"),
    "leaves": (body("os._exit(7)"), "exception", "exit code 7"),
    "breaks the interpreter": (body("import ctypes\nctypes.string_at(0)"), "killed", "SIGSEGV"),
    "closes its pipes": (body("os.closerange(0, 4096)\nwhile True: pass"), "exception", "closed"),
    "claims a refusal": (
        body(
            "for n in range(3, 4096):\n"
            '    try: os.write(n, b\'{"status": "sandbox_refused"}\\n\')\n'
            "    except OSError: pass\n"
            "os._exit(0)"
        ),
        "exception",
        "no answer",
    ),
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_way_to_end_has_the_same_status_at_every_level(level, backend):
    """A status means the same wherever the program ran, and comes with a reason."""

    async def work(sandbox):
        async def one(name):
            code, status, _ = ENDS[name]
            limits = SHORT if status == "timeout" else AMPLE
            return name, await sandbox.run(Program(code=code), "in", limits)

        return dict(await each(one, list(ENDS), limit=2))

    found = runs(level, work, backend=backend)

    assert {name: run.status for name, run in found.items()} == {
        name: status for name, (_, status, _) in ENDS.items()
    }
    assert all(reason in found[name].reason for name, (_, _, reason) in ENDS.items())
    assert found["answers"].output == ["in", 1]


@pytest.mark.parametrize("level", LEVELS)
def test_an_execution_carries_what_was_observed(level):
    """The level, what holds the program, and the kernel's account of what it used."""

    async def work(sandbox):
        code = body("end = time.process_time() + 0.2\nwhile time.process_time() < end: pass")
        return sandbox.report(), await sandbox.run(Program(code=code), None, AMPLE)

    report, run = runs(level, work)

    assert run.isolation["level"] == report["level"] == level
    assert {"fs", "net", "procs", "mem", "kill", "uid", "rlimits"} <= set(run.isolation)
    assert {"fs", "net", "procs", "mem", "kill", "why", "probe"} <= set(report)
    assert 0.2 <= run.cpu_s < 5
    assert 5_000 < run.max_rss_kb < 500_000


@pytest.mark.parametrize("level", ["L2", "L3", "L4"])
def test_the_probe_found_every_door_shut(level):
    """The level is what was seen from inside, not what was meant."""

    async def work(sandbox):
        return sandbox.report()["probe"]

    probe = runs(level, work)

    assert "open" not in probe.values()
    assert probe["first of its processes"] is (level != "L2")
    assert probe["uid"] != 0


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_printed_is_kept_and_sets_have_one_order(level):
    """Printed lines are no answers, and a hash seed is the same in every run and every zygote."""

    async def work(sandbox):
        code = body(
            "print('said')\nsys.stderr.write('e')\nreturn list({str(n) for n in range(40)})"
        )
        return [await sandbox.run(Program(code=code), None, AMPLE) for _ in range(4)]

    found = runs(level, work)

    assert {(run.stdout, run.stderr) for run in found} == {("said\n", "e")}
    assert len({tuple(run.output) for run in found}) == 1


@pytest.mark.parametrize("level", LEVELS)
def test_large_inputs_and_answers_arrive_whole(level):
    """More than a pipe holds at once, both ways."""

    async def work(sandbox):
        limits = Limits(time_s=20.0, memory_mb=256, output_bytes=3_000_000)
        return await sandbox.run(Program(code="def solve(x): return x"), [1] * 500_000, limits)

    assert runs(level, work).output == [1] * 500_000


def test_at_l3_a_program_has_a_folder_of_its_own_and_an_event_loop():
    """Honest programs find what they need: a place for a file, and asyncio."""
    code = (
        "import asyncio, tempfile, os\n"
        "async def two():\n    await asyncio.sleep(0)\n    return 2\n"
        "def solve(x):\n"
        "    with tempfile.TemporaryFile() as file:\n"
        "        file.write(b'abc')\n"
        "    open('mine', 'w').close()\n"
        "    return [asyncio.run(two()), os.listdir('.'), os.listdir('/proc') if "
        "os.path.exists('/proc') else None]\n"
    )

    async def work(sandbox):
        return [await sandbox.run(Program(code=code), None, AMPLE) for _ in range(2)]

    assert [run.output for run in runs("L3", work)] == [[2, ["mine"], None]] * 2


def test_a_runaway_delays_nobody():
    """While programs loop to their limit, others are answered as ever."""

    async def work(sandbox):
        order = []

        async def one(name, code, limits):
            await sandbox.run(Program(code=code), None, limits)
            order.append(name)

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(one, "runaway", body("while True: pass"), Limits(time_s=3.0))
            await anyio.sleep(0.2)
            for _ in range(10):
                await one("quick", "def solve(x): return x", AMPLE)
        return order

    assert runs("L3", work) == ["quick"] * 10 + ["runaway"] * 4


def test_a_sandbox_that_was_killed_says_so_and_comes_back():
    """A lost zygote costs the runs in it, each with a reason, and the next run gets a new one."""

    async def work(sandbox):
        found = []

        async def lost():
            code = body("time.sleep(60)")
            found.append(await sandbox.run(Program(code=code), None, Limits(time_s=30.0)))

        async with anyio.create_task_group() as group:
            group.start_soon(lost)
            await anyio.sleep(0.3)
            for zygote in sandbox._zygotes:
                zygote.process.kill()
        after = [
            await sandbox.run(Program(code="def solve(x): return x"), n, AMPLE) for n in range(4)
        ]
        return found[0], after

    lost, after = runs("L3", work)

    assert lost.status == "sandbox_refused"
    assert "nothing is known" in lost.reason
    assert [run.output for run in after] == [0, 1, 2, 3]


def test_a_wish_that_makes_no_sense_is_refused():
    """An unknown level, language or library is an error at once, with what there is."""
    with pytest.raises(UsageError, match="must be one of L1, L2, L3, L4 or wasm, but is 'L9'"):
        anyio.run(lambda: _opened(require="L9"))
    with pytest.raises(UsageError, match="not 'cobol'"):
        anyio.run(lambda: _opened(languages=("cobol",)))
    with pytest.raises(UsageError, match="not installed"):
        anyio.run(lambda: _opened(preload=("no_such_module",)))


async def _opened(**options):
    async with open_sandbox(**options) as sandbox:
        return sandbox.level


WITHOUT_NAMESPACES = """
import anyio, sys
from scillm.errors import SandboxError
from scillm_codeworld.sandbox import open_sandbox
async def main():
    async with open_sandbox() as sandbox:
        print(sandbox.level, sandbox.report()["why"])
    try:
        async with open_sandbox(require="L3"):
            print("opened")
    except SandboxError as error:
        print("refused", error)
anyio.run(main)
"""


def test_where_namespaces_are_forbidden_the_level_is_l2_and_says_why():
    """As in a default container: one level less, with its reason, and L3 is not pretended."""
    if shutil.which("unshare") is None:
        pytest.skip("forbidding namespaces needs unshare")
    done = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "sh", "-c"),
            'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -c "$1"',
            *(sys.executable, WITHOUT_NAMESPACES),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Operation not permitted" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(done.stderr)

    first, second = done.stdout.splitlines()
    assert first.startswith("L2 L3: ")
    assert second.startswith("refused Isolation L3 confined or better is required")


def test_a_required_level_can_come_from_the_environment(monkeypatch):
    """SCILLM_CODEWORLD_ISOLATION holds wherever nobody asks for something else."""
    monkeypatch.setenv("SCILLM_CODEWORLD_ISOLATION", "nonsense")

    with pytest.raises(UsageError, match="nonsense"):
        anyio.run(_opened)


def test_numpy_is_there_when_it_was_loaded_first_and_nothing_else_is():
    """One library for the price of a fork; its neighbours stay out of sight."""
    pytest.importorskip("numpy")
    code = "import numpy as np\ndef solve(x): return float(np.arange(x).sum())"

    async def work(sandbox):
        return [
            await sandbox.run(Program(code=code), 10, AMPLE),
            await sandbox.run(Program(code="import attrs\ndef solve(x): pass"), 10, AMPLE),
        ]

    good, bad = runs("L3", work, preload=("numpy",))

    assert good.output == 45.0
    assert bad.status == "exception"


def test_a_level_that_cannot_load_modules_first_does_not_go_without_them():
    """At L1, at wasm and in a container a wish for numpy is refused, not forgotten."""
    pytest.importorskip("numpy")

    for wish in ({"prefer": "L1"}, {"prefer": "wasm"}, {"prefer": "container"}):
        with pytest.raises(SandboxError, match="loaded ahead of the programs at levels L2 to L4"):
            anyio.run(lambda wish=wish: _opened(preload=("numpy",), **wish))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than its programs")
def test_started_as_root_no_program_is_root():
    """Not even the owner of its own files."""

    async def work(sandbox):
        code = body("return [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()]")
        return await sandbox.run(Program(code=code), None, AMPLE)

    assert runs("L3", work).output == [65534, 65534, 65534, []]


def test_a_job_cannot_lower_what_its_host_requires(monkeypatch):
    """The stronger of the two requirements holds; a container has no level to compare."""
    monkeypatch.setenv("SCILLM_CODEWORLD_ISOLATION", "L2")
    monkeypatch.setenv("SCILLM_CODEWORLD_CONTAINER", "env")
    try:
        level = anyio.run(lambda: _opened(require="L1", prefer="L1"))
    except SandboxError as error:
        pytest.skip(str(error))

    assert level == "L2"
    with pytest.raises(SandboxError, match="has no level that could be compared"):
        anyio.run(lambda: _opened(prefer="container"))


RUNNER = "unshare --pid --fork --kill-child --net --ipc --uts" + (
    " --user --map-root-user" if os.geteuid() else ""
)


def contained(monkeypatch, work):
    """What `work(sandbox)` gives in containers made by util-linux's unshare."""
    if subprocess.run([*RUNNER.split(), "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this host makes no containers with unshare")
    monkeypatch.setenv("SCILLM_CODEWORLD_CONTAINER", RUNNER)

    async def main():
        async with open_sandbox(prefer="container") as sandbox:
            return await work(sandbox)

    return anyio.run(main)


def test_programs_run_in_containers_of_a_command_of_ones_own(monkeypatch):
    """Any command that runs a command will do; ends are told in the same words."""
    chosen = ("answers", "crashes", "is no Python", "returns a set", "loops", "takes 2 GiB")

    async def work(sandbox):
        runs = {
            name: await sandbox.run(
                Program(code=ENDS[name][0]), "in", SHORT if name == "loops" else AMPLE
            )
            for name in chosen
        }
        noisy = body("print('said')\nsys.stderr.write('e')\nreturn 1")
        return runs, await sandbox.run(Program(code=noisy), None, AMPLE), sandbox.report()

    found, noisy, report = contained(monkeypatch, work)

    assert {name: run.status for name, run in found.items()} == {
        name: ENDS[name][1] for name in chosen
    }
    assert (noisy.output, noisy.stderr) == (1, "said\ne")
    assert report["level"] == noisy.isolation["level"] == "container"
    assert report["command"] == RUNNER
    assert report["probe"]["new process"] != "open"


def test_a_container_without_a_command_or_with_a_bad_one_is_refused(monkeypatch):
    """The error says what is missing, and nothing is run elsewhere instead."""
    monkeypatch.delenv("SCILLM_CODEWORLD_CONTAINER", raising=False)
    with pytest.raises(UsageError, match="SCILLM_CODEWORLD_CONTAINER gives no command"):
        anyio.run(lambda: _opened(prefer="container"))

    monkeypatch.setenv("SCILLM_CODEWORLD_CONTAINER", "/nonexistent/docker run")
    with pytest.raises(SandboxError, match="the probe ended sandbox_refused"):
        anyio.run(lambda: _opened(prefer="container"))


def test_what_a_program_could_not_read_is_named_before_any_is_run(tmp_path):
    """An interpreter whose library is hidden from the program's user is an error with its path."""
    hidden = tmp_path / "lib"

    with pytest.raises(Refused, match=f"cannot read {hidden}, which programs need"):
        check_readable([str(tmp_path), str(hidden)])


OTHER_PYTHON = """
import anyio
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox
async def main():
    async with open_sandbox() as sandbox:
        code = "import sqlite3, ssl, decimal, sys\\ndef solve(x): return [x, sys.version_info[1]]"
        run = await sandbox.run(Program(code=code), 1, Limits())
        print(sandbox.level, run.status, run.reason or run.output)
anyio.run(main)
"""


def test_the_distributions_python_works_as_well():
    """Its library lies elsewhere, as its shared objects do; late imports find both."""
    python = shutil.which("python3", path="/usr/bin")
    if python is None or runs("L3", _nothing) is not None:
        pytest.skip("no Python of the distribution here")
    folders = {
        str(Path(module.__file__).parents[1]) for module in (anyio, attrs, scillm, codeworld)
    }
    done = subprocess.run(
        [python, "-c", OTHER_PYTHON],
        env={"PYTHONPATH": os.pathsep.join(folders), "HOME": "/tmp", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "requires a different Python" in done.stderr or "SyntaxError" in done.stderr:
        pytest.skip("the distribution's Python is too old")

    assert done.stdout.startswith("L3 ok [1, "), done.stdout + done.stderr


async def _nothing(_sandbox):
    return None


def test_a_library_below_tmp_is_found_and_the_run_has_its_folder_elsewhere(tmp_path, monkeypatch):
    """Environments are made in /tmp too; what lies there is shown, and nothing else of it."""
    (tmp_path / "small_library.py").write_text("answer = 42\n")
    (tmp_path / "neighbour.py").write_text("secret = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    code = (
        "import os, small_library, tempfile\n"
        "def solve(x):\n"
        "    with tempfile.TemporaryFile() as file:\n"
        "        file.write(b'x')\n"
        "    try:\n        import neighbour\n"
        "    except ImportError:\n        return [small_library.answer, os.listdir('.')]\n"
    )

    async def work(sandbox):
        return await sandbox.run(Program(code=code), None, AMPLE)

    run = runs("L3", work, preload=("small_library",))

    assert run.output == [42, []], run
