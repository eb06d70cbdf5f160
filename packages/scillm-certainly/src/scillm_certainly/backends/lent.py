"""A Lean process in a sandbox that somebody else lends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from scillm.errors import ProverError, SandboxError

from scillm_certainly.backends.lines import Lines, resident_mb
from scillm_certainly.protocol import LAUNCHED, MARK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.protocols import Kept, KeptProgram
    from scillm.records import Json


HINT = ". It was in a sandbox; SCILLM_CERTAINLY_SANDBOX=0 starts Lean without one"


class Lent(Lines):
    """One process that a sandbox keeps. Remembers whether it told how it is held, and spoke."""

    def __init__(self, kept: Kept, program: KeptProgram) -> None:
        super().__init__()
        self._kept = kept
        self._program = program
        self._told = False
        self._spoke = False

    @property
    def pid(self) -> int:
        """See `Lines`."""
        return self._kept.pid or 0

    @property
    def alive(self) -> bool:
        """See `Lines`."""
        return self._kept.alive

    async def chunk(self) -> bytes:
        """See `Lines`; first of all what our launcher would have said."""
        if not self._told:
            try:
                isolation = await self._kept.started()
            except SandboxError as error:
                raise ProverError(f"Lean could not be started in the sandbox. {error}") from error
            self._told = True
            report = json.dumps(confinement_of(isolation, self._program))
            return f"{MARK}{LAUNCHED} {report}\n".encode()
        found = await self._kept.read()
        if not found:
            ending = await self._kept.ending()
            self.note(f"[{ending}{'' if self._spoke else HINT}]".encode())
        self._spoke = True
        return found

    async def write(self, data: bytes) -> bool:
        """See `Lines`."""
        return await self._kept.write(data)

    def rss_mb(self) -> int:
        """See `Lines`; it has no children."""
        return resident_mb(self.pid) if self.pid else 0

    def kill(self) -> None:
        """See `Lines`."""
        self._kept.kill()


def confinement_of(isolation: Mapping[str, Json], program: KeptProgram) -> dict[str, Json]:
    """How a sandbox holds a worker, in the launcher's words and the sandbox's own.

    Certificates travel, so no path of this machine is in it.
    """
    return {
        "by": "sandbox",
        "level": isolation.get("level"),
        "network": isolation.get("net"),
        "processes": isolation.get("procs"),
        "file_reads": "its toolchain, the checker, its project's libraries, and the system's",
        "file_writes": "an empty folder of its own, in memory",
        "memory_mb": program.memory_mb,
        "dies_with_parent": isolation.get("dies_with_parent"),
        "isolation": dict(isolation),
    }
