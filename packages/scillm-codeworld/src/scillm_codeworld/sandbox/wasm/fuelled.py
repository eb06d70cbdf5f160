"""The sandbox of level `wasm`: fresh instances in worker processes, their cost counted in fuel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from attrs import evolve

from scillm_codeworld.options import check_limits
from scillm_codeworld.records import (
    OK,
    SANDBOX_REFUSED,
    Execution,
)
from scillm_codeworld.sandbox.levels import WASM
from scillm_codeworld.sandbox.probe import PROBE_LIMITS, WASM_PROBE, wasm_shortfall
from scillm_codeworld.sandbox.reply import cut
from scillm_codeworld.sandbox.wasm import component
from scillm_codeworld.sandbox.wasm.told import FUEL_PER_S, SLOW_MACHINE, read
from scillm_codeworld.sandbox.wasm.workers import Worker, WorkerError

if TYPE_CHECKING:
    from scillm.records import Json, Limits

    from scillm_codeworld.records import Program

BASE_BYTES = 64 << 20
"""What the interpreter itself takes."""
HOLDS: Mapping[str, str] = {
    "fs": "none",
    "net": "none",
    "procs": "none",
    "mem": "linear memory of its own, bounded",
    "kill": "fuel; process",
}


class Fuelled:
    """Remembers its workers, and what the probe saw."""

    level = WASM

    def __init__(self, folder: Path, *, workers: int) -> None:
        self._folder = folder
        self._free = anyio.Semaphore(workers)
        self._idle: list[Worker] = []
        self._component: tuple[Path, str] | None = None
        self._probe: Json = None
        self._versions: Mapping[str, str] = {}

    async def probed(self) -> str | None:
        """Make the component, run the probe inside; why this level cannot be had, or None.

        The first time on a machine takes a minute; `SandboxError` when it cannot be made.
        """
        self._versions = component.versions()
        self._component = await anyio.to_thread.run_sync(component.prepared, self._folder)
        run = await self.run(WASM_PROBE, None, PROBE_LIMITS)
        if run.status != OK:
            return f"wasm: the probe ended {run.status}: {run.reason}"
        self._probe = run.output
        return wasm_shortfall(run.output)

    def report(self) -> Mapping[str, Json]:
        """See `Sandbox`; fuel can be compared where `component` is the same."""
        return {"level": self.level, **self._holds(), "why": "", "probe": self._probe}

    def _holds(self) -> dict[str, Json]:
        digest = "" if self._component is None else self._component[1]
        return {**HOLDS, "component": digest, "fuel_per_s": FUEL_PER_S, **self._versions}

    async def run(self, program: Program, value: Json, limits: Limits) -> Execution:
        """See `Sandbox`."""
        check_limits(limits)
        if program.language != "python":
            return self._held(
                Execution(
                    status=SANDBOX_REFUSED,
                    reason=f"{program.language} is not run at level wasm; Python is",
                )
            )
        order = {
            "code": program.code,
            "entry": program.entry,
            "input": json.dumps(value),
            "fuel": round(limits.time_s * FUEL_PER_S),
            "memory_bytes": BASE_BYTES + (limits.memory_mb << 20),
            "output_bytes": limits.output_bytes,
        }
        async with self._free:
            try:
                told = await self._told(order, SLOW_MACHINE * limits.time_s)
            except (WorkerError, OSError) as error:
                return self._held(Execution(status=SANDBOX_REFUSED, reason=cut(str(error))))
        return self._held(read(told, limits))

    def _held(self, run: Execution) -> Execution:
        return evolve(run, isolation={"level": self.level, **self._holds()})

    async def _told(self, order: Mapping[str, Json], within_s: float) -> Mapping[str, Json] | None:
        """What a worker says; None when it says nothing in time, which ends it."""
        worker = await self._next()
        told: Mapping[str, Json] | None = None
        try:
            with anyio.move_on_after(within_s):
                told = await worker.ask(order)
        finally:
            if told is None:  # cancelled too: what it is doing is nobody's any more
                await worker.aclose()
            else:
                self._idle.append(worker)
        return told

    async def _next(self) -> Worker:
        if self._idle:
            return self._idle.pop()
        if self._component is None:
            raise WorkerError("wasm: the sandbox was not opened")
        worker = Worker(self._component[0])
        try:
            await worker.up()
        except BaseException:
            await worker.aclose()
            raise
        return worker

    async def aclose(self) -> None:
        """See `Sandbox`."""
        while self._idle:
            await self._idle.pop().aclose()
