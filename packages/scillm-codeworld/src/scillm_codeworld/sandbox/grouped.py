"""A run of L4: a zygote's child that is put in a control group before it reads a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from scillm_codeworld.records import SANDBOX_REFUSED
from scillm_codeworld.sandbox.spawned import Spawned
from scillm_codeworld.sandbox.talk import START_S, Silence

if TYPE_CHECKING:
    import socket

    from scillm_codeworld.sandbox.cgroups import Group


SOON_S = 0.05
"""In which a zygote that is up answers an order."""


class Grouped(Spawned):
    """One child and its group. The child waits for its first line, which is not sent before."""

    def __init__(self, control: socket.socket, group: Group, *, memory_bytes: int) -> None:
        self._group = group
        self._inside = False
        try:
            super().__init__(control, memory_bytes=memory_bytes)
        except BaseException:
            group.remove()
            raise

    async def write(self, line: bytes) -> bool:
        """See `Pipes`; the first line waits until the child is in its group."""
        if not self._inside:
            pid = await self.pid(within_s=START_S)
            if pid is None:
                return False
            self._enter(pid)
        return await super().write(line)

    def begin(self, line: bytes) -> bytes:
        """See `Spawned`; nothing is handed over while it cannot be put into its group."""
        if not self._inside:
            self.wait(within_s=SOON_S)
            pid = self.told_pid
            if pid is None:
                return line
            self._enter(pid)
        return super().begin(line)

    def _enter(self, pid: int) -> None:
        try:
            self._group.take(pid)
        except OSError as error:  # it was ended meanwhile, or the host took the group away
            raise Silence(
                SANDBOX_REFUSED, f"it could not be put into its group: {error}"
            ) from error
        self._inside = True

    def _take(self, chunk: bytes) -> None:
        super()._take(chunk)
        if self.usage is not None and self._group.ran_out_of_memory():
            self.usage = evolve(self.usage, out_of_memory=True)

    def close(self) -> None:
        """Close the pipes and remove the group."""
        super().close()
        self._group.remove()
