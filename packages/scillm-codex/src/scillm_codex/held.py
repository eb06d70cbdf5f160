"""Processes on a leash (anyio's door): started, and ended with everything they started."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from scillm_codex.leash import leashed

if TYPE_CHECKING:
    from anyio.abc import Process

REAP_S = 10.0
"""Longest wait for a leash to end what hangs on it, before its group is killed."""


async def start_held(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, sweep_s: float = 0.0
) -> Process:
    """`argv` with pipes at its input and outputs; nothing of it outlives its end, or ours.

    One that cannot be started ends with `leash.GONE`, and says so on stderr.
    """
    # In a session of its own, so that what a terminal sends to our group does not reach it.
    return await anyio.open_process(
        leashed(argv, sweep_s=sweep_s), env=dict(env), cwd=cwd, start_new_session=True
    )


async def end_held(process: Process, *, patience_s: float = 0.0) -> None:
    """End what `start_held` gave: by the end of its input where there is patience, then by force.

    Runs to its end even where the caller is cancelled.
    """
    with anyio.CancelScope(shield=True):
        if patience_s and process.stdin is not None:
            with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await process.stdin.aclose()
            with anyio.move_on_after(patience_s):
                await process.wait()
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            with anyio.move_on_after(REAP_S):
                await process.wait()
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        await process.aclose()
