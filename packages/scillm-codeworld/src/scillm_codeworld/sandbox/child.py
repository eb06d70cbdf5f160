"""The child process as an object: started in its own group, its pipes awaited, its end assured.

This is the one door to the operating system's processes. It starts them itself, not through the
event loop's own facility: the death signal follows the *thread* that started a child, and trio
starts children in threads that come and go; and only who reaps a child knows that its group still
is its group when it is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import anyio
from attrs import frozen
from scillm.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RUNNER = Path(__file__).with_name("runner.py")
ENVIRONMENT: Mapping[str, str] = {"PYTHONHASHSEED": "0"}
"""All the child sees. A fixed hash seed makes the order of sets the same in every run."""
CHUNK_BYTES = 65_536
CLOSED = -1
REAP_S = 30.0
POLL_S = 0.001
MAX_POLL_S = 0.05


def command(pipe: int) -> list[str]:
    """The child's command line: no site-packages, no user folder, no folder of the script."""
    flags = ["-S", "-s", "-B", "-X", "utf8"]
    if sys.version_info >= (3, 11):
        flags.append("-P")
    return [sys.executable, *flags, str(RUNNER), str(pipe)]


UNWATCHED = "it was ended: its memory could not be watched, for /proc did not show it"


@frozen(kw_only=True)
class Usage:
    """What an ended process had used, by the kernel's account."""

    cpu_s: float
    max_rss_kb: int
    out_of_memory: bool = False
    """Whether it was killed for its memory: by its zygote, or by the kernel as its control group
    tells."""
    unwatched: bool = False
    """Whether its zygote killed it because its memory could not be seen any more."""


class Pipes:
    """The parent's ends of a child's four pipes: requests, answers, stdout, stderr."""

    requests: int
    answers: int
    stdout: int
    stderr: int

    async def read(self, pipe: int) -> bytes:
        """Some bytes of `pipe` as soon as there are any; empty at its end."""
        while True:
            try:
                return os.read(pipe, CHUNK_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(pipe)

    async def write(self, line: bytes) -> bool:
        """Hand `line` over; False when the child no longer listens."""
        view = memoryview(line)
        while view:
            try:
                view = view[os.write(self.requests, view) :]
            except BlockingIOError:
                await anyio.wait_writable(self.requests)
            except BrokenPipeError:
                return False
        return True

    def end(self) -> None:
        """Let the child see the end of its input."""
        os.close(self.requests)
        self.requests = CLOSED

    def rest(self, pipe: int) -> bytes:
        """What is left in `pipe` after the child's end: no more than a pipe holds."""
        parts: list[bytes] = []
        try:
            while chunk := os.read(pipe, CHUNK_BYTES):
                parts.append(chunk)
        except BlockingIOError:
            return b"".join(parts)  # someone else holds the other end; nothing is there now
        return b"".join(parts)


class Child(Pipes):
    """One running child. Holds its process and the parent's ends of its four pipes."""

    def __init__(self) -> None:
        """Start it; `OSError` when that fails."""
        self.usage: Usage | None = None
        self.answers, theirs = os.pipe()
        try:
            # The folder is removed while the child stands in it: it finds nothing there, can put
            # nothing there, and nothing is left to clean up, however either of us ends after that.
            with _passing_folder() as folder:
                self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603
                    command(theirs),
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=folder,
                    env=dict(ENVIRONMENT),
                    start_new_session=True,
                    pass_fds=(theirs,),
                )
        except BaseException:
            os.close(self.answers)
            raise
        finally:
            os.close(theirs)
        self.requests, self.stdout, self.stderr = (
            _number(pipe)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        for pipe in (self.requests, self.stdout, self.stderr, self.answers):
            os.set_blocking(pipe, False)

    async def exit_code(self, *, within_s: float) -> int | None:
        """How it ended by itself (negative: the signal), or None when it has not in that time."""
        pause = POLL_S
        with anyio.move_on_after(within_s):
            while self._reaped() is None:
                await anyio.sleep(pause)
                pause = min(pause * 2, MAX_POLL_S)
        return self._reaped()

    def _reaped(self) -> int | None:
        """Its exit code once it has ended, and the kernel's account of it."""
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self.usage = Usage(
                    cpu_s=usage.ru_utime + usage.ru_stime, max_rss_kb=usage.ru_maxrss
                )
        return self._process.returncode

    async def kill(self) -> None:
        """Kill its whole group and reap it, whatever else is being cancelled.

        Raises `SandboxError` when that cannot be done.
        """
        with anyio.CancelScope(shield=True):
            # Only while it is not reaped is its number still its own. Once it is, nothing is
            # left of its group either: it could start no process.
            if self._reaped() is None:
                try:
                    os.killpg(self._process.pid, signal.SIGKILL)
                except PermissionError as error:
                    raise SandboxError(
                        f"The sandbox process {self._process.pid} may not be killed by this user."
                    ) from error
            if await self.exit_code(within_s=REAP_S) is None:
                raise SandboxError(
                    f"The sandbox process {self._process.pid} was killed and is still there after "
                    f"{REAP_S:g} s; the system may be stuck on a device."
                )

    def close(self) -> None:
        """Close the parent's ends of the pipes."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        os.close(self.answers)

    def end(self) -> None:
        """Let the child see the end of its input."""
        if self._process.stdin is not None:
            self._process.stdin.close()


@contextmanager
def _passing_folder() -> Iterator[str]:
    """An empty folder. `TemporaryDirectory` would leave it where no descriptor is free."""
    folder = tempfile.mkdtemp(prefix="codeworld-")
    try:
        yield folder
    finally:
        with suppress(FileNotFoundError):
            os.rmdir(folder)  # noqa: PTH106


def _number(pipe: IO[bytes] | None) -> int:
    if pipe is None:
        raise SandboxError("The sandbox process was started without its pipes.")
    return pipe.fileno()
