"""L1 limited: a process of its own with hard limits, and nothing more between it and the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from scillm_codeworld.records import OK, SANDBOX_REFUSED, Execution
from scillm_codeworld.sandbox.execution import execute
from scillm_codeworld.sandbox.levels import L1
from scillm_codeworld.sandbox.probe import PROBE, PROBE_LIMITS

if TYPE_CHECKING:
    from scillm.records import Json, Limits

    from scillm_codeworld.records import Program

HOLDS: Mapping[str, str] = {
    "fs": "none: the user's own rights; nothing can be written to a file",
    "net": "none",
    "procs": "rlimit: no new process or thread",
    "mem": "rlimit_as",
    "kill": "process group",
}


class Limited:
    """The sandbox of level L1. Remembers what its probe saw."""

    level = L1

    def __init__(self, *, reasons: Sequence[str] = ()) -> None:
        self._why = "; ".join(reasons)
        self._probe: Json = None

    async def probed(self) -> str | None:
        """Run the probe inside and remember what it saw; why it could not be run, or None."""
        run = await execute(PROBE, None, PROBE_LIMITS)
        if run.status != OK:
            return f"L1: the probe ended {run.status}: {run.reason}"
        self._probe = run.output
        return None

    def report(self) -> Mapping[str, Json]:
        """See `Sandbox`."""
        return {"level": self.level, **HOLDS, "why": self._why, "probe": self._probe}

    async def run(self, program: Program, value: Json, limits: Limits) -> Execution:
        """See `Sandbox`."""
        if program.language != "python":
            return Execution(
                status=SANDBOX_REFUSED,
                reason=f"{program.language} is run at level L3 or above; this is L1 ({self._why})",
                isolation={"level": self.level},
            )
        run = await execute(program, value, limits)
        return evolve(run, isolation={"level": self.level, **HOLDS, **run.isolation})

    async def aclose(self) -> None:
        """See `Sandbox`: every run of this level ends its own process."""
