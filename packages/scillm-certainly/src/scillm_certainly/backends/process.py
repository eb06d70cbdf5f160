"""A Lean process as an object: started by our own launcher, its pipes awaited, its end assured.

This is the one door to the operating system's processes. The pipes are read with the event loop
that happens to run, so that a warm process can be used from several loops, one after the other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
from scillm.errors import ProverError

from scillm_certainly.backends.lines import Lines, resident_mb

LAUNCHER = Path(__file__).with_name("launcher.py")
CHUNK_BYTES = 1 << 18
REAP_S = 30.0


class Process(Lines):
    """One process that our launcher confines. Holds its pipes."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        memory_mb: int = 0,
        why: str = "",
    ) -> None:
        """Start `command`; raises `ProverError` when that fails.

        `why` tells why it is not in a sandbox, and is told on with how it is confined.
        """
        super().__init__()
        flags = ["-S", "-s", "-E", "-B"]
        given = [str(os.getpid()), str(memory_mb), why]
        words = [sys.executable, *flags, str(LAUNCHER), *given, *command]
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603
                words,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            raise ProverError(f"A Lean worker could not be started: {error}.") from error
        if self._process.stdin is None or self._process.stdout is None:
            raise ProverError("A Lean worker was started without its pipes.")
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._end = weakref.finalize(self, end, self._process, os.getpid())

    @property
    def pid(self) -> int:
        """See `Lines`."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """See `Lines`."""
        return self._end.alive and self._process.poll() is None

    async def chunk(self) -> bytes:
        """See `Lines`."""
        while True:
            try:
                return os.read(self._out, CHUNK_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._out)

    async def write(self, data: bytes) -> bool:
        """See `Lines`."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._in)
            except BrokenPipeError:
                return False
        return True

    def rss_mb(self) -> int:
        """See `Lines`."""
        return sum(resident_mb(pid) for pid in (self.pid, *_children(self.pid)))

    def kill(self) -> None:
        """See `Lines`."""
        self._end()


def end(process: subprocess.Popen[bytes], owner: int) -> None:
    """Kill the whole group, wait, and close the pipes; in a forked copy of the owner, nothing."""
    if os.getpid() != owner:
        return
    # Only while it is not reaped is its number still its own.
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(REAP_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]
