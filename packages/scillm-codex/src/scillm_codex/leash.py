"""Runs a command so that nothing of it is left: not after its end, not after its starter's.

Run by path, standard library only: `leash.py HOLDER GRACE_S SWEEP_S COMMAND…`, where HOLDER is the
process that starts it. Input, output and exit status are the command's. When the holder has ended,
even killed, or on SIGTERM, the command gets SIGTERM, and after the grace SIGKILL. Whatever of it
still runs after its end is killed, also what left its group; with a sweep, what loses its parent
is killed meanwhile. On Linux; elsewhere, and where /proc shows another namespace's processes, the
command gets a group of its own, and only that is killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing, and others, would double the start
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GONE = 127
"""Exit status when the command cannot be started, or its own is lost, as a shell's."""
SET_CHILD_SUBREAPER = 36
NEVER = float("inf")
LOOK_S = 0.5
"""Between two looks at the holder, where the system does not tell of its end."""
LAST_S = 5.0
"""Longest time for killing what is left."""


def leashed(argv: Sequence[str], *, grace_s: float = 0.0, sweep_s: float = 0.0) -> list[str]:
    """The command line that runs `argv` on a leash held by this process.

    Start it in a session of its own, so that a signal to this one's group does not cut the leash.
    """
    python = os.path.realpath(sys.executable)
    words = [str(os.getpid()), f"{grace_s:g}", f"{sweep_s:g}"]
    return [python, "-I", "-S", "-B", os.path.abspath(__file__), *words, *argv]  # noqa: PTH100


def held(leash: int) -> int:
    """The process that the leash with this id runs; the id itself where that is not known."""
    found = _children(leash)
    return found[0] if found else leash


def _children(pid: int) -> list[int]:
    if not _counts_as_we_do():
        return []
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _counts_as_we_do() -> bool:
    """Whether /proc is of our own namespace; by another's numbers we would kill strangers."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())  # noqa: PTH115
    except OSError:
        return False


def main() -> int:
    """Run the command that the words after our own three are."""
    holder, grace_s, sweep_s, argv = int(sys.argv[1]), *map(float, sys.argv[2:4]), sys.argv[4:]
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    asked = False

    def end(*_: object) -> None:
        nonlocal asked
        asked = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _adopt_orphans()
    group = os.getpgrp() if _counts_as_we_do() else 0
    try:
        command = os.posix_spawnp(
            argv[0], argv, os.environ, setpgroup=group, setsigdef=[signal.SIGPIPE]
        )
    except OSError as error:
        sys.stderr.write(f"{argv[0]} cannot be started: {error.strerror}.\n")
        return GONE
    holding = _Holder(holder, wake)
    deadline = NEVER
    while (status := _reaped(command)) is None:
        now = time.monotonic()
        if deadline == NEVER and (asked or holding.ended()):
            os.kill(command, signal.SIGTERM if grace_s else signal.SIGKILL)
            deadline = now + (grace_s or LAST_S)
        elif now >= deadline:
            os.kill(command, signal.SIGKILL)
            deadline = now + LAST_S
        if sweep_s:
            _kill(set(_children(os.getpid())) - {command})
        holding.wait(min(deadline - now, sweep_s or NEVER))
    _kill_all(command)
    return status if status >= 0 else 128 - status


class _Holder:
    """Who holds the leash. Remembers its process, so that another of its number is not taken."""

    def __init__(self, pid: int, wake: int) -> None:
        self._pid = pid
        self._wake = wake
        self._poll = select.poll()
        self._poll.register(wake, select.POLLIN)
        self._process = -1
        if hasattr(os, "pidfd_open"):
            try:
                self._process = os.pidfd_open(pid)
                self._poll.register(self._process, select.POLLIN)
            except OSError:
                self._process = -1

    def ended(self) -> bool:
        """Whether it has."""
        return os.getppid() != self._pid

    def wait(self, limit_s: float) -> None:
        """Until a signal comes, the holder ends, or the time is up."""
        if self._process < 0:
            limit_s = min(limit_s, LOOK_S)
        limit_ms = None if limit_s == NEVER else int(limit_s * 1000) + 1
        for fd, _event in self._poll.poll(limit_ms):
            if fd == self._wake:
                os.read(fd, 4096)
            elif not self.ended():
                # Its end is told a moment before we are given to another.
                time.sleep(0.001)


def _reaped(command: int) -> int | None:
    """Take in everyone that has ended; the status of the command once it has."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            sys.stderr.write(f"The exit status of {command} is lost: somebody else took it.\n")
            return GONE
        if pid == 0:
            return None
        if pid == command:
            return os.waitstatus_to_exitcode(status)


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _kill_all(command: int) -> None:
    """Kill what the command left: the children of a killed one become ours in their turn."""
    if not _counts_as_we_do():
        try:
            os.killpg(command, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        return
    end = time.monotonic() + LAST_S
    while time.monotonic() < end:
        _kill(_children(os.getpid()))
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main())
