"""One item of a job from what was given to its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm_codeworld.engine.bench import Bench
from scillm_codeworld.engine.itemrun import ItemRun
from scillm_codeworld.judge.comparing import compared
from scillm_codeworld.record.results import (
    bad_finding,
    bad_result,
    findings,
    item_result,
    nothing_written,
)
from scillm_codeworld.records import BadItem

if TYPE_CHECKING:
    from scillm.events import Event
    from scillm.records import Finding, Json
    from scillm.runs.record import Record

    from scillm_codeworld.engine.bench import Run
    from scillm_codeworld.engine.choosing import Find
    from scillm_codeworld.engine.making import Make
    from scillm_codeworld.engine.slots import Slots
    from scillm_codeworld.generate.writer import Writer
    from scillm_codeworld.judge.comparing import Ask
    from scillm_codeworld.options import Options
    from scillm_codeworld.record.lanes import Lanes
    from scillm_codeworld.records import Item


@frozen(kw_only=True)
class Work:
    """What all items of one job share."""

    options: Options
    seed: int
    record: Record
    lanes: Lanes
    slots: Slots
    run: Run
    writer: Writer | None
    emit: Callable[[Event], None]
    find: Find
    ask: Ask | None
    make: Make | None


@frozen(kw_only=True)
class Done:
    """One item's result, and what a replay must find again."""

    result: Mapping[str, Json]
    findings: list[Finding] = field(factory=list)


async def done_with(item: Item | BadItem, work: Work) -> Done:
    """Written where that is wished, searched, timed, judged; a malformed item is told as such."""

    def commit(row: Mapping[str, Json]) -> None:
        work.lanes.commit(item.index, row)

    if isinstance(item, BadItem):
        commit({"kind": "invalid", "item": item.id, "reason": item.reason})
        return Done(result=bad_result(item), findings=[bad_finding(item)])
    bench = Bench(work.run, work.record, work.slots, item=item.id)
    account: Mapping[str, Json] | None = None
    make, writer = work.make, work.writer
    if writer is not None:
        written = await writer.write(item, bench)
        commit({"kind": "generated", "item": item.id, **written.detail})
        item, account = written.item, written.account
        if writer.wish.refine and make is None:
            make = writer.make
    if not item.variants and make is None:
        result, row = nothing_written(item, account)
        return Done(result=result, findings=[row])
    found = await ItemRun(
        item,
        work.options,
        seed=work.seed,
        bench=bench,
        commit=commit,
        emit=work.emit,
        find=work.find,
        make=make,
    ).run()
    rows, opinion = await compared(
        item, list(found.traces.values()), work.options.rule, record=work.record, ask=work.ask
    )
    commit({"kind": "done", "item": item.id, "best": found.search["best"]})
    return Done(
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
