"""The bench: one execution per question, none when the record knows, a second try when refused."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import StoredRunError
from scillm.records import Limits
from scillm.runs.record import BLOBS, FolderRecord, MemoryRecord, RecordDiffersError
from scillm.search import Sweep
from scillm_codeworld.engine.bench import CASE, TIMING, Bench
from scillm_codeworld.engine.itemrun import ItemRun
from scillm_codeworld.engine.slots import Slots
from scillm_codeworld.items import parse_items
from scillm_codeworld.judge.score import judged
from scillm_codeworld.options import parse_options
from scillm_codeworld.record.results import item_result
from scillm_codeworld.records import OK, SANDBOX_REFUSED, Execution, Program

PROGRAM = Program(code="def solve(x): return x")
LIMITS = Limits(time_s=1.0)


class Counting:
    """Answers with the input, and counts. The first `refuse` runs are refused."""

    def __init__(self, *, refuse=0):
        self.runs = 0
        self.refuse = refuse

    async def __call__(self, program, value, limits):
        self.runs += 1
        await anyio.lowlevel.checkpoint()
        if self.runs <= self.refuse:
            return Execution(status=SANDBOX_REFUSED, reason="no room")
        return Execution(status=OK, output=value, wall_s=0.5, isolation={"level": "L3"})


def bench_of(run, record=None):
    return Bench(run, MemoryRecord() if record is None else record, Slots(2), item="i")


@given(st.lists(st.integers(0, 3), max_size=12))
def test_a_question_costs_one_execution_however_many_ask_it_at_once(values):
    """Who asks while it is being answered waits for that answer."""
    run = Counting()

    async def main():
        bench = bench_of(run)
        found = {}

        async def one(place, value):
            found[place] = (await bench.ask(PROGRAM, value, LIMITS, purpose=CASE)).output

        async with anyio.create_task_group() as group:
            for place, value in enumerate(values):
                group.start_soon(one, place, value)
        return found

    found = anyio.run(main)

    assert run.runs == len(set(values))
    assert found == dict(enumerate(values))


def test_repeats_and_purposes_are_questions_of_their_own():
    """A timing repeat is not answered with the first run."""
    run = Counting()

    async def main():
        bench = bench_of(run)
        await bench.ask(PROGRAM, 1, LIMITS, purpose=CASE)
        for repeat in (0, 1, 1):
            await bench.ask(PROGRAM, 1, LIMITS, purpose=TIMING, repeat=repeat)
        await bench.ask(PROGRAM, 1, Limits(time_s=2.0), purpose=CASE)

    anyio.run(main)

    assert run.runs == 4


def test_who_asked_first_may_be_cancelled():
    """Another who waits for the same answer then asks himself."""
    run = Counting()

    async def main():
        bench = bench_of(run)
        found = []
        scope = anyio.CancelScope()

        async def first():
            with scope:
                await bench.ask(PROGRAM, 1, LIMITS, purpose=CASE)

        async def second():
            found.append((await bench.ask(PROGRAM, 1, LIMITS, purpose=CASE)).output)

        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await anyio.lowlevel.checkpoint()
            group.start_soon(second)
            await anyio.lowlevel.checkpoint()
            scope.cancel()
        return found

    assert anyio.run(main) == [1]


def test_a_refusal_is_tried_again_once():
    """It is ours and not the program's; after the second it is told."""

    async def main(refuse):
        found = await bench_of(Counting(refuse=refuse)).ask(PROGRAM, 1, LIMITS, purpose=CASE)
        return found.status

    assert anyio.run(main, 1) == OK
    assert anyio.run(main, 2) == SANDBOX_REFUSED


def test_a_lost_answer_is_asked_again_but_never_when_verifying(tmp_path):
    """A power cut may take the answer and leave its row; a sealed record then says so."""
    run = Counting()

    async def ask(record):
        with record:
            return (await bench_of(run, record).ask(PROGRAM, [1], LIMITS, purpose=CASE)).output

    assert anyio.run(ask, FolderRecord(tmp_path)) == [1]
    assert anyio.run(ask, FolderRecord(tmp_path)) == [1]
    assert run.runs == 1
    (tmp_path / "record.jsonl").touch()
    for path in (tmp_path / BLOBS).rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(StoredRunError, match="is missing"):
        anyio.run(ask, FolderRecord(tmp_path, sealed=True))
    assert anyio.run(ask, FolderRecord(tmp_path)) == [1]
    assert run.runs == 2


def test_a_sealed_record_executes_nothing(tmp_path):
    """A question it has no answer to ends the walk."""
    FolderRecord(tmp_path).close()
    run = Counting()

    async def main():
        with FolderRecord(tmp_path, sealed=True) as record:
            await bench_of(run, record).ask(PROGRAM, 1, LIMITS, purpose=CASE)

    with pytest.raises(RecordDiffersError, match="has no answer to a case question"):
        anyio.run(main)
    assert run.runs == 0


def test_where_everything_is_refused_nothing_is_called_wrong():
    """The search ends after one round, withdrawn; the item failed, its programs have no score."""
    given_item = {
        "task": "t",
        "context": {"code_variants": {"a": "x", "b": "y"}, "inputs": [1, 2], "expected": [1, 2]},
    }
    (item,) = parse_items([given_item])
    run, rows = Counting(refuse=10**6), []

    async def main():
        work = ItemRun(
            item,
            parse_options({"repeats": 0, "width": 1}),
            seed=1,
            bench=bench_of(run),
            commit=rows.append,
            emit=lambda event: None,
            find=lambda name: Sweep,
        )
        with anyio.fail_after(30):
            return await work.run()

    found = anyio.run(main)
    result = item_result(
        item, judged(item, list(found.traces.values())), found.traces, search=found.search
    )

    assert (result["status"], result["best"]) == (SANDBOX_REFUSED, None)
    assert "no variant could be run: case 1 of 2: no room" in result["reason"]
    assert {row["scores"]["correctness"] for row in result["variants"]} == {None}
    assert found.search["stopped"] == "withdrawn"
    assert all(row["withdrawn"] for row in rows if row["kind"] == "trial")
