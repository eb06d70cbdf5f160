"""One worker process from the parent's side: its order out, its one reply back, its end assured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from scillm.errors import SandboxError

from scillm_codeworld.sandbox.child import MAX_POLL_S, POLL_S, REAP_S, Pipes
from scillm_codeworld.sandbox.talk import START_S

if TYPE_CHECKING:
    from scillm.records import Json

WORKER = Path(__file__).with_name("worker.py")


class WorkerError(SandboxError):
    """A worker could not be started, or ended in the middle of an order."""


class Worker(Pipes):
    """One process that runs components. Holds its pipes."""

    def __init__(self, component: Path) -> None:
        """Start it; `OSError` when that fails."""
        self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603
            [sys.executable, "-B", str(WORKER), str(component)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )
        pipes = (self._process.stdin, self._process.stdout)
        self.requests, self.answers = (pipe.fileno() for pipe in pipes if pipe is not None)
        for number in (self.requests, self.answers):
            os.set_blocking(number, False)

    async def up(self) -> None:
        """Wait until it can take orders; `WorkerError` when it cannot."""
        with anyio.move_on_after(START_S):
            if (await self._line()).get("up"):
                return
        raise WorkerError("wasm: the worker did not come up")

    async def ask(self, order: Mapping[str, Json]) -> Mapping[str, Json]:
        """Its reply to `order`; `WorkerError` when it ended instead."""
        if not await self.write(json.dumps(order).encode() + b"\n"):
            raise WorkerError("wasm: the worker is gone")
        return await self._line()

    async def _line(self) -> Mapping[str, Json]:
        parts: list[bytes] = []
        while not parts or not parts[-1].endswith(b"\n"):
            chunk = await self.read(self.answers)
            if not chunk:
                raise WorkerError("wasm: the worker ended in the middle of an order")
            parts.append(chunk)
        words: Mapping[str, Json] = json.loads(b"".join(parts))
        return words

    async def aclose(self) -> None:
        """Kill and reap it, whatever else is being cancelled."""
        with anyio.CancelScope(shield=True):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            pause, waited = POLL_S, 0.0
            while self._process.poll() is None and waited < REAP_S:
                await anyio.sleep(pause)
                pause, waited = min(pause * 2, MAX_POLL_S), waited + pause
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
