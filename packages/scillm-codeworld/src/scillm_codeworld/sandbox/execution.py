"""One program, one input, one process: the conversation with the child and its deadlines."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import evolve

from scillm_codeworld.options import check_limits
from scillm_codeworld.records import (
    KILLED,
    MEMORY,
    OK,
    OUTPUT_LIMIT,
    SANDBOX_REFUSED,
    TIMEOUT,
    Execution,
)
from scillm_codeworld.sandbox.child import UNWATCHED, Child
from scillm_codeworld.sandbox.heads import Head
from scillm_codeworld.sandbox.reply import (
    ANSWERING,
    LOADED,
    LOADING,
    READY,
    STARTING,
    failure,
)
from scillm_codeworld.sandbox.talk import GRACE_S, START_S, Peer, Silence, Talk, as_line

if TYPE_CHECKING:
    from scillm.records import Json, Limits

    from scillm_codeworld.records import Program

MB = 1024 * 1024

Conversation: TypeAlias = "Callable[[Peer, Program, Json, Limits], Awaitable[Execution]]"
"""How a program is handed over and its answer taken: once for each kind of child."""


async def execute(
    program: Program,
    value: Json,
    limits: Limits,
    *,
    start: Callable[[], Peer] = Child,
    converse: Conversation | None = None,
) -> Execution:
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
        child = start()
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
                found = await (converse or talk_python)(child, program, value, limits)
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
    run = _with_heads(found, heads)
    if child.usage is None:
        return run
    if child.usage.out_of_memory and run.status == KILLED:
        run = evolve(run, status=MEMORY, reason="it was ended: it used up its memory")
    elif child.usage.unwatched and run.status == KILLED:
        run = evolve(run, status=SANDBOX_REFUSED, reason=UNWATCHED)
    return evolve(run, cpu_s=child.usage.cpu_s, max_rss_kb=child.usage.max_rss_kb)


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
    # Programs in other languages answer on stdout: the conversation has read it.
    return evolve(found, stdout=found.stdout + stdout, stderr=stderr)


async def _drain(child: Peer, pipe: int, head: Head, talking: anyio.CancelScope) -> None:
    """Keep the head of what is printed, and end the conversation when it is too much."""
    while chunk := await child.read(pipe):
        head.take(chunk)
        if head.overflowed:
            talking.cancel()
            return


async def talk_python(child: Peer, program: Program, value: Json, limits: Limits) -> Execution:
    """The three exchanges: limits, program, input. Only the last one is the measured call."""
    isolation: Mapping[str, Json] = {}
    load_s: float | None = None
    try:
        talk = Talk(child)
        # Both lines at once, which saves a wait; the child confines itself before it looks at the
        # second, and says so in between.
        code = {"code": program.code, "entry": program.entry}
        reply = await talk.exchange(
            setup_words(limits), STARTING, within_s=START_S, payload=as_line(code)
        )
        if reply["status"] != READY:
            return failure(reply)
        isolation = reply.get("isolation") or {}
        started = time.perf_counter()
        reply = await talk.hear(LOADING, within_s=limits.time_s)
        load_s = time.perf_counter() - started
        if reply["status"] != LOADED:
            return evolve(failure(reply), isolation=isolation, load_s=load_s)
        started = time.perf_counter()
        reply = await talk.exchange(
            value, ANSWERING, within_s=limits.time_s, most_bytes=limits.output_bytes
        )
        wall_s = time.perf_counter() - started
    except Silence as silence:
        status, reason = silence.status, silence.reason
        if not isolation:  # our own code failed to come up; no program was run
            status, reason = SANDBOX_REFUSED, f"the sandbox did not come up: {reason}"
        return Execution(status=status, reason=reason, isolation=isolation, load_s=load_s)
    if reply["status"] != OK:
        return evolve(failure(reply), isolation=isolation, load_s=load_s, wall_s=wall_s)
    return Execution(
        status=OK, output=reply.get("output"), isolation=isolation, load_s=load_s, wall_s=wall_s
    )


def setup_words(limits: Limits) -> dict[str, Json]:
    """What a child is told first: its limits, and whose child it must be."""
    # Loading and calling may each take the whole time; the parent's clock is the real deadline.
    cpu_s = math.ceil(2 * limits.time_s) + 2
    memory_bytes = limits.memory_mb * MB
    return {"memory_bytes": memory_bytes, "cpu_s": cpu_s, "parent_pid": os.getpid()}
