"""The one Lean of a conversation: found, started, asked within its time, replaced when it grew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scillm.errors import ProverError, UsageError

from scillm_certainly.backends.confinement import Confinement
from scillm_certainly.backends.records import REPL, Backend
from scillm_certainly.dialogue.worker import DialogueWorker, running, written_program

if TYPE_CHECKING:
    from scillm.records import Json

GROWN_MB = 600
"""Growth after which the process is replaced: an embedded Lean cannot have more than 2 GiB."""
LEAST_S = 0.05


@contextmanager
def reading() -> Iterator[None]:
    """An answer that lacks a part is a fault of the process that gave it: `ProverError`."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ProverError(f"Lean's answer lacks a part: {error!r}.") from error


class OneLean:
    """A process at a time. Remembers how many there were, and how large this one was at first."""

    def __init__(self, find: Callable[[], Backend]) -> None:
        self.starts = 0
        self._find = find
        self._backend: Backend | None = None
        self._worker: DialogueWorker | None = None
        self._confinement: Confinement | None = None
        self._first_mb = 0
        self._time_s = 0.0
        self._until = 0.0

    @property
    def offered(self) -> bool:
        """Whether there is a Lean that can be told tactics."""
        return self._found().dialect != REPL

    async def begin(self, time_s: float) -> None:
        """Have a process that listens; what is asked of it until the next time has `time_s`."""
        worker = self._worker
        if worker is not None and worker.alive and self._has_grown(worker):
            worker.close()
        if worker is None or not worker.alive:
            worker = self._worker = await self._start()
        await worker.ready()
        self._time_s = time_s
        self._until = time.monotonic() + time_s

    async def ask(self, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """The answer; `ProverError`, and the end of the process, when there is none in time."""
        if self._worker is None:
            raise ProverError("Tactic mode has no Lean; this is a fault of ours.")
        left_s = max(LEAST_S, self._until - time.monotonic())
        return await self._worker.ask(request, left_s=left_s, time_s=self._time_s)

    async def aclose(self) -> None:
        """End the process; a later request starts another."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        if self._confinement is not None:
            await self._confinement.aclose()

    async def _start(self) -> DialogueWorker:
        backend = self._found()
        if backend.dialect == REPL:
            raise UsageError(
                "Tactic mode needs a native or the embedded Lean. A REPL of your own "
                "(SCILLM_CERTAINLY_REPL) is in use: ask it directly."
            )
        await self.aclose()
        self.starts += 1
        self._first_mb = 0
        file = written_program()
        try:
            backend = running(backend, file)
            self._confinement = Confinement(backend)
            await self._confinement.open()
            return DialogueWorker(backend, file, self._confinement.start())
        except BaseException:
            file.unlink(missing_ok=True)
            raise

    def _has_grown(self, worker: DialogueWorker) -> bool:
        """Whether it has much more memory than after its first request, imports included."""
        now_mb = worker.process.rss_mb()
        self._first_mb = self._first_mb or now_mb
        return now_mb > self._first_mb + GROWN_MB

    def _found(self) -> Backend:
        """The Lean to use, looked for until there is one."""
        if self._backend is None:
            self._backend = self._find()
        return self._backend
