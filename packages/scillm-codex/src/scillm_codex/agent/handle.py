"""A sidecar that was found or started, and how one that was started is stopped."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
from contextlib import suppress

import anyio
from anyio import to_thread

GRACE_S = 10.0
"""What answers under way get when a sidecar that was started is stopped."""
STOP_S = 15.0


class CodexAgentHandle(str):  # noqa: SLOT000 - it remembers what was started
    """The base URL, as a text, and what was started for it. Holds the process.

    `started` says whether there is one; `close`, the end of a `with` block, or the end of this
    program stops it.
    """

    started: bool
    _child: subprocess.Popen[bytes] | None

    def __new__(cls, base: str, child: subprocess.Popen[bytes] | None = None) -> CodexAgentHandle:
        """A handle on what was found, or on the process that was started."""
        handle = super().__new__(cls, base)
        handle._child = child
        handle.started = child is not None
        return handle

    @property
    def base(self) -> str:
        """The base URL, without /v1."""
        return str(self)

    def close(self) -> None:
        """Stop what was started; a second call does nothing."""
        child, self._child = self._child, None
        if child is not None:
            atexit.unregister(self.close)
            stop(child)

    def __enter__(self) -> CodexAgentHandle:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def __aenter__(self) -> CodexAgentHandle:
        return self

    async def __aexit__(self, *_error: object) -> None:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self.close)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a started sidecar, by its leash."""
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.stdout is not None:
        child.stdout.close()
