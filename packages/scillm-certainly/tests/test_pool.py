"""Many callers, few Leans: who waits, who is refused, what is answered from memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from scillm_certainly.backends.records import Backend
from scillm_certainly.errors import QueueFullError
from scillm_certainly.pool.memory import Memory, is_lasting
from scillm_certainly.pool.pool import Pool, Size
from scillm_certainly.records import CheckRequest, Policy, ProofVerdict

if TYPE_CHECKING:
    from scillm_certainly.pool.resident import Resident

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    name: str = request.param
    return name


def verdict(status: str = "proved", limit: str = "") -> ProofVerdict:
    return ProofVerdict(id="x", status=status, limit=limit)


async def test_the_same_question_is_worked_on_once() -> None:
    """Twenty callers who ask the same at the same time cost one check."""
    memory, calls = Memory(entries=10), 0

    async def work() -> ProofVerdict:
        nonlocal calls
        calls += 1
        await anyio.sleep(0.01)
        return verdict()

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(memory.through, "key", work)

    assert calls == 1
    assert memory.hits == 19


async def test_a_failed_flight_is_taken_over() -> None:
    """When the one who works is cancelled, one of those who wait does the work."""
    memory, calls = Memory(entries=10), 0

    async def work() -> ProofVerdict:
        nonlocal calls
        calls += 1
        await anyio.sleep(60 if calls == 1 else 0)
        return verdict()

    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def first() -> None:
            with scope:
                await memory.through("key", work)

        group.start_soon(first)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(memory.through, "key", work)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()

    assert calls == 2
    assert len(memory) == 1


@pytest.mark.parametrize(
    ("found", "lasting"),
    [
        (verdict(), True),
        (verdict("rejected"), True),
        (verdict("inconclusive", "library_body_hidden"), True),
        (verdict("inconclusive", "timeout"), False),
        (verdict("inconclusive", "died"), False),
        (verdict("unavailable", "busy"), False),
    ],
)
async def test_only_what_will_be_the_same_is_kept(found: ProofVerdict, lasting: bool) -> None:
    """What tells about a moment, a timeout or a full queue, is asked again next time."""
    memory = Memory(entries=10)

    async def work() -> ProofVerdict:
        return found

    await memory.through("key", work)
    _, cached = await memory.through("key", work)

    assert is_lasting(found) == lasting
    assert cached == lasting


async def test_memory_is_bounded() -> None:
    """The verdicts used longest ago are dropped."""
    memory = Memory(entries=2)

    async def work() -> ProofVerdict:
        return verdict()

    for key in "abab" + "c" + "b":
        await memory.through(key, work)

    assert len(memory) == 2
    assert (await memory.through("b", work))[1]
    assert not (await memory.through("a", work))[1]


SILENT = Backend(name="silent", command=["sleep", "60"], environment={"PATH": "/usr/bin:/bin"})
GONE = Backend(name="gone", command=["/no/such/lean"], environment={})


async def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    """More than the stated number never wait; the one too many is told when to try again."""
    async with Pool(SILENT, Size(workers=1, spare=False, queue=2)) as pool:
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(pool.check, CheckRequest(code=f"-- {number}\nx"))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(QueueFullError) as caught:
                await pool.check(CheckRequest(code="y"))
            group.cancel_scope.cancel()
        assert pool.stats()["waiting"] == 0

    assert caught.value.retry_after > 0


async def test_a_lean_that_does_not_start_is_unavailable() -> None:
    """A program that is not there is never taken for a verdict about the code."""
    async with Pool(GONE, Size(workers=1, spare=False)) as pool:
        found = await pool.check(CheckRequest(code="theorem t : True := trivial"))

    assert found.status == "unavailable"
    assert "/no/such/lean" in found.reason


async def test_many_callers_of_several_loops_share_one_lean(lean: Resident) -> None:
    """Thirty checks at once, from any event loop, each get their own answer; repeats are free."""
    found: dict[str, ProofVerdict] = {}
    started = (await lean.stats())["started"]

    async def one(number: int) -> None:
        right = number % 2 == 0
        code = (
            f"theorem t (n : Nat) : n + {number // 2} = n + {number // 2 if right else 99} := rfl"
        )
        found[str(number)] = await lean.check(CheckRequest(id=str(number), code=code))

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(one, number)
    again = await lean.check(
        CheckRequest(id="again", code="theorem t (n : Nat) : n + 1 = n + 1 := rfl")
    )
    stats = await lean.stats()

    assert {found[str(number)].status for number in range(0, 30, 2)} == {"proved"}
    assert {found[str(number)].status for number in range(1, 30, 2)} == {"rejected"}
    assert all(key == row.id for key, row in found.items())
    assert again.cached
    assert again.id == "again"
    assert stats["started"] - started <= 1


@pytest.mark.deep
async def test_a_caller_who_leaves_does_not_spoil_the_pool(lean: Resident) -> None:
    """A cancelled check ends at once, and the next one is answered."""
    slow = "theorem t (a b c d : Nat) (h : a * b = c) (g : c = d) : a * b = d := by grind -- left"
    with anyio.move_on_after(0.001):
        await lean.check(CheckRequest(code=slow))
    found = await lean.check(CheckRequest(code="theorem t : 3 = 3 := rfl -- after"))

    assert found.proved


@pytest.mark.parametrize(
    "policy", [Policy(heartbeats=0), Policy(time_s=-1.0), Policy(axioms=("no name",))]
)
async def test_a_policy_that_cannot_be_kept_is_refused(lean: Resident, policy: Policy) -> None:
    """Negative limits and names that are none are errors of the call."""
    from scillm.errors import UsageError

    with pytest.raises(UsageError):
        await lean.check(CheckRequest(code="theorem t : True := trivial", policy=policy))


@pytest.mark.deep
async def test_warm_workers_that_are_not_asked_do_nothing(embedded: Backend) -> None:
    """While nothing is asked, neither Lean uses processor time."""
    async with Pool(embedded, Size(workers=1, spare=False)) as pool:
        await pool.check(CheckRequest(code="theorem t : True := trivial"))
        pids = [worker.process.pid for worker in (*pool._idle, *pool._judges)]
        await anyio.sleep(2)
        before = [cpu_s(pid) for pid in pids]
        await anyio.sleep(3)
        used_s = [cpu_s(pid) - start for pid, start in zip(pids, before, strict=True)]

    assert len(pids) == 2
    assert max(used_s) <= 0.06


def cpu_s(pid: int) -> float:
    """Processor time of a process and its children, from /proc (proc(5), fields 14 and 15)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    total = 0.0
    for number in (str(pid), *children):
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total
