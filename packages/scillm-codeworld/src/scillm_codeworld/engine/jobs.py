"""The engine: items side by side, each searched, timed and judged; one record for all of them."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import metadata
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import evolve, field, frozen
from scillm.errors import ScillmError, StoredRunError, UsageError
from scillm.events import Event, ItemFinished
from scillm.fanout import each
from scillm.records import JobResult
from scillm.runs.canonical import digest
from scillm.runs.record import MemoryRecord

from scillm_codeworld.engine.bench import Bench
from scillm_codeworld.engine.itemrun import ItemRun
from scillm_codeworld.engine.slots import Slots
from scillm_codeworld.generate.asking import ask_model
from scillm_codeworld.generate.writer import Writer
from scillm_codeworld.items import parse_items, storable
from scillm_codeworld.judge.comparing import compared
from scillm_codeworld.options import parse_options
from scillm_codeworld.record.lanes import Lanes
from scillm_codeworld.record.results import (
    bad_finding,
    bad_result,
    findings,
    item_result,
    nothing_written,
    summary,
)
from scillm_codeworld.records import ENGINE, BadItem
from scillm_codeworld.sandbox import open_sandbox

if TYPE_CHECKING:
    from scillm.records import Finding, Job, Json
    from scillm.runs.record import Record

    from scillm_codeworld.engine.bench import Run
    from scillm_codeworld.engine.choosing import Find
    from scillm_codeworld.engine.making import Make
    from scillm_codeworld.generate.asking import AskModel
    from scillm_codeworld.judge.comparing import Ask
    from scillm_codeworld.options import Options
    from scillm_codeworld.records import Item

SCHEMA = "codeworld.record/1"
POLICY = "codeworld/sandbox"
"""Key of the sandbox's report among what was measured."""
COMPONENT = "component"
"""Key of the interpreter's digest in the report of level wasm."""
NOT_HASHED = frozenset({"workers"})
"""Options that no outcome depends on."""
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


@frozen(kw_only=True)
class _Work:
    """What all items of one job share."""

    options: Options
    seed: int
    record: Record
    lanes: Lanes
    slots: Slots
    run: Run
    writer: Writer | None = None


@frozen(kw_only=True)
class _Done:
    """One item's result, and what a replay must find again."""

    result: Mapping[str, Json]
    findings: list[Finding] = field(factory=list)


class CodeWorldEngine:
    """Runs jobs of the engine `codeworld`. Remembers whom to tell, and whom to ask.

    `find` names strategies, `ask` asks a model for the judge, `write` asks one for programs where
    a job wants some generated, `make` makes new programs for a strategy that grows its arms.
    """

    def __init__(
        self,
        *,
        emit: Callable[[Event], None] = _silent,
        find: Find = installed_strategy,
        ask: Ask | None = None,
        write: AskModel = ask_model,
        make: Make | None = None,
    ) -> None:
        self._emit = emit
        self._find = find
        self._ask = ask
        self._write = write
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
        record.commit(_opening(job, options, level or str(policy.get("level"))))
        work = _Work(
            options=options,
            seed=job.seed,
            record=record,
            lanes=Lanes(record, len(items)),
            slots=Slots(options.workers),
            run=run,
            writer=None
            if options.wish is None
            else Writer(options.wish, self._write, options.limits, seed=job.seed),
        )
        done = 0

        async def one(item: Item | BadItem) -> _Done:
            nonlocal done
            found = await self._one(item, work)
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

    async def _one(self, item: Item | BadItem, work: _Work) -> _Done:
        def commit(row: Mapping[str, Json]) -> None:
            work.lanes.commit(item.index, row)

        if isinstance(item, BadItem):
            commit({"kind": "invalid", "item": item.id, "reason": item.reason})
            return _Done(result=bad_result(item), findings=[bad_finding(item)])
        bench = Bench(work.run, work.record, work.slots, item=item.id)
        account: Mapping[str, Json] | None = None
        make, writer = self._make, work.writer
        if writer is not None:
            written = await writer.write(item, bench)
            commit({"kind": "generated", "item": item.id, **written.detail})
            item, account = written.item, written.account
            if writer.wish.refine and make is None:
                make = writer.make
        if not item.variants and make is None:
            result, row = nothing_written(item, account)
            return _Done(result=result, findings=[row])
        found = await ItemRun(
            item,
            work.options,
            seed=work.seed,
            bench=bench,
            commit=commit,
            emit=self._emit,
            find=self._find,
            make=make,
        ).run()
        rows, opinion = await compared(
            item, list(found.traces.values()), work.options.rule, record=work.record, ask=self._ask
        )
        commit({"kind": "done", "item": item.id, "best": found.search["best"]})
        return _Done(
            result=item_result(
                item,
                rows,
                found.traces,
                search=found.search,
                opinion=opinion,
                generator=account,
            ),
            findings=findings(item, rows, found.traces),
        )


def check_interpreter(kept: Mapping[str, Json], now: Mapping[str, Json]) -> None:
    """`StoredRunError` when fuel was counted with another interpreter than the one here."""
    if kept.get(COMPONENT) != now.get(COMPONENT):
        raise StoredRunError(
            f"The run was begun at level wasm with the interpreter {kept.get(COMPONENT)}, but here "
            f"is {now.get(COMPONENT)}, whose fuel cannot be compared. Go on with the folder "
            "SCILLM_CODEWORLD_WASM_CACHE of then, or start a new run."
        )


def _opening(job: Job, options: Options, level: str) -> dict[str, Json]:
    """The first row: everything that the others follow from."""
    asked = {name: value for name, value in options.to_dict().items() if name not in NOT_HASHED}
    return {
        "kind": "run",
        "schema": SCHEMA,
        "engine": ENGINE,
        "items": digest(list(job.items)),
        "seed": job.seed,
        "options": asked,
        "isolation": {"asked": options.isolation, "level": level},
        "versions": {
            "python": platform.python_version(),
            "scillm-codeworld": metadata.version("scillm-codeworld"),
        },
    }


async def _nothing(*_asked: object) -> Json:
    raise AssertionError("a sealed record is asked before anything is run, and refuses")
