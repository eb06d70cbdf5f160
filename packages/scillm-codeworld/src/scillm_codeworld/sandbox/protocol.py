"""What every level of isolation offers: run one program on one input, and say how it is held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from scillm.records import Json, Limits

    from scillm_codeworld.records import Execution, Program


class Sandbox(Protocol):
    """An open sandbox. Runs of one sandbox may overlap; none sees another."""

    @property
    def level(self) -> str:
        """The level observed: L1, L2, L3, L4 or container."""
        ...

    def report(self) -> Mapping[str, Json]:
        """Plain JSON: level, fs, net, procs, mem, kill, why no higher level, and the probe."""
        ...

    async def run(self, program: Program, value: Json, limits: Limits) -> Execution:
        """Run `program` on `value`; never raises for anything the program does.

        The status `sandbox_refused` means that nothing was run.
        """
        ...

    async def aclose(self) -> None:
        """End every process of this sandbox."""
        ...
