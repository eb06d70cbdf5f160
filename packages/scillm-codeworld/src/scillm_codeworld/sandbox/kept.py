"""A process that is kept, and asked for as long as it lives: in a zygote's care, like a run."""

from __future__ import annotations

import os
import select
import signal
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio
from scillm.errors import SandboxError

from scillm_codeworld.sandbox.child import CHUNK_BYTES, UNWATCHED
from scillm_codeworld.sandbox.reply import READY, STARTING, cut, parse_reply
from scillm_codeworld.sandbox.talk import GRACE_S, SAID_BYTES, START_S, Silence, as_line
from scillm_codeworld.sandbox.zygotes import Zygote, ZygoteError

if TYPE_CHECKING:
    from scillm.protocols import KeptProgram
    from scillm.records import Json

    from scillm_codeworld.sandbox.spawned import Spawned

TAIL_BYTES = 2_000


class KeptProcess:
    """One kept process. Holds its pipes, what was read of them too early, and the end of stderr."""

    def __init__(
        self, zygote: Zygote, spawned: Spawned, program: KeptProgram, holds: Mapping[str, Json]
    ) -> None:
        """Send the order, as far as that needs no waiting."""
        self._zygote = zygote
        self._spawned = spawned
        self._holds = holds
        self._isolation: Mapping[str, Json] | None = None
        self._left = b""
        self._stderr = b""
        self._hears_stderr = True
        self._memory_mb = program.memory_mb
        self._both = select.epoll()
        self._end = weakref.finalize(self, end, spawned, self._both, os.getpid())
        for pipe in (spawned.answers, spawned.stderr):
            self._both.register(pipe, select.EPOLLIN)
        file = os.path.realpath(program.argv[0])
        limits: Json = {"memory_bytes": program.memory_mb << 20, "cpu_s": None}
        words: Json = {
            "argv": [file, *program.argv[1:]],
            "environment": dict(program.environment),
        }
        self._unsent = spawned.begin(as_line(limits) + as_line(words))

    @property
    def pid(self) -> int | None:
        """See `Kept`."""
        self._spawned.poll()
        return self._spawned.told_pid

    @property
    def alive(self) -> bool:
        """See `Kept`."""
        return not self._spawned.poll()

    async def started(self) -> Mapping[str, Json]:
        """See `Kept`; one that cannot be started is ended."""
        if self._isolation is None:
            try:
                self._isolation = await self._ready()
            except SandboxError:
                self.kill()
                raise
        return self._isolation

    async def _ready(self) -> Mapping[str, Json]:
        """Whoever waits may be cancelled; the next one waits on."""
        try:
            await self._zygote.up()
            await self._spawned.pid(within_s=START_S)
            with anyio.CancelScope(shield=True):  # half an order would be none
                if self._unsent:
                    await self._spawned.write(self._unsent)
                self._unsent = b""
        except ZygoteError as error:
            self._zygote.end()  # so that nobody waits for it to end what hangs on it
            raise unkept(str(error)) from error
        except Silence as error:
            raise unkept(str(error)) from error
        problem: bytes | None = None
        with anyio.move_on_after(START_S):
            while b"\n" not in self._left and len(self._left) < SAID_BYTES:
                chunk = await self._chunk()
                if not chunk:
                    raise unkept(await self.ending())
                self._left += chunk
            # The program's start closes it.
            problem = await self._spawned.read(self._spawned.stdout)
        line, _, rest = self._left.partition(b"\n")
        reply = parse_reply(line, STARTING)
        if problem is None:
            raise unkept(f"it was not ready after {START_S:g} s")
        if reply["status"] != READY or problem:
            raise unkept(cut(problem.decode() or str(reply["reason"])))
        self._left = rest
        return {**reply["isolation"], **self._holds}

    async def read(self) -> bytes:
        """See `Kept`."""
        if self._left:
            left, self._left = self._left, b""
            return left
        return await self._chunk()

    async def _chunk(self) -> bytes:
        while True:
            try:
                return os.read(self._spawned.answers, CHUNK_BYTES)
            except BlockingIOError:
                # Who waits for room on its stderr does not answer.
                self._take_stderr()
                await anyio.wait_readable(self._both)

    def _take_stderr(self) -> None:
        if not self._hears_stderr:
            return
        try:
            while chunk := os.read(self._spawned.stderr, CHUNK_BYTES):
                self._stderr = (self._stderr + chunk)[-TAIL_BYTES:]
        except BlockingIOError:
            return
        # At its end it would be readable for ever.
        self._both.unregister(self._spawned.stderr)
        self._hears_stderr = False

    async def write(self, data: bytes, /) -> bool:
        """See `Kept`."""
        return await self._spawned.write(data)

    async def ending(self) -> str:
        """See `Kept`."""
        code = await self._spawned.exit_code(within_s=GRACE_S)
        self._take_stderr()
        last = self._stderr.decode(errors="replace").strip()
        return self._how(code) + (f"; it last wrote to stderr: {last}" if last else "")

    def _how(self, code: int | None) -> str:
        usage = self._spawned.usage
        if usage is not None and usage.out_of_memory:
            return f"it was ended: it used up its memory ({self._memory_mb} MB)"
        if usage is not None and usage.unwatched:
            return UNWATCHED
        if self._spawned.lost:
            return "its sandbox was ended"
        if code is None:
            return "it closed its stdout and still runs"
        if code < 0:
            known = -code in set(signal.Signals)
            return f"{signal.Signals(-code).name if known else f'signal {-code}'} ended it"
        return f"it left with exit code {code}"

    def kill(self) -> None:
        """See `Kept`. What it wrote before can still be read."""
        self._spawned.kill_now()


def unkept(why: str) -> SandboxError:
    """For a process that was not started."""
    return SandboxError(f"A process could not be kept: {why}")


def end(spawned: Spawned, both: select.epoll, owner: int) -> None:
    """End a kept process whose object is gone; in a forked copy of its owner, nothing."""
    if os.getpid() != owner:
        return
    try:
        spawned.kill_now()
    finally:
        both.close()
        spawned.close()
