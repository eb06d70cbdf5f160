"""Runs in containers started by a command the user gives: one container for each run."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from attrs import evolve
from scillm.errors import SandboxError

from scillm_codeworld.records import OK, SANDBOX_REFUSED, Execution
from scillm_codeworld.sandbox.child import MAX_POLL_S, POLL_S, REAP_S, Pipes, Usage
from scillm_codeworld.sandbox.execution import execute
from scillm_codeworld.sandbox.levels import CONTAINER
from scillm_codeworld.sandbox.probe import PROBE, PROBE_LIMITS

if TYPE_CHECKING:
    from scillm.records import Json, Limits

    from scillm_codeworld.records import Program

HERE = Path(__file__).parent
SOURCES = {
    "confine": HERE / "confine.py",
    "runner": HERE / "runner.py",
    "contained": HERE / "inside" / "contained.py",
}
SIGNAL_CODES = 128
GOING_S = 5.0
"""For a container to see that it was let go, before its command is killed."""


def script() -> str:
    """A program for `python3 -c` that needs nothing but the standard library."""
    parts = ["import sys, types"]
    for name, path in SOURCES.items():
        parts += [
            f"{name} = types.ModuleType({name!r})",
            f"exec({path.read_text(encoding='utf-8')!r}, {name}.__dict__)",
        ]
    parts.append("contained.main(runner, confine)")
    return "\n".join(parts)


class Shipped(Pipes):
    """One run in a container. Holds its command's process and pipes.

    What the program prints comes on stderr together with its errors; stdout carries the answers.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Start the container; `OSError` when the command cannot be started."""
        self.usage: Usage | None = None
        self.stdout, nothing = os.pipe()
        os.close(nothing)
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            os.close(self.stdout)
            raise
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self.requests, self.answers, self.stderr = (
            pipe.fileno() for pipe in pipes if pipe is not None
        )
        for number in (self.requests, self.answers, self.stdout, self.stderr):
            os.set_blocking(number, False)

    async def exit_code(self, *, within_s: float) -> int | None:
        """How the program ended (negative: the signal), or None when it has not in that time."""
        pause = POLL_S
        with anyio.move_on_after(within_s):
            while self._process.poll() is None:
                await anyio.sleep(pause)
                pause = min(pause * 2, MAX_POLL_S)
        code = self._process.poll()
        return code if code is None or code <= SIGNAL_CODES else SIGNAL_CODES - code

    def end(self) -> None:
        """Let the child see the end of its input."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def kill(self) -> None:
        """Let go of the container, wait for it to leave, and kill its command when it does not."""
        with anyio.CancelScope(shield=True):
            self.end()
            if await self.exit_code(within_s=GOING_S) is not None:
                return
            os.killpg(self._process.pid, signal.SIGKILL)
            if await self.exit_code(within_s=REAP_S) is None:
                raise SandboxError(
                    f"The container command {self._process.pid} was killed and is still there."
                )

    def close(self) -> None:
        """Close the parent's ends of the pipes."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        os.close(self.stdout)


class Container:
    """The sandbox of level `container`. Remembers its command and what the probe saw."""

    level = CONTAINER

    def __init__(self, command: str) -> None:
        self._shown = command
        self._command = (*shlex.split(command), "python3", "-S", "-s", "-c", script())
        self._probe: Json = None

    async def probed(self) -> str | None:
        """Run the probe inside and remember what it saw; why it could not be run, or None."""
        run = await self.run(PROBE, None, PROBE_LIMITS)
        if run.status != OK:
            return f"container ({self._shown}): the probe ended {run.status}: {run.reason}"
        self._probe = run.output
        return None

    def report(self) -> Mapping[str, Json]:
        """See `Sandbox`; what the container itself holds is only known by the probe."""
        return {"level": self.level, **self._holds(), "why": "", "probe": self._probe}

    def _holds(self) -> Mapping[str, str]:
        return {
            "fs": "the container's",
            "net": "the container's",
            "procs": "the container's, rlimit: no new process or thread",
            "mem": "rlimit_as",
            "kill": "end of the container",
            "command": self._shown,
        }

    async def run(self, program: Program, value: Json, limits: Limits) -> Execution:
        """See `Sandbox`."""
        if program.language != "python":
            return Execution(
                status=SANDBOX_REFUSED,
                reason=f"{program.language} is not run in a given container; Python is",
                isolation={"level": self.level},
            )
        run = await execute(program, value, limits, start=lambda: Shipped(self._command))
        return evolve(run, isolation={"level": self.level, **self._holds(), **run.isolation})

    async def aclose(self) -> None:
        """See `Sandbox`: every run ends its own container."""
