"""The leash: a command's own words and status, and nothing of it left behind, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from scillm_codex.leash import GONE, held, leashed
from support.leftovers import gone_within, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

OWN_NUMBERS = ["unshare", "--pid", "--fork", "--kill-child"] + (
    [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
)
"""Starts a program in a namespace of processes, and leaves it the host's /proc."""


def script(folder: Path, text: str) -> list[str]:
    """A shell script below a folder of the test's own, by whose name its processes are known."""
    path = folder / "script.sh"
    path.write_text(text)
    return ["sh", str(path), str(folder)]


def sleeper(folder: Path) -> str:
    """Words that start a sleep which carries the folder's name."""
    return f"sh -c 'sleep 300; : {folder}'"


def test_a_command_keeps_its_input_output_and_status() -> None:
    """Who reads or writes notices nothing of the leash."""
    argv = ["sh", "-c", "cat; echo two >&2; exit 7"]
    done = subprocess.run(leashed(argv), input=b"one", capture_output=True, check=False)

    assert (done.stdout, done.stderr, done.returncode) == (b"one", b"two\n", 7)


def test_a_command_that_a_signal_ends_has_a_shells_status() -> None:
    """Killed by 9 is 137."""
    done = subprocess.run(leashed(["sh", "-c", "kill -9 $$"]), check=False)

    assert done.returncode == 137


def test_what_cannot_be_started_says_so() -> None:
    """A missing program is the status that shells use, and a sentence."""
    done = subprocess.run(leashed(["no-such-program"]), capture_output=True, check=False)

    assert done.returncode == GONE
    assert b"no-such-program cannot be started: No such file" in done.stderr


def test_a_status_that_somebody_else_took_is_no_success() -> None:
    """What is not known is the status that shells give it, and a sentence."""
    code = (
        "import os, sys\n"
        "from scillm_codex import leash\n"
        "command = os.posix_spawnp('true', ['true'], os.environ)\n"
        "os.waitpid(command, 0)\n"
        "sys.exit(leash._reaped(command))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == GONE
    assert b"is lost: somebody else took it" in done.stderr


def test_a_starter_that_ignores_its_childrens_ends_learns_the_status() -> None:
    """The kernel would throw the statuses of such a process away; the leash keeps its own."""
    argv = ["sh", "-c", "trap '' CHLD; exec \"$@\"", "sh", *leashed(["sh", "-c", "exit 7"])]
    done = subprocess.run(argv, check=False)

    assert done.returncode == 7


def test_where_proc_counts_other_processes_only_the_commands_group_is_ended(tmp_path: Path) -> None:
    """Numbers of another namespace are not acted on; what is in the group ends, and at once."""
    words = script(tmp_path, f"{sleeper(tmp_path)} &\nexit 3\n")
    code = (
        "import subprocess, sys\n"
        "from scillm_codex.leash import leashed\n"
        "for _ in range(30):\n"
        "    subprocess.run('true')  # the leash's number is then nobody's with children outside\n"
        "print(subprocess.run(leashed(sys.argv[1:])).returncode, flush=True)\n"
        "input()\n"
    )
    argv = [*OWN_NUMBERS, sys.executable, "-c", code, *words]
    pipe = subprocess.PIPE
    first = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)
    began = time.monotonic()
    try:
        assert first.stdout is not None
        status = first.stdout.readline()
        left = running(f"sleep 300; : {tmp_path}")
    finally:
        _, complaint = first.communicate(b"\n", timeout=10)
    if complaint.startswith(b"unshare:"):
        pytest.skip(f"no namespace of processes here: {complaint.decode()}")

    assert (status, left) == (b"3\n", [])
    assert time.monotonic() - began < 4


def test_what_a_command_leaves_ends_with_it(tmp_path: Path) -> None:
    """Also what went into a session of its own."""
    words = script(tmp_path, f"setsid {sleeper(tmp_path)} &\n{sleeper(tmp_path)} &\nexit 0\n")
    done = subprocess.run(leashed(words), check=False)

    assert done.returncode == 0
    assert running(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_command_and_all_of_it(tmp_path: Path, how: signal.Signals) -> None:
    """With no grace at once, whatever it does with signals."""
    words = script(
        tmp_path, f"trap '' TERM INT HUP\nsetsid {sleeper(tmp_path)} &\nwait\nsleep 300\n"
    )
    leash = subprocess.Popen(leashed(words), start_new_session=True)
    started(tmp_path, 3)

    leash.send_signal(how)

    assert leash.wait(10) == 137
    assert running(tmp_path) == []


def test_a_grace_lets_a_command_end_well(tmp_path: Path) -> None:
    """It gets SIGTERM first, and SIGKILL when the grace is over."""
    began = tmp_path / "began"
    waits = f"touch {began}\nwhile :; do sleep 0.05; done\n"
    polite = script(tmp_path, f"trap 'echo bye; exit 3' TERM\n{waits}")
    leash = subprocess.Popen(
        leashed(polite, grace_s=20), stdout=subprocess.PIPE, start_new_session=True
    )
    there(began)
    leash.terminate()
    said, _ = leash.communicate(timeout=10)
    began.unlink()
    deaf = script(tmp_path, f"trap '' TERM\n{waits}")
    other = subprocess.Popen(leashed(deaf, grace_s=0.3), start_new_session=True)
    there(began)
    other.terminate()

    assert (leash.returncode, said) == (3, b"bye\n")
    assert other.wait(10) == 137


def test_a_killed_holder_takes_all_along(tmp_path: Path) -> None:
    """`kill -9` of who started it ends the command and what it started."""
    words = script(tmp_path, f"setsid {sleeper(tmp_path)} &\nwait\n")
    code = (
        "import subprocess, sys, time\n"
        "from scillm_codex.leash import leashed\n"
        "subprocess.Popen(leashed(sys.argv[1:]), start_new_session=True)\n"
        "time.sleep(300)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, *words])
    try:
        started(tmp_path, 4)
    finally:
        holder.kill()
        holder.wait()

    assert gone_within(tmp_path, 5.0)


def test_a_sweep_ends_what_lost_its_parent_meanwhile(tmp_path: Path) -> None:
    """The command itself goes on."""
    began = tmp_path / "began"
    words = script(tmp_path, f"(setsid {sleeper(tmp_path)} &)\ntouch {began}\nsleep 300\n")
    leash = subprocess.Popen(leashed(words, sweep_s=0.1), start_new_session=True)
    try:
        end = time.monotonic() + 10
        left: list[int] = []
        while len(left) != 2 and time.monotonic() < end:
            time.sleep(0.02)
            left = running(tmp_path) if began.exists() else []
        command = held(leash.pid)
    finally:
        leash.terminate()
        leash.wait()

    assert sorted(left) == sorted([leash.pid, command])


def there(file: Path) -> None:
    """Wait until a script has made this file."""
    end = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < end, file
        time.sleep(0.02)


def started(folder: Path, count: int) -> None:
    """Wait until so many processes carry the folder's name."""
    end = time.monotonic() + 10
    while len(running(folder)) < count:
        assert time.monotonic() < end, running(folder)
        time.sleep(0.02)


def test_the_one_that_is_held_is_told(tmp_path: Path) -> None:
    """Its own id, not the leash's; the leash's where there is none any more."""
    leash = subprocess.Popen(leashed(["sleep", "300"]), start_new_session=True)
    end = time.monotonic() + 10
    while (pid := held(leash.pid)) == leash.pid and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)

    assert leash.wait(10) == 137
    assert held(leash.pid) == leash.pid
