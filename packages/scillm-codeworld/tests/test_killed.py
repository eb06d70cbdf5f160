"""A run that is killed anywhere and resumed has the same record as one that never was."""

from __future__ import annotations

import hashlib
import json
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
from support.behaviours import Json, Stall
from support.strict_chat import CHAT_PATH, completion_object

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


def job_of(*, workers, strategy="ucb", items=3, seed=4, **options):
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
            **options,
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
    working.kill()  # not os.kill: it may have ended by itself, which its status then tells
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


def test_a_resumed_run_has_its_seconds_for_what_is_left(tmp_path):
    """What is only read costs no time: the search goes on past it, and the clock ends it there."""
    job = job_of(workers=2, items=1, budget={"seconds": 2.0, "rollouts": 10_000},
                 params={"pull": "timing"})  # fmt: skip
    store = RunStore(tmp_path)
    run_id = begun(store, job)
    assert killed_after(store, run_id, 30) == -signal.SIGKILL
    before = (store.root / run_id / ROWS).read_bytes().rpartition(b"\n")[0]
    head = finished(store, run_id)

    found = anyio.run(recorded.verify, CodeWorldEngine(), store.load(run_id), store.folder(run_id))

    assert (store.root / run_id / ROWS).read_bytes().startswith(before)
    assert store.load(run_id).results[0]["search"]["stopped"] == "seconds"
    assert (found.problems, found.head) == ([], head)


def test_what_was_executed_before_the_kill_is_not_executed_again(tmp_path):
    """Resuming asks the record: no question stands in it twice."""
    store = RunStore(tmp_path)
    run_id = begun(store, job_of(workers=2))
    killed_after(store, run_id, 30)

    finished(store, run_id)

    lines = (store.root / run_id / MEASURED).read_text().splitlines()
    keys = [json.loads(line)["data"]["key"] for line in lines]
    assert len(keys) == len(set(keys)) > 30


@pytest.mark.parametrize(("pull", "answers"), [("case", [30]), ("timing", [60, 90])])
def test_a_resumed_run_can_be_verified(tmp_path, pull, answers):
    """The verdict on a run does not depend on how often it was interrupted, timings or not."""
    store = RunStore(tmp_path)
    run_id = begun(store, job_of(workers=2, params={"pull": pull}))
    for count in answers:
        assert killed_after(store, run_id, count) == -signal.SIGKILL
    head = finished(store, run_id)

    found = anyio.run(recorded.verify, CodeWorldEngine(), store.load(run_id), store.folder(run_id))

    assert (found.problems, found.head) == ([], head)


# -- with a model ------------------------------------------------------------------------------

IN_THE_AIR = 2 * 2
"""Calls at once: two items side by side, two trials of each."""


def writing(request):
    """A model that answers by the question alone, and takes its time, so that a kill may hit it."""
    asked = json.loads(request.body)["messages"][-1]["content"]
    lot = int(hashlib.sha256(asked.encode()).hexdigest(), 16)
    # The pause keeps the slowest case far from a power of ten, which is all a question tells.
    pause = "import time\ndef solve(x):\n    time.sleep(0.2)\n    return "
    bodies = ["sorted(x)", "x[::-1]", "x", "[x[0]] + x", "sorted(set(x))"]
    code = f"{pause}{bodies[lot % len(bodies)]}  # {lot % 7}\n"
    words = {"title": "", "complexity_tier": "", "rationale": "", "notes": ""}
    variants = [{"id": f"v{lot % 97}", "code": code, **words}]
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    answer = completion_object(json.dumps({"variants": variants}), usage=usage)
    return Stall(seconds=0.05, then=Json(answer))


def writing_job(server, *, workers):
    """Two items for which programs are written and refined."""
    item = {
        "context": {
            "inputs": [[2, 1], [1, 3, 2]],
            "expected": [[1, 2], [1, 2, 3]],
            "report_inputs": [[9, 8]],
            "report_expected": [[8, 9]],
        },
    }
    wish = {"n": 1, "model": "openai/writer", "api_base": server.base_url, "refine": True}
    return Job(
        engine="codeworld",
        items=[{**item, "id": f"sort-{n}", "task": f"Sort list {n}."} for n in range(2)],
        options={
            "strategy": "mcts",
            "budget": {"rollouts": 8},
            "width": 2,
            "workers": workers,
            "repeats": 0,
            "autogenerate": wish,
        },
        seed=5,
    )


def killed_at_call(server, store, run_id, calls):
    """Work on the run and kill -9 the process when the model has been asked so often."""
    working = start(store, run_id)
    deadline = time.monotonic() + 60
    while working.poll() is None and time.monotonic() < deadline:
        if len(server.requests) >= calls:
            break
        time.sleep(0.002)
    working.kill()  # not os.kill: it may have ended by itself, which its status then tells
    working.communicate(timeout=60)
    return working.returncode


def written(server, store, *, workers, kills):
    """The head of a run with these kills, and the questions that the model was asked."""
    before = len(server.requests)
    run_id = begun(store, writing_job(server, workers=workers))
    for calls in kills:
        assert killed_at_call(server, store, run_id, before + calls) == -signal.SIGKILL
    head = finished(store, run_id)
    return head, [request.body for request in server.requests[before:]]


def check_killed_while_writing(server, tmp_path, kills_of, workers):
    """One head for all, and only what was in the air at a kill is asked twice."""
    server.route(CHAT_PATH, writing)
    whole, asked = written(server, RunStore(tmp_path / "whole"), workers=2, kills=())
    assert len(asked) == len(set(asked)) >= 12
    for count in workers:
        for number, kills in enumerate(kills_of):
            store = RunStore(tmp_path / f"{count}-{number}")
            head, again = written(server, store, workers=count, kills=kills)

            assert head == whole
            assert set(again) == set(asked)
            assert len(again) - len(asked) <= len(kills) * min(IN_THE_AIR, count * count)


def test_a_run_killed_while_a_model_writes_pays_at_most_for_the_calls_in_the_air(
    faulty_server, tmp_path
):
    """Killed three times, in the first call and later: one record, and no answer paid for again."""
    check_killed_while_writing(faulty_server, tmp_path, [(1, 5, 12)], (2,))


@pytest.mark.deep
def test_ten_writing_runs_killed_at_any_call_have_one_hash(faulty_server, tmp_path):
    """Ten places by one, two and eight workers: thirty runs, one journal."""
    check_killed_while_writing(faulty_server, tmp_path, [(n,) for n in range(1, 11)], (1, 2, 8))


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
