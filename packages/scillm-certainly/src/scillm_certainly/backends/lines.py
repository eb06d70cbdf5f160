"""A worker's process as its lines, whoever holds it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import anyio.lowlevel
from scillm.errors import ProverError

MAX_LINE_BYTES = 64 << 20
TAIL_CHARS = 2000


class Lines(ABC):
    """One running process. Holds what was read of it, and the last lines that answered nothing."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self.tail = ""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The number of the outermost process; 0 before it is known."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it still runs."""

    @abstractmethod
    async def chunk(self) -> bytes:
        """Some bytes of what it writes as soon as there are any; empty at the end."""

    @abstractmethod
    async def write(self, data: bytes) -> bool:
        """Hand `data` over; False when it no longer listens."""

    @abstractmethod
    def rss_mb(self) -> int:
        """Resident memory of the process and its children, 0 where the system does not tell."""

    @abstractmethod
    def kill(self) -> None:
        """End it and everything it started, and reap it; a second call does nothing."""

    async def line(self) -> bytes | None:
        """The next whole line without its end, or None when there will be none.

        The first one says how the process is confined.
        """
        while (stop := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_LINE_BYTES:
                raise ProverError(f"A Lean worker wrote a line of over {MAX_LINE_BYTES} bytes.")
            chunk = await self.chunk()
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


def resident_mb(pid: int) -> int:
    """Resident memory of one process."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    rows = [line for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(rows[0].split()[1]) // 1024 if rows else 0
