"""One `codex app-server` process: started, shaken hands with, watched, ended with its group."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from attrs import field, frozen
from scillm.errors import APIConnectionError, APITimeoutError, EngineError

from scillm_codex.held import end_held, start_held
from scillm_codex.leash import held
from scillm_codex.sidecar.lines import Lines
from scillm_codex.sidecar.rpc import Rpc, RpcError

if TYPE_CHECKING:
    from anyio.abc import Process, TaskStatus
    from scillm.records import Json

log = logging.getLogger("scillm.codex")

HANDSHAKE_S = 30.0
GRACE_S = 2.0
SWEEP_S = 5.0
"""Codex 0.169 forgets a helper of its sandbox now and then, which would wait for ever."""
STDERR_LINES = 50
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
CLIENT = {"name": "scillm", "title": "SciLLM sidecar", "version": "1"}


@frozen(kw_only=True)
class Command:
    """How to start the process."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path


class Child:
    """A running process. Remembers its threads, its last words, when it began."""

    def __init__(self, process: Process, command: Command) -> None:
        assert process.stdin is not None
        self.process = process
        self.command = command
        self.rpc = Rpc(process.stdin.send)
        self.began = time.monotonic()
        self.handshake_s = 0.0
        self.alive = True
        self.retiring = False
        self.threads = 0
        self.active = 0
        self.idle = anyio.Event()
        self.said: deque[str] = deque(maxlen=STDERR_LINES)

    @property
    def pid(self) -> int:
        """Of Codex itself, beyond its leash."""
        return held(self.process.pid)

    def enter(self) -> None:
        """A request begins."""
        self.active += 1
        self.threads += 1

    def leave(self) -> None:
        """A request ended; the last one of a retiring process lets it end."""
        self.active -= 1
        if self.retiring and not self.active:
            self.idle.set()

    def retire(self) -> None:
        """Take no more requests; end after the last."""
        self.retiring = True
        if not self.active:
            self.idle.set()

    def rss_bytes(self) -> int | None:
        """Memory of the process; None where the system does not tell."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):
            return None
        return int(pages) * PAGE_BYTES

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return " / ".join(line for line in list(self.said)[-3:])[-500:]


async def run_child(command: Command, *, task_status: TaskStatus[Child]) -> None:
    """Run one process until it retires, dies or is cancelled; tells the child once it is ready.

    Raises `EngineError` when it does not start.
    """
    try:
        process = await start_held(command.argv, env=command.env, cwd=command.cwd, sweep_s=SWEEP_S)
    except OSError as error:
        raise EngineError(f"{command.argv[0]} cannot be started: {error}.") from error
    child = Child(process, command)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_read, child)
            group.start_soon(_listen, child)
            if not await _shake_hands(child):
                group.cancel_scope.cancel()
            else:
                task_status.started(child)
                await child.idle.wait()
                group.cancel_scope.cancel()
    finally:
        child.alive = False
        child.rpc.close(child.last_words())
        await end_held(process, patience_s=GRACE_S)
    if not child.handshake_s:
        raise EngineError(
            f"Codex did not start: {child.last_words() or 'it said nothing'}. "
            "`scillm codex doctor` looks for the cause."
        )


async def _shake_hands(child: Child) -> bool:
    hello: Json = {"clientInfo": CLIENT, "capabilities": {"experimentalApi": True}}
    try:
        await child.rpc.call("initialize", hello, within_s=HANDSHAKE_S)
        await child.rpc.notify("initialized")
    except (APIConnectionError, APITimeoutError, RpcError) as error:
        # Its last words may still be on their way.
        await anyio.sleep(0.05)
        child.said.append(error.message)
        return False
    child.handshake_s = time.monotonic() - child.began
    return True


async def _read(child: Child) -> None:
    assert child.process.stdout is not None
    lines = Lines()
    async for piece in child.process.stdout:
        for line in lines.feed(piece):
            with suppress(APIConnectionError):
                await child.rpc.take(line)
    child.alive = False
    await anyio.sleep(0.05)
    child.rpc.close(child.last_words())
    child.idle.set()


async def _listen(child: Child) -> None:
    assert child.process.stderr is not None
    lines = Lines()
    async for piece in child.process.stderr:
        for line in lines.feed(piece):
            child.said.append(line.decode("utf-8", "replace")[:2000])
