"""The sandbox tells what really happened, whatever a program tries. Real processes throughout."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time

import anyio
import pytest
from scillm.errors import UsageError
from scillm.fanout import each
from scillm.records import Limits
from scillm_codeworld.records import (
    EXCEPTION,
    KILLED,
    MEMORY,
    NO_ENTRY_POINT,
    OK,
    OUTPUT_LIMIT,
    SANDBOX_REFUSED,
    STATUSES,
    SYNTAX_ERROR,
    TIMEOUT,
    UNSERIALISABLE,
    Program,
)
from scillm_codeworld.sandbox.child import command
from scillm_codeworld.sandbox.execution import execute

AMPLE = Limits(time_s=20.0, memory_mb=256)
SHORT = Limits(time_s=0.6, memory_mb=256)

PREAMBLE = """
import os, sys, signal, time
def to_every_pipe(line):
    for number in range(3, 1024):
        try:
            os.write(number, line)
        except OSError:
            pass
def solve(x):
"""


def run(code, value=None, limits=AMPLE, *, entry="solve", backend="asyncio"):
    """One execution of `code` on `value`."""

    async def main():
        return await execute(Program(code=code, entry=entry), value, limits)

    return anyio.run(main, backend=backend)


def body(text):
    """A program whose `solve(x)` has this body."""
    return PREAMBLE + "\n".join(f"    {line}" for line in text.splitlines())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("value", [None, True, -1, 2.5, 'ä\n"𝄞', [], {"a": [1, {"b": None}]}])
def test_an_input_comes_back_unchanged(value, backend):
    """What goes in as JSON comes out as the same JSON, on either event loop."""
    found = run("def solve(x): return x", value, backend=backend)

    assert (found.status, found.output, found.reason) == (OK, value, "")
    assert found.wall_s > 0
    assert found.load_s > 0


HONEST = {
    "crash": (body("y = 1\nreturn x / 0"), EXCEPTION, "unsupported operand"),
    "own error": (body("raise ValueError('no such thing')"), EXCEPTION, "no such thing (line 10)"),
    "at load": ("import nothing_of_this_name", EXCEPTION, "ModuleNotFoundError"),
    "no site-packages": ("import attrs", EXCEPTION, "No module named 'attrs'"),
    "our modules are not there": (
        "try:\n    import confine\nexcept ImportError:\n    import runner",
        EXCEPTION,
        "runner",
    ),
    "syntax": ("x = 1\ndef solve(x)\n", SYNTAX_ERROR, "(line 2)"),
    "null byte": ("a\0b", SYNTAX_ERROR, "null bytes"),
    "no entry": ("def other(x): return x", NO_ENTRY_POINT, "it defines other"),
    "entry is no function": ("solve = 5", NO_ENTRY_POINT, "no function 'solve'"),
    "empty": ("", NO_ENTRY_POINT, "none"),
    "exit": (body("sys.exit(3)"), EXCEPTION, "SystemExit: 3"),
    "exit at load": ("raise SystemExit", EXCEPTION, "SystemExit"),
    "reads input": (body("return input()"), EXCEPTION, "EOFError"),
    "recursion": (body("return solve(x)"), EXCEPTION, "RecursionError"),
    "nan": (body("return float('nan')"), UNSERIALISABLE, "JSON"),
    "infinity inside": (body("return {'a': [float('inf')]}"), UNSERIALISABLE, "JSON"),
    "a set": (body("return {1, 2}"), UNSERIALISABLE, "set"),
    "keys that are no strings": (body("return {1: 2}"), UNSERIALISABLE, "key 1"),
    "a circle": (body("a = []\na.append(a)\nreturn a"), UNSERIALISABLE, "Circular"),
    "bottomless": (
        body("a = []\nfor _ in range(100_000): a = [a]\nreturn a"),
        UNSERIALISABLE,
        "recursion",
    ),
    "too deep": (body("a = []\nfor _ in range(300): a = [a]\nreturn a"), UNSERIALISABLE, "nested"),
    "half a character": (body("return chr(0xd800)"), UNSERIALISABLE, "surrogate"),
    "a number too long": (body("return 10 ** 5000"), UNSERIALISABLE, "digits"),
}

HOSTILE = {
    "4 GiB at once": (body("return len(bytearray(4 << 30))"), MEMORY, "memory"),
    "memory bit by bit": (body("a = []\nwhile True: a.append('x' * 10**6)"), MEMORY, "memory"),
    "memory at load": ("a = bytearray(4 << 30)", MEMORY, "memory"),
    "1 GB to stdout": (
        body("for _ in range(10**4): print('x' * 10**5)"),
        OUTPUT_LIMIT,
        "stdout",
    ),
    "endless stderr": (body("while True: os.write(2, b'x' * 4096)"), OUTPUT_LIMIT, "stderr"),
    "50 MB answer": (body("return 'x' * 50_000_000"), OUTPUT_LIMIT, "answer"),
    "leaves at once": (body("os._exit(0)"), EXCEPTION, "exit code 0"),
    "leaves with a code": (body("os._exit(7)"), EXCEPTION, "exit code 7"),
    "kills itself": (body("os.kill(os.getpid(), signal.SIGKILL)"), KILLED, "SIGKILL"),
    "kills its group": (body("os.killpg(0, signal.SIGTERM)"), KILLED, "SIGTERM"),
    "breaks the interpreter": (body("import ctypes\nctypes.string_at(0)"), KILLED, "SIGSEGV"),
    "closes every pipe": (body("os.closerange(0, 1024)\nreturn 5"), EXCEPTION, "exit code"),
    "closes every pipe and stays": (
        body("os.closerange(0, 1024)\nwhile True: pass"),
        EXCEPTION,
        "closed the result pipe",
    ),
    "forks": (body("return os.fork()"), EXCEPTION, "BlockingIOError"),
    "starts a program": (
        body("import subprocess\nreturn subprocess.run(['true']).returncode"),
        EXCEPTION,
        "BlockingIOError",
    ),
    "starts a thread": (
        body("import threading\nthreading.Thread(target=print).start()"),
        EXCEPTION,
        "thread",
    ),
    "writes a file here": (body("open('a', 'w').write('x')"), EXCEPTION, "FileNotFoundError"),
    "raises a limit": (
        body(
            "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (99, 99))\nreturn os.fork()"
        ),
        EXCEPTION,
        "ValueError",
    ),
    "claims a refusal": (
        body('to_every_pipe(b\'{"status": "sandbox_refused"}\\n\')\nos._exit(0)'),
        EXCEPTION,
        "no answer",
    ),
    "claims a refusal while loading": (
        PREAMBLE + '    return x\nto_every_pipe(b\'{"status": "sandbox_refused"}\\n\')',
        EXCEPTION,
        "no answer",
    ),
    "claims nonsense": (body("to_every_pipe(b'[1, 2]\\n')\nos._exit(0)"), EXCEPTION, "no answer"),
    "claims no JSON": (body("to_every_pipe(b'{{{\\n')\nos._exit(0)"), UNSERIALISABLE, "read as"),
    "claims infinity": (
        body('to_every_pipe(b\'{"status": "ok", "output": 1e999}\\n\')\nos._exit(0)'),
        UNSERIALISABLE,
        "inf",
    ),
    "claims a bottomless answer": (
        body("to_every_pipe(b'[' * 100_000 + b'\\n')\nos._exit(0)"),
        UNSERIALISABLE,
        "read as",
    ),
    "an error that cannot be shown": (
        body("class Odd(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise Odd"),
        EXCEPTION,
        "Odd: (its message cannot be shown)",
    ),
    "an error of 10,000 broken characters": (
        body("raise ValueError(chr(0xd800) + 'x' * 10_000)"),
        EXCEPTION,
        "?xxx",
    ),
}

STUCK = {
    "loops": body("while True: pass"),
    "loops at load": "while True: pass",
    "sleeps": body("time.sleep(1000)"),
    "will not be stopped": body(
        "for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "while True:\n"
        "    try: time.sleep(1000)\n"
        "    except BaseException: pass"
    ),
    "computes in C": body("return 10 ** 10 ** 10"),
    "stops itself": body("os.kill(os.getpid(), signal.SIGSTOP)"),
    "an error whose message takes for ever": body(
        "class Odd(Exception):\n    def __str__(self):\n        while True: pass\nraise Odd"
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_failure_gets_its_own_status_and_a_reason(name):
    """Nobody has to guess what went wrong."""
    code, status, reason = HONEST[name]

    found = run(code, "x")

    assert found.status == status, found
    assert reason in found.reason
    assert found.output is None


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_gets_an_honest_status(name):
    """No trick ends in an answer, in our failure, or in a wait."""
    code, status, reason = HOSTILE[name]

    found = run(code, "x")

    assert found.status == status, found
    assert reason in found.reason
    assert found.output is None
    assert len(found.reason) < 1000


@pytest.mark.parametrize("name", STUCK)
def test_a_program_that_does_not_end_is_ended_at_its_deadline(name):
    """A timeout ends what it times, soon after the deadline."""
    started = time.monotonic()

    found = run(STUCK[name], 1, SHORT)

    assert (found.status, found.output) == (TIMEOUT, None)
    assert "within 0.6 s" in found.reason
    assert time.monotonic() - started < 15  # start-up on a busy machine included


def test_what_is_printed_is_kept_and_is_no_answer():
    """A printed line that looks like an answer is only a printed line."""
    code = body('print(\'{"status": "ok", "output": 99}\')\nsys.stderr.write(\'e\')\nreturn 1')

    found = run(code)

    assert (found.status, found.output) == (OK, 1)
    assert found.stdout == '{"status": "ok", "output": 99}\n'
    assert found.stderr == "e"


def test_a_long_print_is_cut_and_says_so():
    """Of much output the head is kept, with its whole length."""
    found = run(body("print('x' * 9999)\nreturn 1"))

    assert found.status == OK
    assert found.stdout.startswith("x" * 4096)
    assert "[cut after 4096 of at least 10000 bytes]" in found.stdout


def test_a_flood_is_ended_when_it_is_too_much_and_not_at_its_deadline():
    """Nobody waits a minute for a program that prints for ever."""
    started = time.monotonic()

    found = run(body("while True: print('x' * 999)"), 1, Limits(time_s=60.0))

    assert found.status == OUTPUT_LIMIT
    assert time.monotonic() - started < 30


def test_the_last_words_of_a_program_that_ends_at_once_are_kept():
    """What was printed just before the end is there, however the two race."""

    async def one(number):
        code = f"def solve(x):\n    print('word {number}')\n    return x"
        return (await execute(Program(code=code), 1, AMPLE)).stdout

    async def main():
        return await each(one, range(40), limit=4)

    assert anyio.run(main) == [f"word {number}\n" for number in range(40)]


def test_what_was_printed_before_a_timeout_is_kept():
    """The last words before a loop help to find it."""
    found = run(body("print('so far')\nwhile True: pass"), 1, SHORT)

    assert (found.status, found.stdout) == (TIMEOUT, "so far\n")


def test_an_answer_may_be_as_large_as_allowed():
    """The limit on answers is a limit on answers, not on pipes."""
    found = run("def solve(x): return 'x' * (x - 2)", 900_000, Limits(output_bytes=900_000))
    over = run("def solve(x): return 'x' * x", 910_000, Limits(output_bytes=900_000))

    assert (found.status, len(found.output)) == (OK, 899_998)
    assert over.status == OUTPUT_LIMIT


def test_an_answer_of_one_byte_more_is_too_large():
    """To the byte, however small the limit."""
    limits = Limits(output_bytes=50)

    assert run("def solve(x): return 'x' * 48", limits=limits).status == OK
    assert run("def solve(x): return 'x' * 49", limits=limits).status == OUTPUT_LIMIT


SMILE = chr(0x1F600)
LONG_NAME = "ж" * 99
DEEP = f"def {LONG_NAME}(n): return {LONG_NAME}(n - 1) if n else 1 / 0\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (f"raise ValueError({SMILE!r} * 600)", SMILE * 400),
        (f"def solve(x): raise ValueError({SMILE!r} * 600)", SMILE * 400),
        (f"{DEEP}{LONG_NAME}(30)", "ZeroDivisionError"),
        (f"{DEEP}def solve(x): return {LONG_NAME}(30)", "ZeroDivisionError"),
    ],
    ids=["long, loading", "long, called", "deep, loading", "deep, called"],
)
def test_a_reason_in_other_letters_is_a_reason(code, reason):
    """However long it is as JSON, it is told, and is no answer too large."""
    found = run(code, limits=Limits(output_bytes=50))

    assert found.status == EXCEPTION
    assert reason in found.reason


def test_a_flood_while_loading_is_the_programs_own():
    """Come with our own first line, it does not pass for a sandbox that did not start."""
    code = "import os\nfor n in range(3, 4096):\n    try: os.write(n, b'x' * 60_000)\n"
    found = run(f"{code}    except OSError: pass\nos._exit(0)")

    assert found.status == OUTPUT_LIMIT
    assert found.isolation["dies_with_parent"] is True


def test_a_large_input_arrives_whole():
    """More than a pipe holds at once."""
    found = run("def solve(x): return [len(x), sum(x)]", [1] * 300_000)

    assert found.output == [300_000, 300_000]


def test_the_program_sees_an_empty_environment_and_an_empty_folder(monkeypatch):
    """No key of the caller's environment is there to be read."""
    monkeypatch.setenv("SCILLM_TEST_SECRET", "s3cret")

    found = run(body("return [dict(os.environ), os.listdir('.'), os.path.isdir('/proc/self')]"))

    environment, entries, has_proc = found.output
    assert has_proc
    assert environment.pop("PYTHONHASHSEED") == "0"
    assert set(environment) <= {"LC_CTYPE"}  # set by Python itself, see PEP 538
    assert entries == []


def test_sets_have_the_same_order_in_every_process():
    """The hash seed is fixed, so that a replay can give the same answers."""
    code = "def solve(x): return list({str(n) for n in range(50)})"

    assert run(code).output == run(code).output


def test_nothing_carries_over_from_one_run_to_the_next():
    """Each input gets a fresh process."""
    code = "seen = []\ndef solve(x):\n    seen.append(x)\n    return len(seen)"

    assert [run(code).output for _ in range(2)] == [1, 1]


def test_the_limits_are_hard_and_the_child_says_which():
    """What is reported is what is on, soft and hard alike."""
    code = body(
        "import resource\n"
        "names = ['AS', 'CPU', 'FSIZE', 'NOFILE', 'CORE', 'NPROC']\n"
        "return {n: resource.getrlimit(getattr(resource, 'RLIMIT_' + n)) for n in names}"
    )

    found = run(code, limits=Limits(time_s=7.0, memory_mb=128))

    limits = found.isolation["rlimits"]
    assert limits["RLIMIT_AS"] == 128 * 2**20
    assert limits["RLIMIT_NPROC"] == limits["RLIMIT_FSIZE"] == 0
    assert limits["RLIMIT_CORE"] <= 1  # at 1 no file, and no crash handler of the host either
    assert limits["RLIMIT_CPU"] == 16
    assert found.output == {
        name.removeprefix("RLIMIT_"): [soft, soft + (name == "RLIMIT_CPU")]
        for name, soft in limits.items()
    }
    assert found.isolation["new_processes"] == "denied"
    assert found.isolation["dies_with_parent"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="only a root can be given up")
def test_started_as_root_a_program_is_nobody():
    """Root's rights do not reach the program: not to write, not to signal, not to come back."""
    code = body(
        "found = []\n"
        "for attempt in (\n"
        "    lambda: os.setuid(0),\n"
        "    lambda: os.kill(os.getppid(), 0),\n"
        "    lambda: os.rename('/etc/hostname', '/etc/hostname.gone'),\n"
        "    lambda: open('/proc/%d/environ' % os.getppid()).read(),\n"
        "):\n"
        "    try:\n"
        "        attempt()\n"
        "        found.append('done')\n"
        "    except PermissionError:\n"
        "        found.append('refused')\n"
        "return [os.getuid(), found]"
    )

    assert run(code).output == [65534, ["refused"] * 4]


def test_another_entry_point_can_be_named():
    """`entry` names the function that is called."""
    assert run("def f(x): return x + 1", 1, entry="f").output == 2


def test_dataclasses_work_in_a_program():
    """The program's module can be found by what looks modules up."""
    code = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass, asdict\n"
        "@dataclass\nclass P:\n    x: int\n"
        "def solve(x): return asdict(P(x))"
    )

    assert run(code, 3).output == {"x": 3}


@pytest.mark.parametrize(
    ("executable", "reason"),
    [("/nonexistent/python", "no process could be started"), ("/bin/true", "did not come up")],
)
def test_without_a_sandbox_nothing_is_run(monkeypatch, executable, reason):
    """When the child cannot be brought up as promised, the status says that nothing ran."""
    monkeypatch.setattr(sys, "executable", executable)

    found = run("def solve(x): return x", 1)

    assert (found.status, found.output) == (SANDBOX_REFUSED, None)
    assert reason in found.reason


@pytest.mark.parametrize("limits", [{"memory_mb": -1}, {"time_s": 0.0}, {"time_s": math.inf}])
def test_limits_that_are_none_are_refused(limits):
    """A limit of minus one would be no limit at all to the kernel."""
    with pytest.raises(UsageError, match=next(iter(limits))):
        run("def solve(x): return x", 1, Limits(**limits))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"parent_pid": 1}, "the parent died"),
        ({"memory_bytes": -1}, "RLIMIT_AS cannot be -1"),
    ],
)
def test_a_child_that_cannot_confine_itself_refuses_before_it_reads_the_program(change, reason):
    """Never silently weaker: it says what was missing, and the program is not even read."""
    setup = {"memory_bytes": 2**28, "cpu_s": 9, "parent_pid": os.getpid()} | change
    answers, theirs = os.pipe()
    lines = json.dumps(setup) + "\n" + json.dumps({"code": "print('ran')", "entry": "f"}) + "\n"

    done = subprocess.run(
        command(theirs), input=lines.encode(), pass_fds=(theirs,), capture_output=True, check=False
    )

    os.close(theirs)
    with os.fdopen(answers, "rb") as pipe:
        reply = json.loads(pipe.read())
    assert reply["status"] == SANDBOX_REFUSED
    assert reason in reply["reason"]
    assert done.stdout == b""


ROOT_WITHOUT_SETUID = """
import ctypes, anyio
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox.execution import execute
PR_CAPBSET_DROP, CAP_SETUID = 24, 7
assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SETUID, 0, 0, 0) == 0
found = anyio.run(execute, Program(code="def solve(x): return x"), 1, Limits())
print(found.status, found.reason)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only a root can be unable to give it up")
def test_a_root_that_cannot_forbid_new_processes_runs_nothing():
    """RLIMIT_NPROC does not bind root; where root cannot be left, the program is not run."""
    done = subprocess.run(
        [sys.executable, "-c", ROOT_WITHOUT_SETUID], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("sandbox_refused")
    assert "new processes cannot be forbidden to uid 0" in done.stdout


def test_every_status_word_of_this_file_is_one_of_the_known():
    """The tests above cover every way a process can end."""
    seen = {status for _, status, _ in (*HONEST.values(), *HOSTILE.values())}

    assert seen | {OK, TIMEOUT, SANDBOX_REFUSED, "not_run"} == set(STATUSES)
