"""Code that wants out, or wants everything: only its own request fails, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from scillm import portal
from scillm_certainly.backends.process import Process
from scillm_certainly.pool.pool import Pool, Size
from scillm_certainly.records import CheckRequest, Policy, ProofVerdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scillm_certainly.backends.records import Backend
    from scillm_certainly.pool.resident import Resident

ENDLESS = "partial def f (n : Nat) : Nat := f (n + 1)\n#eval f 0"
SECRET = "certainly-hostile-probe"
HARMLESS = {
    "read a host file": '#eval do IO.println (← IO.FS.readFile "/etc/passwd")',
    "read through the library": "#eval do IO.println "
    '(← IO.FS.readFile "/lean/lib/../../etc/passwd")',
    "write to the host": f'#eval IO.FS.writeFile "/tmp/{SECRET}" "x"',
    "write through the library": f'#eval IO.FS.writeFile "/lean/lib/../../tmp/{SECRET}" "x"',
    "write the library": '#eval IO.FS.writeFile "/lean/lib/lean/Init.olean" "x"',
    "write the runtime": '#eval IO.FS.writeFile "/lean/bin/lean.js" "x"',
    "make a folder": f'#eval IO.FS.createDir "/tmp/{SECRET}"',
    "remove the library": '#eval IO.FS.removeFile "/lean/lib/lean/Init.olean"',
    "start a process": '#eval IO.Process.output {cmd := "id"}',
    "change the folder": '#eval IO.Process.setCurrentDir "/tmp"',
}
DEADLY = {
    "deep kernel recursion": "set_option maxRecDepth 10000000 in\n"
    "example : (List.replicate 200000 1).length = 200000 := by decide",
    "deep recursion": "def f : Nat → Nat | 0 => 0 | n+1 => f n + 1\n#eval f 100000000",
    "ending the process": "#eval (IO.Process.exit 0 : IO Unit)",
    "memory in a list": "partial def grow (a : List Nat) : Nat := grow (1 :: a)\n#eval grow []",
    "memory in a number": "partial def g (a : Nat) : Nat := g (a * a * a * a)\n#eval g 123456789",
    "a flood of output": "partial def go (h : IO.FS.Handle) : IO Unit := do\n"
    f'  h.putStr "{"a" * 200}"\n  go h\n'
    '#eval do go (← IO.FS.Handle.mk "/dev/stdout" .write)',
    "eating the next question": "#eval do\n"
    '  let h ← IO.FS.Handle.mk "/dev/stdin" .read\n  let l ← h.getLine\n  IO.println l',
}


@pytest.fixture(scope="module")
def pool(embedded: Backend) -> Iterator[Pool]:
    """A pool of one worker and a spare, on the background loop."""

    async def made() -> Pool:
        pool = Pool(embedded, Size(workers=1, spare=True))
        await pool.warm_up()
        return pool

    pool = portal.call(made)
    yield pool
    portal.call(closed, pool)


async def closed(pool: Pool) -> None:
    pool.close()


def ask(pool: Pool | Resident, code: str, time_s: float = 60.0) -> ProofVerdict:
    return portal.call(pool.check, CheckRequest(code=code, policy=Policy(time_s=time_s)))


def sound(pool: Pool | Resident, mark: object) -> bool:
    """Whether the pool still tells true from false; `mark` keeps the answer out of the cache."""
    good = ask(pool, f"theorem t : 1 + 1 = 2 := rfl -- {mark}")
    bad = ask(pool, f"theorem t : 1 + 1 = 3 := rfl -- {mark}")
    return (good.status, bad.status) == ("proved", "rejected")


def test_the_host_is_out_of_reach(lean: Resident) -> None:
    """No file of the host is read or written and no process is started; the next one is served."""
    lines = [code.splitlines() for code in HARMLESS.values()]
    verdict = ask(lean, "\n".join(line for code in lines for line in code))
    failed = {row.start.line for row in verdict.diagnostics if row.severity == "error"}

    assert not verdict.proved
    assert {len(code) for code in lines} == {1}
    assert failed == set(range(1, len(lines) + 1))
    assert not Path(f"/tmp/{SECRET}").exists()
    assert sound(lean, "after the host")


def test_a_worker_has_no_network(lean: Resident) -> None:
    """The process that runs checked code was taken out of the host's network and processes."""
    verdict = ask(lean, "theorem t : True := trivial")

    assert verdict.lean is not None
    if os.geteuid() == 0:
        assert verdict.lean.confinement["network"] == "none"
        assert verdict.lean.confinement["processes"] == "own namespace"
    assert verdict.lean.confinement["no_new_privileges"] is True


def test_an_endless_program_ends_at_its_deadline(lean: Resident) -> None:
    """It is killed in time, says so, and the next one is answered by another Lean."""
    assert sound(lean, "before endless")
    started = time.monotonic()
    verdict = ask(lean, ENDLESS, time_s=1.0)
    took_s = time.monotonic() - started

    assert (verdict.status, verdict.limit) == ("inconclusive", "timeout")
    assert 1.0 <= took_s < 5.0
    assert sound(lean, "after endless")


@pytest.mark.deep
def test_the_spare_stands_in(pool: Pool) -> None:
    """With a spare that is warm, the next check after a kill does not wait for a start."""
    assert sound(pool, "before the spare")
    assert pool._spare is not None
    portal.call(pool._spare.ready)
    ask(pool, ENDLESS + "\n-- spare", time_s=1.0)
    started = time.monotonic()
    assert sound(pool, "by the spare")

    assert time.monotonic() - started < 2.0


@pytest.mark.deep
def test_a_worker_killed_at_work_fails_only_its_check(pool: Pool) -> None:
    """Whoever kills a worker spoils one answer, which says that it died."""

    async def killed() -> ProofVerdict:
        found: list[ProofVerdict] = []

        async def one() -> None:
            request = CheckRequest(code=ENDLESS + "\n-- killed", policy=Policy(time_s=60))
            found.append(await pool.check(request))

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            with anyio.fail_after(60):
                while not pool._busy:  # noqa: ASYNC110 - a test must not change what it watches
                    await anyio.sleep(0.05)
            await anyio.sleep(0.3)
            (worker,) = pool._busy
            os.killpg(worker.process.pid, signal.SIGKILL)
        return found[0]

    verdict = portal.call(killed)

    assert (verdict.status, verdict.limit) == ("inconclusive", "died")
    assert sound(pool, "after a kill")


@pytest.mark.deep
@pytest.mark.parametrize("code", DEADLY.values(), ids=DEADLY.keys())
def test_only_the_hostile_request_fails(pool: Pool, code: str) -> None:
    """Memory, recursion, floods and exits end one check; the next is answered rightly."""
    verdict = ask(pool, code, time_s=15.0)

    assert verdict.status == "inconclusive"
    assert verdict.limit in ("timeout", "died", "no_theorem")
    assert sound(pool, code.replace("\n", " "))


ORPHAN = """
import sys, time, pickle
from pathlib import Path
from scillm_certainly.backends.process import Process, _children
backend = pickle.loads(bytes.fromhex(sys.argv[1]))
process = Process(backend.command, backend.environment)
deadline = time.monotonic() + 30
while not _children(process.pid) and time.monotonic() < deadline:
    time.sleep(0.02)
print(process.pid, *_children(process.pid), flush=True)
time.sleep(600)
"""


def test_workers_die_with_their_parent(embedded: Backend) -> None:
    """After `kill -9` of the program that uses Lean, no Lean is left."""
    import pickle

    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, pickle.dumps(embedded).hex()],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
    finally:
        parent.kill()
        parent.wait(30)
        parent.stdout.close()  # type: ignore[union-attr]

    assert pids
    assert gone(pids, within_s=10.0)


def test_closing_ends_every_process(embedded: Backend) -> None:
    """A process that is ended takes what it started with it; a second end does nothing."""
    process = Process(embedded.command, embedded.environment)
    process.kill()
    process.kill()

    assert not process.alive
    assert gone([process.pid], within_s=10.0)


def gone(pids: list[int], *, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(running(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return state.rpartition(") ")[2][0] not in "ZX"
