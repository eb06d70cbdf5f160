"""The conversation with a child: a line out, a line back, and what silence means."""

from __future__ import annotations

import json
import signal
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

import anyio

from scillm_codeworld.records import EXCEPTION, KILLED, OK, OUTPUT_LIMIT, TIMEOUT
from scillm_codeworld.sandbox.reply import LOADED, NO_ANSWER, parse_reply

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codeworld.sandbox.child import Usage

START_S = 30.0
"""For the interpreter to come up on a busy machine; no program runs in that time."""
GRACE_S = 0.5
"""For a child that has answered, or hung up, to leave by itself."""
SAID_BYTES = 32_768
"""Any line but an answer: a reason and eight frames, each character of them as `\\uXXXX`."""
OK_BYTES = len(b'{"status": "ok", "output": }')


class Silence(Exception):  # noqa: N818  (how a conversation ends, not a fault)
    """The child said nothing more: hung up, ran out of time, or said too much."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class Peer(Protocol):
    """A child in whatever confinement, as the conversation needs it."""

    requests: int
    answers: int
    stdout: int
    stderr: int
    usage: Usage | None

    async def read(self, pipe: int) -> bytes:
        """Some bytes of `pipe` as soon as there are any; empty at its end."""
        ...

    async def write(self, line: bytes) -> bool:
        """Hand `line` over; False when the child no longer listens."""
        ...

    def end(self) -> None:
        """Let the child see the end of its input."""
        ...

    def rest(self, pipe: int) -> bytes:
        """What is left in `pipe` after the child's end."""
        ...

    async def exit_code(self, *, within_s: float) -> int | None:
        """How it ended by itself (negative: the signal), or None when it has not in that time."""
        ...

    async def kill(self) -> None:
        """Kill and reap it, whatever else is being cancelled."""
        ...

    def close(self) -> None:
        """Close the parent's ends of the pipes."""
        ...


def as_line(words: Json) -> bytes:
    """`words` as one line of JSON."""
    return json.dumps(words).encode() + b"\n"


def _in_time(
    reply: Mapping[str, Json] | None, allowed: Collection[str], within_s: float
) -> Mapping[str, Json]:
    if reply is None:
        doing = "answer" if OK in allowed else "load" if LOADED in allowed else "start"
        raise Silence(TIMEOUT, f"it did not {doing} within {within_s:g} s")
    return reply


def _too_much(most_bytes: int) -> Silence:
    if most_bytes == 0:
        return Silence(
            OUTPUT_LIMIT, f"what it said while it loaded has more than {SAID_BYTES} bytes"
        )
    return Silence(OUTPUT_LIMIT, f"its answer has more than {most_bytes} bytes")


class Talk:
    """Exchanges lines with one child. Holds what was read beyond the last line."""

    def __init__(self, child: Peer) -> None:
        self._child = child
        self._rest = b""

    async def exchange(
        self,
        words: Json,
        allowed: Collection[str],
        *,
        within_s: float,
        most_bytes: int = 0,
        payload: bytes = b"",
    ) -> Mapping[str, Json]:
        """Send `words`, then `payload`, and return the reply; `Silence` when none comes in time.

        `Silence` too when something was said before: nobody can have answered what was not asked.
        """
        if self._rest or self._child.rest(self._child.answers):
            raise Silence(EXCEPTION, NO_ANSWER)
        reply: Mapping[str, Json] | None = None
        with anyio.move_on_after(within_s):
            # Who no longer listens may still have spoken.
            await self._child.write(as_line(words) + payload)
            reply = await self._reply(allowed, most_bytes)
        return _in_time(reply, allowed, within_s)

    async def hear(self, allowed: Collection[str], *, within_s: float) -> Mapping[str, Json]:
        """The next reply; raises `Silence` when none comes in time."""
        reply: Mapping[str, Json] | None = None
        with anyio.move_on_after(within_s):
            reply = await self._reply(allowed, 0)
        return _in_time(reply, allowed, within_s)

    async def _reply(self, allowed: Collection[str], most_bytes: int) -> Mapping[str, Json]:
        line = await self.line(max(most_bytes + OK_BYTES, SAID_BYTES), told=most_bytes)
        reply = parse_reply(line, allowed)
        if reply["status"] == OK and len(line) > most_bytes + OK_BYTES:
            raise _too_much(most_bytes)
        return reply

    async def line(self, most_bytes: int, *, told: int) -> bytes:
        """The next line, of at most `most_bytes`; the next but one may be here already.

        `told` is the limit an overflow is reported with.
        """
        parts, size = [self._rest], len(self._rest)
        self._rest = b""
        while b"\n" not in parts[-1]:
            if size > most_bytes:
                raise _too_much(told)
            chunk = await self._child.read(self._child.answers)
            if not chunk:
                raise Silence(*await self.ending())
            parts.append(chunk)
            size += len(chunk)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        if len(line) > most_bytes:
            raise _too_much(told)
        return line

    async def everything(self, most_bytes: int) -> bytes:
        """All that comes until the child hangs up."""
        parts, size = [self._rest], len(self._rest)
        while chunk := await self._child.read(self._child.answers):
            parts.append(chunk)
            size += len(chunk)
            if size > most_bytes:
                raise _too_much(most_bytes)
        return b"".join(parts)

    async def ending(self) -> tuple[str, str]:
        """Status and reason of a child that hung up."""
        code = await self._child.exit_code(within_s=GRACE_S)
        if code is None:
            return EXCEPTION, "it closed the result pipe without an answer"
        if code >= 0:
            return EXCEPTION, f"its process left with exit code {code} before it answered"
        if -code == signal.SIGXCPU:
            return TIMEOUT, "it used up its processor time"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (the limit on processor time, or the system out of memory)"
        return KILLED, f"{name} ended its process{hint if -code == signal.SIGKILL else ''}"
