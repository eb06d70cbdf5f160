"""Running one program on an item's cases: in order up to the first failure, or all side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from scillm.fanout import each
from scillm.runs.canonical import digest

from scillm_codeworld.engine.asking import fault_of
from scillm_codeworld.engine.bench import CASE, TIMING
from scillm_codeworld.records import NOT_RUN, OK, Execution, Item, Program, Variant

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codeworld.engine.bench import Bench
    from scillm_codeworld.options import Options

SKIPPED = Execution(status=NOT_RUN, reason="an earlier case did not end ok")


@frozen(kw_only=True)
class Tried:
    """One case of one program: what it did, and why that is not right, or None."""

    case: int
    run: Execution
    fault: str | None

    def row(self) -> list[Json]:
        """As the record keeps it: case, status, digest of the answer, whether right, any fuel."""
        told = digest(self.run.output) if self.run.status == OK else None
        fuel = [] if self.run.fuel is None else [self.run.fuel]
        return [self.case, self.run.status, told, self.fault is None, *fuel]


def program_of(item: Item, variant: Variant) -> Program:
    """What goes into the sandbox: the code, and nothing else of the item but the entry's name."""
    return Program(code=variant.code, entry=item.entry, language=variant.language)


async def tried(
    bench: Bench, item: Item, variant: Variant, cases: Sequence[int], options: Options
) -> list[Tried]:
    """The first run of each of `cases`; those after a failure are not run if `fail_fast`."""
    program = program_of(item, variant)

    async def one(case: int) -> Tried:
        value = item.inputs[case]
        run = await bench.ask(program, value, options.limits, purpose=CASE)
        fault = await fault_of(bench, item, run, value, case, options.limits)
        return Tried(case=case, run=run, fault=fault)

    if not options.fail_fast:
        return await each(one, cases, limit=options.workers)
    found: list[Tried] = []
    for case in cases:
        if found and found[-1].run.status != OK:
            fault = f"{NOT_RUN}: {SKIPPED.reason}"
            found += [Tried(case=later, run=SKIPPED, fault=fault) for later in cases[len(found) :]]
            break
        found.append(await one(case))
    return found


async def timed(
    bench: Bench,
    item: Item,
    variant: Variant,
    options: Options,
    *,
    repeat: int,
    purpose: str = TIMING,
) -> list[Tried]:
    """One more run of every case, each with the machine to itself."""
    program = program_of(item, variant)
    found = []
    for case, value in enumerate(item.inputs):
        run = await bench.ask(program, value, options.limits, purpose=purpose, repeat=repeat)
        fault = await fault_of(bench, item, run, value, case, options.limits)
        found.append(Tried(case=case, run=run, fault=fault))
    return found


async def beside(
    bench: Bench, item: Item, variant: Variant, values: Sequence[Json], options: Options
) -> list[Execution]:
    """One run on each of `values`, whatever the others did: report cases and odd inputs."""
    program = program_of(item, variant)

    async def one(value: Json) -> Execution:
        return await bench.ask(program, value, options.limits, purpose=CASE)

    return await each(one, values, limit=options.workers)
