"""Places for processes, and one record for items that run side by side."""

from __future__ import annotations

import random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.runs.record import MemoryRecord
from scillm_codeworld.engine.slots import Slots
from scillm_codeworld.record.lanes import Lanes


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(
    count=st.integers(1, 4),
    work=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=20),
)
def test_who_is_alone_is_alone_and_nobody_waits_for_ever(backend, count, work):
    """Never more than `count` at once, and never anybody beside a timing run."""
    inside = {"others": 0, "alone": 0}
    seen = []

    async def one(slots, alone, turns):
        async with slots.alone() if alone else slots.one():
            inside["alone" if alone else "others"] += 1
            seen.append(dict(inside))
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            inside["alone" if alone else "others"] -= 1

    async def main():
        slots = Slots(count)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for alone, turns in work:
                    group.start_soon(one, slots, alone, turns)

    anyio.run(main, backend=backend)

    assert len(seen) == len(work)
    assert all(now["others"] <= count for now in seen)
    assert all(now["alone"] <= 1 and not (now["alone"] and now["others"]) for now in seen)


def test_a_place_is_given_back_when_its_holder_is_cancelled():
    """Also while waiting: nobody is locked out afterwards."""

    async def main():
        slots = Slots(2)
        for place in (slots.one, slots.alone):
            async with slots.one():
                with anyio.move_on_after(0.01):
                    async with slots.alone():
                        raise AssertionError("nobody can be alone here")
            with anyio.move_on_after(0.01):
                async with place():
                    await anyio.sleep_forever()
        with anyio.fail_after(5):
            async with slots.alone():
                return True

    assert anyio.run(main)


def test_who_gave_way_goes_on_when_the_other_gives_up():
    """A timing run that is cancelled while it waits holds up nobody who waited for it."""

    async def main():
        slots = Slots(2)
        went_on = anyio.Event()
        gives_up = anyio.CancelScope()

        async def solitary():
            with gives_up:
                async with slots.alone():
                    raise AssertionError("nobody can be alone here")

        async def newcomer():
            async with slots.one():
                went_on.set()

        async with slots.one(), anyio.create_task_group() as group:
            group.start_soon(solitary)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(newcomer)
            await anyio.wait_all_tasks_blocked()
            gave_way = not went_on.is_set()
            gives_up.cancel()
            with anyio.fail_after(5):
                await went_on.wait()
        return gave_way

    assert anyio.run(main)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_rows_stand_in_item_order_however_the_items_interleave(sizes, luck):
    """The record is that of items done one after the other."""
    record = MemoryRecord()
    lanes = Lanes(record, len(sizes))
    left = {lane: [{"lane": lane, "row": row} for row in range(size)] for lane, size in
            enumerate(sizes)}  # fmt: skip
    wanted = [row for lane in left for row in left[lane]]
    order = random.Random(luck.random())
    while left:
        lane = order.choice(list(left))
        if left[lane]:
            lanes.commit(lane, left[lane].pop(0))
        else:
            del left[lane]
            lanes.end(lane)

    assert record.rows == wanted
