"""L2, L3 and L4: runs forked from warm zygotes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import anyio
from attrs import evolve
from scillm.errors import SandboxError

from scillm_codeworld.options import check_limits
from scillm_codeworld.records import OK, SANDBOX_REFUSED, Execution
from scillm_codeworld.sandbox.execution import MB, Conversation, execute
from scillm_codeworld.sandbox.grouped import Grouped
from scillm_codeworld.sandbox.keeping import Keeping
from scillm_codeworld.sandbox.levels import L2
from scillm_codeworld.sandbox.native import RUNTIME, Workshop
from scillm_codeworld.sandbox.probe import PROBE, PROBE_LIMITS, shortfall
from scillm_codeworld.sandbox.spawned import Spawned
from scillm_codeworld.sandbox.toolchains import PYTHON, Tool, existing
from scillm_codeworld.sandbox.zygotes import BusyError, Order, Zygote, ZygoteError

if TYPE_CHECKING:
    from scillm.protocols import KeptProgram
    from scillm.records import Json, Limits

    from scillm_codeworld.records import Program
    from scillm_codeworld.sandbox.cgroups import Groups
    from scillm_codeworld.sandbox.kept import KeptProcess

TRIES = 3


class Warm:
    """The sandbox of levels L2, L3 and L4. Remembers its zygotes and what the probe saw."""

    def __init__(
        self,
        order: Order,
        *,
        zygotes: int,
        languages: Sequence[str] = (PYTHON,),
        reasons: Sequence[str] = (),
        groups: Groups | None = None,
    ) -> None:
        self._order = order
        self._width = zygotes
        self._languages = languages
        self._why = "; ".join(reasons)
        self._groups = groups
        self._zygotes: list[Zygote] = []
        self._beside: dict[Order, Zygote] = {}
        self._keeping = Keeping(order.level, self._spawned)
        self._starting = anyio.Lock()
        self._workshop = Workshop(self._for_tool, self._run_in)
        self._turn = itertools.count()
        self._holds: Mapping[str, Json] = {}
        self._probe: Json = None

    @property
    def level(self) -> str:
        """See `Sandbox`."""
        return self._order.level

    async def probed(self) -> str | None:
        """Start, run the probe inside; why this level cannot be had, or None."""
        try:
            for _ in range(self._width):
                self._zygotes.append(await self._started(self._order))
        except (ZygoteError, OSError) as error:
            return str(error)
        self._holds = self._zygotes[0].holds
        if self._groups is not None:
            self._holds = {**self._holds, **self._groups.holds}
        run = await self.run(PROBE, None, PROBE_LIMITS)
        if run.status != OK:
            return f"{self.level}: the probe ended {run.status}: {run.reason}"
        self._probe = run.output
        return shortfall(self.level, run.output)

    async def _started(self, order: Order) -> Zygote:
        zygote = Zygote(order)
        try:
            await zygote.up()
        except BaseException:
            await zygote.aclose()
            raise
        return zygote

    def report(self) -> Mapping[str, Json]:
        """See `Sandbox`."""
        return {"level": self.level, **self._holds, "why": self._why, "probe": self._probe}

    async def run(self, program: Program, value: Json, limits: Limits) -> Execution:
        """See `Sandbox`."""
        refusal = self._refusal(program.language)
        if refusal:
            return Execution(
                status=SANDBOX_REFUSED, reason=refusal, isolation={"level": self.level}
            )
        check_limits(limits)
        run = await self._run_again(program, value, limits)
        if self._groups is not None:
            run = evolve(run, isolation={**run.isolation, **self._groups.holds})
        return evolve(run, isolation={"level": self.level, **run.isolation})

    async def _run_again(self, program: Program, value: Json, limits: Limits) -> Execution:
        """Once more in another zygote when one was lost before it had seen the program."""
        for attempt in range(TRIES):
            try:
                if program.language != PYTHON:
                    return await self._workshop.run(program, value, limits)
                return await self._run_in(await self._next(), program, value, limits, None)
            except ZygoteError as error:
                if attempt == TRIES - 1:
                    return Execution(
                        status=SANDBOX_REFUSED, reason=f"the sandbox could not be kept: {error}"
                    )
        raise AssertionError("the loop returns")

    async def _run_in(
        self,
        zygote: Zygote,
        program: Program,
        value: Json,
        limits: Limits,
        converse: Conversation | None,
    ) -> Execution:
        children: list[Spawned] = []

        def start() -> Spawned:
            try:
                children.append(self._spawned(zygote, limits.memory_mb))
            except BlockingIOError as error:
                raise BusyError from error
            except ConnectionError as error:
                zygote.lost = True
                raise ZygoteError("it ended before the run could be ordered") from error
            return children[0]

        while True:
            try:
                run = await execute(program, value, limits, start=start, converse=converse)
                break
            except BusyError:
                await zygote.free()
        if children and children[0].lost:
            zygote.lost = True
            if not run.isolation:
                raise ZygoteError("it ended before it saw the program")
            return Execution(
                status=SANDBOX_REFUSED,
                reason="the sandbox was ended while the program ran, so nothing is known of it",
            )
        return run

    def _refusal(self, language: str) -> str:
        if language not in self._languages:
            allowed = ", ".join(self._languages)
            return f"{language} is not among the languages allowed here ({allowed})"
        if language != PYTHON and self.level == L2:
            return f"{language} is run at level L3 or above; this is L2 ({self._why})"
        return ""

    def _spawned(self, zygote: Zygote, memory_mb: int) -> Spawned:
        memory_bytes = memory_mb * MB
        if self._groups is None:
            return Spawned(zygote.control, memory_bytes=memory_bytes)
        group = self._groups.new(memory_bytes=memory_bytes)
        return Grouped(zygote.control, group, memory_bytes=memory_bytes)

    async def _next(self) -> Zygote:
        """The next zygote in turn; a dead one (out of memory, say) is replaced."""
        if not self._zygotes:
            raise ZygoteError("it was closed")
        place = next(self._turn) % len(self._zygotes)
        async with self._starting:
            zygote = self._zygotes[place]
            if not zygote.alive:
                await zygote.aclose()
                zygote = self._zygotes[place] = await self._started(self._order)
        return zygote

    async def _for_tool(self, profile: str, tool: Tool) -> Zygote:
        """The zygote that builds or runs with `tool`, started when it is first needed."""
        plain = profile == RUNTIME and tool.language.compiled
        order = Order(
            level=self.level,
            profile=profile,
            bind=existing(("/usr/lib64",)) if plain else tool.bind,
        )
        async with self._starting:
            zygote = self._beside.get(order)
            if zygote is None or not zygote.alive:
                if zygote is not None:
                    await zygote.aclose()
                zygote = self._beside[order] = await self._started(order)
        return zygote

    def keep(self, program: KeptProgram, /) -> KeptProcess:
        """See `Keeps`."""
        if self.level == L2:
            raise SandboxError(
                f"A process is kept at level L3 or above; this is L2 ({self._why or 'as asked'})."
            )
        if not self._zygotes:
            raise SandboxError("A process cannot be kept in a sandbox that was closed.")
        holds: dict[str, Json] = {"level": self.level}
        if self._groups is not None:
            holds |= self._groups.holds
        return self._keeping.keep(program, holds)

    async def aclose(self) -> None:
        """See `Sandbox`."""
        await self._keeping.aclose()
        while self._zygotes:
            await self._zygotes.pop().aclose()
        while self._beside:
            await self._beside.popitem()[1].aclose()
