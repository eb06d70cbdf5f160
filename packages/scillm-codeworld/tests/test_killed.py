"""A run that is killed anywhere and resumed has the same record as one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import anyio
import pytest
from scillm.records import Job, evolve
from scillm.runs import recorded
from scillm.runs.record import MEASURED, ROWS, RecordDiffersError
from scillm.runs.store import RunStore
from scillm_codeworld.engine.jobs import CodeWorldEngine

WORK = """
import sys, anyio
from scillm.runs import recorded
from scillm.runs.store import RunStore
from scillm_codeworld.engine.jobs import CodeWorldEngine

store = RunStore(sys.argv[1])
manifest = anyio.run(recorded.resume, CodeWorldEngine(), store.begun(sys.argv[2]), store)
print(manifest.record["head"])
"""
PROGRAMS = {
    "sort": "def solve(x): return sorted(x)",
    "same sort": "def solve(x): return sorted(x)",
    "copy": "def solve(x):\n    y = list(x)\n    y.sort()\n    return y",
    "reverse": "def solve(x): return x[::-1]",
    "once": "def solve(x): return sorted(set(x))",
    "crash": "def solve(x): return [x[0]] + sorted(x[1:])",
    "slow": "def solve(x):\n    import time\n    time.sleep(0.05)\n    return sorted(x)",
    "half": "def solve(x): return sorted(x) if len(x) < 3 else x",
}
CASES = [[], [1], [2, 1], [3, 1, 2], [1, 1, 0], [5, 4, 3, 2, 1]]


def job_of(*, workers, strategy="ucb", items=3, seed=4):
    """Some sorting, searched case by case; one item is malformed."""
    item = {
        "task": "Sort the list.",
        "context": {
            "code_variants": PROGRAMS,
            "inputs": CASES,
            "expected": [sorted(case) for case in CASES],
            "report_inputs": [[9, 8]],
            "report_expected": [[8, 9]],
        },
    }
    return Job(
        engine="codeworld",
        items=[*({**item, "id": f"sort-{n}"} for n in range(items)), {"task": "no context"}],
        options={
            "strategy": strategy,
            "budget": {"rollouts": 30},
            "width": 4,
            "workers": workers,
            "repeats": 1,
        },
        seed=seed,
    )


def begun(store, job):
    """The id of a run of `job` that was begun and has done nothing yet."""
    run_id = f"run-{len(store.unfinished()) + len(store.ids())}"
    return store.begin(run_id, job, created="2026-01-01T00:00:00+00:00").run_id


def start(store, run_id):
    """A process of its own that works on the run."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WORK, str(store.root), run_id],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def killed_after(store, run_id, answers):
    """Work on the run and kill -9 the process once so many answers were kept."""
    working = start(store, run_id)
    path = store.root / run_id / MEASURED
    deadline = time.monotonic() + 60
    while working.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= answers:
            break
        time.sleep(0.002)
    os.kill(working.pid, signal.SIGKILL)
    working.communicate(timeout=60)
    return working.returncode


def finished(store, run_id):
    """Work on the run to its end; the head of its record."""
    out, complaint = start(store, run_id).communicate(timeout=120)
    assert out, complaint
    return out.strip()


def heads(tmp_path, *, runs, workers, step, **job):
    """The heads of `runs` runs, each killed at another place, for each number of workers."""
    found = []
    for count in workers:
        for number in range(runs):
            store = RunStore(tmp_path / f"{count}-{number}")
            run_id = begun(store, job_of(workers=count, **job))
            code = killed_after(store, run_id, 2 + number * step)
            assert code == -signal.SIGKILL
            assert store.ids() == []
            found.append(finished(store, run_id))
    return found


def test_a_killed_and_resumed_run_has_the_record_of_an_undisturbed_one(tmp_path):
    """Two numbers of workers, killed early and late: one hash, and that of a run never killed."""
    store = RunStore(tmp_path / "whole")
    whole = finished(store, begun(store, job_of(workers=2)))

    found = heads(tmp_path, runs=2, workers=(1, 8), step=40)

    assert set(found) == {whole}


@pytest.mark.deep
@pytest.mark.parametrize("strategy", ["sweep", "ucb", "mcts", "race", "halving"])
def test_ten_runs_by_one_two_and_eight_workers_killed_anywhere_have_one_hash(tmp_path, strategy):
    """Thirty runs, thirty kills -9 at thirty places: one journal."""
    found = heads(tmp_path, runs=10, workers=(1, 2, 8), step=7, strategy=strategy)

    assert len(found) == 30
    assert len(set(found)) == 1


def test_what_was_executed_before_the_kill_is_not_executed_again(tmp_path):
    """Resuming asks the record: no question stands in it twice."""
    store = RunStore(tmp_path)
    run_id = begun(store, job_of(workers=2))
    killed_after(store, run_id, 30)

    finished(store, run_id)

    lines = (store.root / run_id / MEASURED).read_text().splitlines()
    keys = [json.loads(line)["data"]["key"] for line in lines]
    assert len(keys) == len(set(keys)) > 30


def test_a_resumed_run_can_be_verified(tmp_path):
    """The verdict on a run does not depend on how often it was interrupted."""
    store = RunStore(tmp_path)
    run_id = begun(store, job_of(workers=2))
    killed_after(store, run_id, 30)
    head = finished(store, run_id)

    found = anyio.run(recorded.verify, CodeWorldEngine(), store.load(run_id), store.folder(run_id))

    assert (found.problems, found.head) == ([], head)


def test_a_run_is_not_resumed_as_another_one(tmp_path):
    """A job that was changed meanwhile is refused, naming the row and what differs in it."""
    store = RunStore(tmp_path)
    run_id = begun(store, job_of(workers=2))
    killed_after(store, run_id, 30)
    rows = (tmp_path / run_id / ROWS).read_bytes()
    now = store.begun(run_id)
    other = evolve(now, job=evolve(now.job, seed=5))

    with pytest.raises(RecordDiffersError, match=r"Row 1 .* in seed") as refusal:
        anyio.run(recorded.resume, CodeWorldEngine(), other, store)

    assert refusal.value.row == 1
    assert (tmp_path / run_id / ROWS).read_bytes() == rows
