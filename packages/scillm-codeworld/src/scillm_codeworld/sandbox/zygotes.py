"""One zygote from the parent's side: its process, its order, and the socket to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from attrs import frozen
from scillm.errors import SandboxError

from scillm_codeworld.sandbox.talk import START_S

if TYPE_CHECKING:
    from scillm.records import Json

START = Path(__file__).with_name("inside") / "start.py"
ENVIRONMENT: Mapping[str, str] = {
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""All a zygote sees, and its programs with it. A fork would leave a library's threads behind."""
REPLY_BYTES = 65_536
POLL_S = 0.001
LEAVE_S = 0.5


@frozen(kw_only=True)
class Order:
    """What a zygote is to be: its level, what it loads, what it shows, what its runs may call."""

    level: str
    preload: Sequence[str] = ()
    path: Sequence[str] = ()
    bind: Sequence[str] = ()
    profile: str = "python"
    program: str | None = None
    """The file that all its runs will be of, empty for a script; None where they are Python's."""


class ZygoteError(SandboxError):
    """A zygote could not be started, or is gone."""


class BusyError(Exception):
    """A zygote holds as many orders as it can; it will take more."""


class Zygote:
    """One zygote process and the socket to it."""

    def __init__(self, order: Order) -> None:
        """Start it; `OSError` when that fails."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        flags = ["-S", "-s", "-B", "-X", "utf8"]
        if sys.version_info >= (3, 11):
            flags.append("-P")
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603
                [sys.executable, *flags, str(START), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                env=dict(ENVIRONMENT),
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
                stderr=subprocess.DEVNULL,
            )
        except BaseException:
            self.control.close()
            raise
        finally:
            theirs.close()
        # Also for a sandbox that nobody closes: at the program's end nothing is left behind.
        self._end = weakref.finalize(self, end, self.control, self.process, os.getpid())
        self.holds: Mapping[str, Json] = {}
        self.lost = False
        self._is_up = False
        self._problem = ""
        self._queue = anyio.Lock()
        self.level = order.level
        self.control.settimeout(0)
        words = {
            "level": order.level,
            "preload": list(order.preload),
            "path": list(order.path),
            "bind": list(order.bind),
            "profile": order.profile,
            "program": order.program,
            "parent_pid": os.getpid(),
        }
        self.control.send(json.dumps(words).encode())

    async def up(self) -> None:
        """Wait until it is ready; `ZygoteError` when it could not get so far."""
        async with self._queue:
            if not (self._is_up or self._problem):
                await self._hear()
        if self._problem:
            raise ZygoteError(self._problem)

    async def _hear(self) -> None:
        reply = b""
        with anyio.move_on_after(START_S):
            await anyio.wait_readable(self.control)
            try:
                reply = self.control.recv(REPLY_BYTES)
            except ConnectionResetError:  # it ended with an order unread; its last word comes after
                with contextlib.suppress(ConnectionResetError):
                    reply = self.control.recv(REPLY_BYTES)
        if not reply:
            self._problem = (
                f"{self.level}: the zygote ended before it was ready (code {self.process.poll()})"
            )
            return
        words = json.loads(reply)
        self.holds = words.get("up", {})
        self._problem = words.get("refused", "")
        self._is_up = not self._problem

    async def free(self) -> None:
        """Wait until it can hold another order, or is gone."""
        async with self._queue:
            await anyio.wait_writable(self.control)

    @property
    def alive(self) -> bool:
        """Whether it can take orders."""
        return not (self.lost or self._problem) and self.process.poll() is None

    async def aclose(self) -> None:
        """End it, and with it all of its runs; reap it."""
        self.control.close()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(LEAVE_S):  # by itself, so that its spare is reaped too
                while self.process.poll() is None:  # noqa: ASYNC110
                    await anyio.sleep(POLL_S)
            self.process.kill()
            while self.process.poll() is None:  # noqa: ASYNC110  (no event tells of an end)
                await anyio.sleep(POLL_S)
        self._end.detach()

    def end(self) -> None:
        """`aclose`, from where nothing can be awaited."""
        self._end()


def end(control: socket.socket, process: subprocess.Popen[bytes], owner: int) -> None:
    """End a zygote and reap it; in a forked copy of its owner, nothing."""
    if os.getpid() != owner:
        return
    control.close()
    try:
        process.wait(LEAVE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
