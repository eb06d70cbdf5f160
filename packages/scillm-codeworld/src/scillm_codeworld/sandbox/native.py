"""Programs in other languages: built once for each content, each run a process of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from attrs import evolve
from scillm.records import Limits

from scillm_codeworld.plain import plain_problem
from scillm_codeworld.records import (
    EXCEPTION,
    OK,
    OUTPUT_LIMIT,
    SANDBOX_REFUSED,
    SYNTAX_ERROR,
    TIMEOUT,
    UNSERIALISABLE,
    Execution,
)
from scillm_codeworld.sandbox import toolchains
from scillm_codeworld.sandbox.execution import Conversation, setup_words
from scillm_codeworld.sandbox.reply import LOADED, LOADING, READY, STARTING, cut, failure
from scillm_codeworld.sandbox.talk import GRACE_S, START_S, Peer, Silence, Talk

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codeworld.records import Program
    from scillm_codeworld.sandbox.zygotes import Zygote

BUILD_LIMITS = Limits(time_s=60.0, memory_mb=2048, output_bytes=24_000_000)
"""Its answer is the program, at most as large as a run's folder, four thirds of it as base64."""
KEPT_PROGRAMS = 64
BUILD, RUNTIME = "build", "runtime"


class Workshop:
    """Builds programs and runs them. Remembers the last programs it built.

    `zygote(profile, tool)` gives the zygote for building or running with a tool; `run` runs in it.
    """

    def __init__(
        self,
        zygote: Callable[[str, toolchains.Tool], Awaitable[Zygote]],
        run: Callable[[Zygote, Program, Json, Limits, Conversation | None], Awaitable[Execution]],
    ) -> None:
        self._zygote = zygote
        self._run = run
        self._tools: dict[str, toolchains.Tool | None] = {}
        self._built: OrderedDict[str, bytes | Execution] = OrderedDict()
        self._building: dict[str, anyio.Event] = {}

    async def run(self, program: Program, value: Json, limits: Limits) -> Execution:
        """See `Sandbox`; the input is JSON on stdin, the answer JSON on stdout."""
        tool = await self._tool(program.language)
        if tool is None:
            return Execution(status=SANDBOX_REFUSED, reason=toolchains.missing(program.language))
        if tool.language.compiled:
            made = await self._product(tool, program)
        else:
            made = program.code.encode()
        if isinstance(made, Execution):
            return made
        zygote = await self._zygote(RUNTIME, tool)
        words = toolchains.launch_words(tool, len(made), memory_mb=limits.memory_mb)

        async def talk(child: Peer, _program: Program, value: Json, limits: Limits) -> Execution:
            return await talk_native(child, words, made, value, limits)

        return await self._run(zygote, program, value, limits, talk)

    async def _tool(self, name: str) -> toolchains.Tool | None:
        if name not in self._tools:
            self._tools[name] = await anyio.to_thread.run_sync(toolchains.found, name)
        return self._tools[name]

    async def _product(self, tool: toolchains.Tool, program: Program) -> bytes | Execution:
        """The program as built, or why it is not: once for each content, side by side for others.

        Only a refusal is asked for again, as it says nothing about the program.
        """
        words = toolchains.build_input(tool, program.code)
        key = hashlib.sha256(json.dumps(words).encode()).hexdigest()
        while key not in self._built:
            if key in self._building:
                await self._building[key].wait()
                continue
            ended = self._building[key] = anyio.Event()
            try:
                made = await self._build(tool, words)
            finally:
                del self._building[key]
                ended.set()
            if isinstance(made, Execution) and made.status == SANDBOX_REFUSED:
                return made
            self._keep(key, made)
        self._built.move_to_end(key)
        return self._built[key]

    async def _build(self, tool: toolchains.Tool, words: Json) -> bytes | Execution:
        zygote = await self._zygote(BUILD, tool)
        run = await self._run(zygote, toolchains.BUILDER, words, BUILD_LIMITS, None)
        if run.status != OK:
            return evolve(run, output=None, reason=f"building it: {run.reason}")
        if "error" in run.output:
            return Execution(
                status=SYNTAX_ERROR, reason=cut(run.output["error"]), isolation=run.isolation
            )
        if "size" in run.output:
            return Execution(
                status=OUTPUT_LIMIT,
                reason=f"it was built, but has {run.output['size']} bytes; at most "
                f"{toolchains.PROGRAM_BYTES} are run",
                isolation=run.isolation,
            )
        return base64.b64decode(run.output["program"])

    def _keep(self, key: str, made: bytes | Execution) -> None:
        self._built[key] = made
        while len(self._built) > KEPT_PROGRAMS:
            self._built.popitem(last=False)


async def talk_native(
    child: Peer, words: Mapping[str, Json], made: bytes, value: Json, limits: Limits
) -> Execution:
    """Hand the finished program over, then its input, and take what it writes for its answer."""
    isolation: Mapping[str, Json] = {}
    load_s: float | None = None
    try:
        talk = Talk(child)
        reply = await talk.exchange(setup_words(limits), STARTING, within_s=START_S)
        if reply["status"] != READY:
            return failure(reply)
        isolation = reply.get("isolation") or {}
        started = time.perf_counter()
        reply = await talk.exchange(dict(words), LOADING, within_s=START_S, payload=made)
        load_s = time.perf_counter() - started
        if reply["status"] != LOADED:
            return evolve(failure(reply), isolation=isolation, load_s=load_s)
        started = time.perf_counter()
        answer = await _answer(child, talk, value, limits)
        wall_s = time.perf_counter() - started
        code = await child.exit_code(within_s=GRACE_S)
        found = await _judged(talk, code, answer)
    except Silence as silence:
        status, reason = silence.status, silence.reason
        if not isolation:
            status, reason = SANDBOX_REFUSED, f"the sandbox did not come up: {reason}"
        return Execution(status=status, reason=reason, isolation=isolation, load_s=load_s)
    return evolve(found, isolation=isolation, load_s=load_s, wall_s=wall_s)


async def _answer(child: Peer, talk: Talk, value: Json, limits: Limits) -> bytes:
    answer: bytes | None = None
    silence: Silence | None = None
    with anyio.move_on_after(limits.time_s):
        async with anyio.create_task_group() as group:
            group.start_soon(_hand_over, child, json.dumps(value).encode() + b"\n")
            try:
                answer = await talk.everything(limits.output_bytes)
            except Silence as error:  # out of the group it would come wrapped
                silence = error
            group.cancel_scope.cancel()
    if silence is not None:
        raise silence
    if answer is None:
        raise Silence(TIMEOUT, f"it did not answer within {limits.time_s:g} s")
    return answer


async def _hand_over(child: Peer, line: bytes) -> None:
    """While the answer is read already: a program may answer before it has read everything."""
    await child.write(line)
    child.end()


async def _judged(talk: Talk, code: int | None, answer: bytes) -> Execution:
    """The answer; where it is none, what was written instead of it is the `stdout`."""
    wrote = answer.decode(errors="replace")
    if code is None:
        why = "it closed its stdout and went on"
        return Execution(status=EXCEPTION, reason=why, stdout=wrote)
    if code != 0:
        status, reason = await talk.ending()
        if -code == signal.SIGKILL:
            reason += "; it may have used up its processor time"
        return Execution(status=status, reason=reason, stdout=wrote)
    try:
        output = json.loads(answer)
    except (ValueError, RecursionError) as error:
        reason = f"its stdout is no JSON: {cut(str(error))}"
        return Execution(status=UNSERIALISABLE, reason=reason, stdout=wrote)
    problem = plain_problem(output)
    if problem:
        return Execution(status=UNSERIALISABLE, reason=problem, stdout=wrote)
    return Execution(status=OK, output=output)
