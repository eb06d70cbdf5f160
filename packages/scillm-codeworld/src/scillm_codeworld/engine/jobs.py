"""The engine: items side by side, each searched, timed and judged; one record for all of them."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import evolve
from scillm.errors import ScillmError, UsageError
from scillm.events import Event, ItemFinished
from scillm.fanout import each
from scillm.records import JobResult
from scillm.runs.record import MemoryRecord

from scillm_codeworld.engine.beginning import POLICY, check_interpreter, opening
from scillm_codeworld.engine.oneitem import Done, Work, done_with
from scillm_codeworld.engine.slots import Slots
from scillm_codeworld.generate.asking import asker
from scillm_codeworld.generate.contract import Place
from scillm_codeworld.generate.writer import Writer
from scillm_codeworld.items import parse_items, storable
from scillm_codeworld.options import parse_options
from scillm_codeworld.record.lanes import Lanes
from scillm_codeworld.record.results import summary
from scillm_codeworld.records import ENGINE, BadItem
from scillm_codeworld.sandbox import open_sandbox

if TYPE_CHECKING:
    from scillm.records import Job, Json
    from scillm.runs.record import Record
    from scillm.search.solve import Proposer

    from scillm_codeworld.engine.bench import Run
    from scillm_codeworld.engine.choosing import Find
    from scillm_codeworld.engine.making import Make
    from scillm_codeworld.judge.comparing import Ask
    from scillm_codeworld.options import Options
    from scillm_codeworld.records import Item

Told: TypeAlias = "Callable[[Mapping[str, Json]], None]"


def _silent(_event: Event) -> None:
    return


def _unheard(_result: Mapping[str, Json]) -> None:
    return


def installed_strategy(name: str) -> Callable[..., object]:
    """The strategy an installed distribution offers under `name`."""
    from scillm.plugins.groups import STRATEGIES
    from scillm.plugins.registry import Registry

    found: Callable[..., object] = Registry().get(STRATEGIES, name)
    return found


class CodeWorldEngine:
    """Runs jobs of the engine `codeworld`. Remembers whom to tell, and whom to ask.

    `find` names strategies, `ask` asks a model for the judge, `make` makes new programs for a
    strategy that grows its arms. `generator` is the Router or Provider that is asked where a job
    wants programs written by a model; without one it is the Router of `scillm.acompletion`.
    """

    def __init__(
        self,
        *,
        emit: Callable[[Event], None] = _silent,
        find: Find = installed_strategy,
        ask: Ask | None = None,
        generator: Proposer | None = None,
        make: Make | None = None,
    ) -> None:
        self._emit = emit
        self._find = find
        self._ask = ask
        self._generator = generator
        self._write = asker(generator)
        self._make = make

    async def run(self, job: Job, /) -> JobResult:
        """Work on every item; a malformed one is reported as invalid, the others are run.

        Raises `UsageError` for another engine's job, unknown options or strategy, or no items at
        all, and `SandboxError` when code cannot be isolated as required.
        """
        return await self.run_recorded(job, MemoryRecord())

    async def run_recorded(self, job: Job, record: Record, /) -> JobResult:
        """As `run`; what `record` already answers is not executed again."""
        return await self._worked(job, record, _unheard)

    @asynccontextmanager
    async def results(
        self, job: Job, *, record: Record | None = None
    ) -> AsyncIterator[AsyncIterator[Mapping[str, Json]]]:
        """Open the results of `job`, each as soon as its item is done; leaving cancels the rest.

        What `run` would raise is raised when the block ends.
        """
        send, receive = anyio.create_memory_object_stream[Mapping[str, "Json"]](len(job.items))

        failures: list[ScillmError] = []

        async def work() -> None:
            with send:
                try:
                    await self._worked(
                        job, MemoryRecord() if record is None else record, send.send_nowait
                    )
                except ScillmError as error:  # raised below, bare instead of in a group
                    failures.append(error)

        async with anyio.create_task_group() as group, receive:
            group.start_soon(work)
            yield receive
            group.cancel_scope.cancel()
        if failures:
            raise failures[0]

    async def _worked(self, job: Job, record: Record, told: Told) -> JobResult:
        if job.engine != ENGINE:
            raise UsageError(f"This engine runs jobs of {ENGINE!r}, but this is of {job.engine!r}.")
        options = parse_options(job.options)
        if not job.items:
            raise UsageError("The job has no items; give at least one.")
        if self._generator is not None and options.wish is not None and options.wish.api_base:
            raise UsageError(
                "A generator was given, which knows its own address, and autogenerate.api_base as "
                "well; give one."
            )
        job = evolve(job, items=[storable(item) for item in job.items])
        self._find(options.strategy)
        items = parse_items(
            job.items,
            languages=options.allowed_languages,
            generated=options.wish is not None,
        )
        if record.sealed:
            return await self._walk(job, items, options, record, told, run=_nothing)
        # A run that goes on does so at the level it began with, or not at all.
        policy = record.known(POLICY) or {}
        begun = policy.get("level")
        async with open_sandbox(
            require=begun or options.isolation,
            prefer=begun,
            languages=tuple(options.allowed_languages),
            preload=tuple(options.allowed_modules),
        ) as sandbox:
            if begun is not None:
                check_interpreter(policy, sandbox.report())
            else:
                record.keep(POLICY, {**sandbox.report(), "level": sandbox.level})
            return await self._walk(
                job, items, options, record, told, run=sandbox.run, level=sandbox.level
            )

    async def _walk(
        self,
        job: Job,
        items: list[Item | BadItem],
        options: Options,
        record: Record,
        told: Told,
        *,
        run: Run,
        level: str | None = None,
    ) -> JobResult:
        policy = record.known(POLICY) or {}
        level = level or str(policy.get("level"))
        place = Place(limits=options.limits, level=level, modules=options.allowed_modules)
        record.commit(opening(job, options, level))
        work = Work(
            options=options,
            seed=job.seed,
            record=record,
            lanes=Lanes(record, len(items)),
            slots=Slots(options.workers),
            run=run,
            writer=None
            if options.wish is None
            else Writer(options.wish, self._write, place, seed=job.seed),
            emit=self._emit,
            find=self._find,
            ask=self._ask,
            make=self._make,
        )
        done = 0

        async def one(item: Item | BadItem) -> Done:
            nonlocal done
            found = await done_with(item, work)
            work.lanes.end(item.index)
            done += 1
            told(found.result)
            self._emit(ItemFinished(engine=ENGINE, item_id=item.id, done=done, total=len(items)))
            return found

        found = await each(one, items, limit=options.workers)
        results = [row.result for row in found]
        return JobResult(
            summary=summary(results),
            results=results,
            findings=[finding for row in found for finding in row.findings],
            environment={
                "isolation": {"asked": options.isolation, **policy},
                "python": platform.python_version(),
                "options": options.to_dict(),
            },
        )


async def _nothing(*_asked: object) -> Json:
    raise AssertionError("a sealed record is asked before anything is run, and refuses")
