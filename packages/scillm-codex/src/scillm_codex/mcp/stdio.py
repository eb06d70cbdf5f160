"""An MCP server over its standard input and output: started on a leash, heard within bounds.

The SDK's own transport takes lines of any length and logs every wrong one; a server that floods
would fill our memory, or the terminal.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from scillm.errors import EngineError

from scillm_codex.held import end_held, start_held

if TYPE_CHECKING:
    from anyio.abc import Process
    from scillm.records import Json

    from scillm_codex.mcp.names import McpTarget

log = logging.getLogger("scillm.mini_agent")

PASSED = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG")
"""Variables of ours that a server sees."""
MOST_LINE_BYTES = 64 * 1024 * 1024
MOST_WRONG = 1000
"""Lines that are no message, after which a server is not listened to any more."""
KEPT_STDERR = 2_000
PATIENCE_S = 2.0
"""For a server to end by itself when its input ends."""
PROGRESS = "notifications/progress"


class Speaking:
    """A server that was started. Remembers the end of its stderr, and how often it was wrong."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._said = b""
        self.wrong = 0

    async def messages(self) -> AsyncGenerator[Mapping[str, Json], None]:
        """What it says, without the notices nobody here reads; ends when it does.

        `EngineError` when it does not keep to the protocol.
        """
        assert self._process.stdout is not None
        parts: list[bytes] = []
        size = 0
        async for piece in self._process.stdout:
            first, *rest = piece.split(b"\n")
            parts.append(first)
            size += len(first)
            if size > MOST_LINE_BYTES:
                raise EngineError(f"it wrote a line of more than {MOST_LINE_BYTES} bytes")
            if rest:
                for line in (b"".join(parts), *rest[:-1]):
                    message = self._read(line)
                    if message is not None:
                        yield message
                parts, size = [rest[-1]], len(rest[-1])

    async def send(self, line: str) -> None:
        """Tell it something, in one line."""
        assert self._process.stdin is not None
        await self._process.stdin.send(line.encode("utf-8", "replace") + b"\n")

    async def listen(self) -> None:
        """Keep the end of what it writes to stderr."""
        assert self._process.stderr is not None
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async for piece in self._process.stderr:
                self._said = (self._said + piece)[-KEPT_STDERR:]

    def last_words(self) -> str:
        """The end of its stderr as a sentence; empty when it said nothing."""
        said = self._said.decode(errors="replace").strip()
        return f" It said: {said}" if said else ""

    async def end(self) -> None:
        """End it, and all it started."""
        await end_held(self._process, patience_s=PATIENCE_S)

    def _read(self, line: bytes) -> Mapping[str, Json] | None:
        if not line.strip():
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, Mapping):
            self.blame(line)
            return None
        method = message.get("method")
        return message if method is None or "id" in message or _is_progress(message) else None

    def blame(self, line: object) -> None:
        """Note something wrong: told once, and too much of it is the end."""
        self.wrong += 1
        if self.wrong == 1:
            log.warning("An MCP server said what is no message; it is left out: %.200r", line)
        if self.wrong > MOST_WRONG:
            raise EngineError(f"it said {self.wrong} things that are no messages")


def _is_progress(message: Mapping[str, Json]) -> bool:
    told = message.get("params")
    return (
        message.get("method") == PROGRESS
        and isinstance(told, Mapping)
        and isinstance(told.get("progressToken"), (str, int))
        and isinstance(told.get("progress"), (int, float))
    )


async def started(target: McpTarget) -> Speaking:
    """The server of `target`, which sees a few variables of ours and its own."""
    ours = {name: os.environ[name] for name in PASSED if os.environ.get(name)}
    env = {"PATH": os.defpath, **ours, **target.env}
    return Speaking(await start_held(target.command, env=env, cwd=Path.cwd()))
