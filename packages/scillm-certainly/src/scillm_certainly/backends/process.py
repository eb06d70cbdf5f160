"""A Lean process as an object: started confined, its lines awaited, its end assured.

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
import anyio.lowlevel
from scillm.errors import ProverError

LAUNCHER = Path(__file__).with_name("launcher.py")
CHUNK_BYTES = 1 << 18
MAX_LINE_BYTES = 64 << 20
TAIL_CHARS = 2000
REAP_S = 30.0


class Process:
    """One running process. Holds its pipes, and the last lines it wrote that answered nothing."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, memory_mb: int = 0
    ) -> None:
        """Start `command`; raises `ProverError` when that fails."""
        flags = ["-S", "-s", "-E", "-B"]
        words = [sys.executable, *flags, str(LAUNCHER), str(os.getpid()), str(memory_mb), *command]
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
        self._buffer = bytearray()
        self._searched = 0
        self.tail = ""
        self._end = weakref.finalize(self, end, self._process, os.getpid())

    @property
    def pid(self) -> int:
        """The number of the outermost process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._end.alive and self._process.poll() is None

    async def line(self) -> bytes | None:
        """The next whole line without its end, or None when there will be none."""
        while (stop := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_LINE_BYTES:
                raise ProverError(f"A Lean worker wrote a line of over {MAX_LINE_BYTES} bytes.")
            try:
                chunk = os.read(self._out, CHUNK_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._out)
                continue
            if not chunk:
                return None
            self._buffer += chunk
            # A flood is always readable; deadlines and other tasks must have their turn.
            await anyio.lowlevel.checkpoint()
        found = bytes(self._buffer[:stop])
        del self._buffer[: stop + 1]
        self._searched = 0
        return found

    def note(self, line: bytes) -> None:
        """Keep the end of what it wrote beside its answers, for an error message."""
        text = line.decode(errors="replace").strip()
        if text:
            self.tail = f"{self.tail}\n{text}"[-TAIL_CHARS:].strip()

    async def write(self, data: bytes) -> bool:
        """Hand `data` over; False when it no longer listens."""
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
        """Resident memory of the process and its child, 0 where the system does not tell."""
        return sum(_rss_mb(pid) for pid in (self.pid, *_children(self.pid)))

    def kill(self) -> None:
        """End it and everything it started, and reap it; a second call does nothing."""
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


def _rss_mb(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    rows = [line for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(rows[0].split()[1]) // 1024 if rows else 0
