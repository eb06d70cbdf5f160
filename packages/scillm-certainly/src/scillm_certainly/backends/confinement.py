"""Where a backend's workers are started: in a sandbox that is offered, or by our own launcher."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from scillm.errors import ProverError, SandboxError
from scillm.plugins.groups import EXTRAS
from scillm.plugins.registry import Registry
from scillm.plugins.settings import left_out
from scillm.protocols import Keeps

from scillm_certainly.backends.lent import Lent
from scillm_certainly.backends.process import Process
from scillm_certainly.backends.toolchain import native_program

if TYPE_CHECKING:
    from scillm.protocols import Kept, KeptProgram, Plugins

    from scillm_certainly.backends.lines import Lines
    from scillm_certainly.backends.records import Backend

NAME = "open_sandbox"
"""The helper of group `scillm.extras` that opens it."""
WEAKEST = "L3"
"""From it on a process sees nothing of the host but what it is shown."""


class Confinement:
    """Starts the workers of one backend. Remembers the sandbox they are in, while it is open.

    `plugins` offers the sandbox, by default what is installed. A sandbox counts once it has started
    the program, which is then the first worker's. Without one our launcher starts workers and tells
    why; a backend that says so is started by it without asking, and one that must have a sandbox is
    not started.
    """

    def __init__(self, backend: Backend, plugins: Plugins | None = None) -> None:
        self._backend = backend
        self._plugins = plugins
        self._stack = AsyncExitStack()
        self._opening = anyio.Lock()
        self._decided = backend.sandbox is False
        self._sandbox: Keeps | None = None
        self._program: KeptProgram | None = None
        self._first: Kept | None = None
        self._why = ""

    async def open(self) -> None:
        """Find out where workers are started; a second call does nothing.

        Raises `ProverError` when there is no sandbox for a backend that must have one.
        """
        async with self._opening:
            if not self._decided:
                await self._decide()
                self._decided = True

    async def _decide(self) -> None:
        try:
            await self._borrow()
        except (SandboxError, ProverError) as error:
            if self._backend.sandbox:
                raise ProverError(
                    f"SCILLM_CERTAINLY_SANDBOX=1 asks for a sandbox around Lean. {error}"
                ) from error
            self._why = str(error)

    async def _borrow(self) -> None:
        try:
            sandbox = await self._lent()
            program = await anyio.to_thread.run_sync(native_program, self._backend)
            first = sandbox.keep(program)
            await first.started()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._stack.aclose()
            raise
        self._sandbox, self._program, self._first = sandbox, program, first

    async def _lent(self) -> Keeps:
        plugins = Registry(disabled=left_out()) if self._plugins is None else self._plugins
        if NAME not in plugins.names(EXTRAS):
            raise SandboxError("No sandbox is offered; scillm-codeworld brings one.")
        opener: Any = plugins.get(EXTRAS, NAME)
        if not callable(opener):
            raise SandboxError(f"The helper {NAME!r} opens no sandbox; it is a {opener!r}.")
        opening: Any = opener(require=WEAKEST)
        sandbox = await self._stack.enter_async_context(opening)
        if not isinstance(sandbox, Keeps):
            raise SandboxError("The sandbox that is offered runs programs, but keeps none.")
        return sandbox

    def start(self) -> Lines:
        """Start a worker's process, which warms up by itself; `ProverError` when that fails."""
        if not self._decided:
            raise ProverError("Where Lean may run was not decided yet; this is a fault of ours.")
        backend = self._backend
        if self._sandbox is None or self._program is None:
            return Process(
                backend.command, backend.environment, memory_mb=backend.memory_mb, why=self._why
            )
        try:
            kept, self._first = self._first or self._sandbox.keep(self._program), None
            return Lent(kept, self._program)
        except SandboxError as error:
            raise ProverError(f"Lean could not be started in the sandbox. {error}") from error

    async def aclose(self) -> None:
        """Close the sandbox, and end what is in it; it can be opened again."""
        with anyio.CancelScope(shield=True):
            async with self._opening:
                self._decided = self._backend.sandbox is False
                self._sandbox = self._program = self._first = None
                self._why = ""
                await self._stack.aclose()
