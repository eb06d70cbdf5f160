"""One program, one input, one process: the conversation with the child and its deadlines."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import anyio
from attrs import evolve

from scillm_codeworld.options import check_limits
from scillm_codeworld.records import (
    EXCEPTION,
    KILLED,
    OK,
    OUTPUT_LIMIT,
    SANDBOX_REFUSED,
    TIMEOUT,
    Execution,
)
from scillm_codeworld.sandbox.child import Child
from scillm_codeworld.sandbox.heads import Head
from scillm_codeworld.sandbox.reply import (
    ANSWERING,
    LOADED,
    LOADING,
    READY,
    STARTING,
    failure,
    parse_reply,
)

if TYPE_CHECKING:
    from scillm.records import Json, Limits

    from scillm_codeworld.records import Program

START_S = 30.0
"""For the interpreter to come up on a busy machine; no program runs in that time."""
GRACE_S = 0.5
"""For a child that has answered, or hung up, to leave by itself."""
ENVELOPE_BYTES = 4096
"""What may surround an answer on its line, and the whole of any other line."""
MB = 1024 * 1024


class _Silence(Exception):  # noqa: N818  (how a conversation ends, not a fault)
    """The child said nothing more: hung up, ran out of time, or said too much."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


async def execute(program: Program, value: Json, limits: Limits) -> Execution:
    """Run `program` on `value` in a process of its own and tell what really happened.

    Never raises for anything the program does; `UsageError` for limits that are none.
    `SANDBOX_REFUSED` means that the program was not run. No process is left behind, whether this
    returns, fails or is cancelled.
    """
    check_limits(limits)
    if os.name != "posix" or not sys.executable:
        return Execution(
            status=SANDBOX_REFUSED,
            reason=f"running code needs Linux and a Python executable; this is {sys.platform}",
        )
    try:
        child = Child()
    except OSError as error:
        return Execution(
            status=SANDBOX_REFUSED, reason=f"no process could be started: {error.strerror}"
        )
    heads = (
        Head(name="stdout", most_bytes=limits.output_bytes),
        Head(name="stderr", most_bytes=limits.output_bytes),
    )
    found: Execution | None = None
    try:
        async with anyio.create_task_group() as group:
            talking = anyio.CancelScope()
            for head, pipe in zip(heads, (child.stdout, child.stderr), strict=True):
                group.start_soon(_drain, child, pipe, head, talking)
            with talking:
                found = await _converse(child, program, value, limits)
            if found is not None and found.status not in (TIMEOUT, OUTPUT_LIMIT):
                # It has said its word: let it write out what it printed before the end.
                await child.exit_code(within_s=GRACE_S)
            group.cancel_scope.cancel()
    finally:
        try:
            await child.kill()
            for head, pipe in zip(heads, (child.stdout, child.stderr), strict=True):
                head.take(child.rest(pipe))
        finally:
            child.close()
    return _with_heads(found, heads)


def _with_heads(found: Execution | None, heads: Collection[Head]) -> Execution:
    over = [head for head in heads if head.overflowed]
    if over:  # even when an answer came first: the same program must not end now so, now so
        found = Execution(
            status=OUTPUT_LIMIT,
            reason=f"it wrote more than {over[0].most_bytes} bytes to {over[0].name}",
            isolation={} if found is None else found.isolation,
        )
    if found is None:
        raise AssertionError("only an overflow ends the conversation without a result")
    stdout, stderr = (head.text() for head in heads)
    return evolve(found, stdout=stdout, stderr=stderr)


async def _drain(child: Child, pipe: int, head: Head, talking: anyio.CancelScope) -> None:
    """Keep the head of what is printed, and end the conversation when it is too much."""
    while chunk := await child.read(pipe):
        head.take(chunk)
        if head.overflowed:
            talking.cancel()
            return


async def _converse(child: Child, program: Program, value: Json, limits: Limits) -> Execution:
    """The three exchanges: limits, program, input. Only the last one is the measured call."""
    isolation: Mapping[str, Json] = {}
    load_s: float | None = None
    try:
        talk = _Talk(child)
        reply = await talk.exchange(_setup(limits), STARTING, within_s=START_S)
        if reply["status"] != READY:
            return failure(reply)
        isolation = reply.get("isolation") or {}
        code = {"code": program.code, "entry": program.entry}
        started = time.perf_counter()
        reply = await talk.exchange(code, LOADING, within_s=limits.time_s)
        load_s = time.perf_counter() - started
        if reply["status"] != LOADED:
            return evolve(failure(reply), isolation=isolation, load_s=load_s)
        started = time.perf_counter()
        reply = await talk.exchange(
            value, ANSWERING, within_s=limits.time_s, most_bytes=limits.output_bytes
        )
        wall_s = time.perf_counter() - started
    except _Silence as silence:
        status, reason = silence.status, silence.reason
        if not isolation:  # our own code failed to come up; no program was run
            status, reason = SANDBOX_REFUSED, f"the sandbox did not come up: {reason}"
        return Execution(status=status, reason=reason, isolation=isolation, load_s=load_s)
    if reply["status"] != OK:
        return evolve(failure(reply), isolation=isolation, load_s=load_s, wall_s=wall_s)
    return Execution(
        status=OK, output=reply.get("output"), isolation=isolation, load_s=load_s, wall_s=wall_s
    )


def _setup(limits: Limits) -> dict[str, Json]:
    # Loading and calling may each take the whole time; the parent's clock is the real deadline.
    cpu_s = math.ceil(2 * limits.time_s) + 2
    memory_bytes = limits.memory_mb * MB
    return {"memory_bytes": memory_bytes, "cpu_s": cpu_s, "parent_pid": os.getpid()}


class _Talk:
    """Exchanges lines with one child. Holds what was read beyond the last line."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._rest = b""

    async def exchange(
        self, words: Json, allowed: Collection[str], *, within_s: float, most_bytes: int = 0
    ) -> Mapping[str, Json]:
        """Send `words` and return the reply; raises `_Silence` when there is none in time."""
        line = json.dumps(words).encode() + b"\n"
        reply: bytes | None = None
        with anyio.move_on_after(within_s):
            await self._child.write(line)  # who no longer listens may still have spoken
            reply = await self._line(most_bytes + ENVELOPE_BYTES)
        if reply is None:
            doing = "answer" if OK in allowed else "load" if LOADED in allowed else "start"
            raise _Silence(TIMEOUT, f"it did not {doing} within {within_s:g} s")
        return parse_reply(reply, allowed)

    async def _line(self, most_bytes: int) -> bytes:
        parts, size = [self._rest], len(self._rest)
        while b"\n" not in parts[-1]:
            chunk = await self._child.read(self._child.answers)
            if not chunk:
                raise _Silence(*await self._ending())
            parts.append(chunk)
            size += len(chunk)
            if size > most_bytes:
                raise _Silence(
                    OUTPUT_LIMIT, f"its answer has more than {most_bytes - ENVELOPE_BYTES} bytes"
                )
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    async def _ending(self) -> tuple[str, str]:
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
