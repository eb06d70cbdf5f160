"""The engine runs everything, judges what happened, and can be replayed."""

from __future__ import annotations

import json
import sys

import anyio
import pytest
from scillm.errors import SandboxError, UsageError
from scillm.events import ItemFinished, TrialFinished
from scillm.records import Job
from scillm.runs.replay import replay, run_job
from scillm_codeworld.engine.jobs import CodeWorldEngine

VARIANTS = {
    "right": "def solve(x):\n    return x * x",
    "also": "def solve(x):\n    return x ** 2",
    "slow": "def solve(x):\n    for _ in range(10**6): pass\n    return x * x",
    "wrong": "def solve(x):\n    return x + x",
    "crash": "def solve(x):\n    return x / (x - 3)",
    "syntax": "def solve(x)\n    return x",
    "loop": "def solve(x):\n    while True: pass",
    "float": "def solve(x):\n    return float(x * x)",
}
ITEM = {
    "id": "square",
    "task": "Square the number.",
    "context": {"code_variants": VARIANTS, "inputs": [2, 3], "expected": [4, 9]},
}
QUICK = {"timeout_s": 1.5, "repeats": 3}


def run(items, *, seed=0, emit=None, **options):
    """The result of a job."""
    engine = CodeWorldEngine() if emit is None else CodeWorldEngine(emit=emit)
    job = Job(engine="codeworld", items=items, options={**QUICK, **options}, seed=seed)
    return anyio.run(engine.run, job)


def one(code, *, value=1, expected=1, **options):
    """The only variant's result of a job with one case."""
    context = {"code_variants": {"v": code}, "input": value, "expected": expected}
    return run([{"task": "t", "context": context}], **options).results[0]["variants"][0]


def test_numpy_is_there_for_a_job_that_allows_it_and_for_no_other():
    """Its arrays are no JSON and equal to nothing; what a program makes of them counts."""
    pytest.importorskip("numpy")
    code = "import numpy as np\ndef solve(x): return np.arange(x).sum()%s"
    allowed = {"allowed_modules": ["numpy"], "timeout_s": 20.0, "repeats": 0}

    try:
        good = one(code % ".item()", value=5, expected=10, **allowed)
    except SandboxError as error:
        pytest.skip(str(error))
    odd = one(code % "", value=5, expected=10, **allowed)
    equal = "class E(np.ndarray):\n    __eq__ = lambda a, b: True\n"
    cheat = code.replace("def", equal + "def") % "" + ".view(E)"
    lies = one(cheat.replace(".sum()", ""), value=5, expected=10, **allowed)
    without = one(code % ".item()", value=5, expected=10)

    assert (good["status"], good["scores"]["correctness"]) == ("ok", 1.0)
    assert [odd["status"], lies["status"]] == ["unserialisable", "unserialisable"]
    assert without["status"] == "exception"


@pytest.fixture(scope="module")
def square():
    """The result of the item with one variant of each kind."""
    return run([ITEM]).results[0]


def test_every_variant_is_run_and_ranked_by_what_happened(square):
    """Right before wrong, wrong before failing, fast before slow."""
    rows = {row["id"]: row for row in square["variants"]}

    assert {name: row["status"] for name, row in rows.items()} == {
        **dict.fromkeys(("right", "also", "slow", "wrong", "float"), "ok"),
        "crash": "exception",
        "syntax": "syntax_error",
        "loop": "timeout",
    }
    ranks = {name: row["rank"] for name, row in rows.items()}
    assert max(ranks["right"], ranks["also"], ranks["float"]) < ranks["slow"] < ranks["wrong"]
    assert ranks["wrong"] < ranks["crash"] == ranks["syntax"] == ranks["loop"]
    assert square["status"] == "solved"
    assert square["best"] in {"right", "also", "float"}


def test_a_failure_scores_nothing_and_says_why(square):
    """A crash in one case of two is no half success."""
    rows = {row["id"]: row for row in square["variants"]}

    assert rows["crash"]["reason"] == "case 2 of 2: ZeroDivisionError: division by zero (line 2)"
    assert rows["syntax"]["reason"] == "case 1 of 2: expected ':' (line 1)"
    assert rows["loop"]["reason"] == "case 1 of 2: it did not answer within 1.5 s"
    for name in ("crash", "syntax", "loop"):
        assert rows[name]["scores"]["correctness"] == 0.0
        assert rows[name]["aggregate"] == 0.0
    assert [row["status"] for row in rows["loop"]["executions"]] == ["timeout", "not_run"]


def test_a_wrong_answer_is_shown_beside_the_wanted_one(square):
    """What is wrong can be read off the result."""
    wrong = next(row for row in square["variants"] if row["id"] == "wrong")

    assert wrong["scores"]["correctness"] == 0.5
    assert wrong["reason"] == "wrong in 1 of 2 cases; case 2: answer must be 9, but is 6"
    assert [row["output"] for row in wrong["executions"]] == [4, 6]


def test_every_variant_says_how_it_was_isolated(square):
    """The observed level stands beside each score."""
    assert {row["isolation"] for row in square["variants"]} <= {"L1", "L2", "L3", "L4"}
    assert len({row["isolation"] for row in square["variants"]}) == 1


def test_the_environment_says_what_the_isolation_is_and_is_not():
    """A reader of the manifest learns what was on and what was missing."""
    result = run([ITEM | {"id": "x"}], repeats=0)
    isolation = result.environment["isolation"]

    assert isolation["level"] == result.results[0]["variants"][0]["isolation"]
    assert isolation["asked"] is None
    assert {"fs", "net", "procs", "mem", "kill", "why", "probe"} <= set(isolation)


def test_only_right_variants_are_timed(square):
    """The time of a wrong answer means nothing, and a right one has all its repeats."""
    timed = {row["id"] for row in square["variants"] if row["wall_s"] is not None}

    assert timed == {"right", "also", "float", "slow"}
    for row in square["variants"]:
        assert all(
            len(case["wall_s"]) == (1 + QUICK["repeats"] if row["id"] in timed else 1)
            for case in row["executions"]
        )


def test_a_replay_finds_the_same_although_the_times_differ():
    """Findings hold no measurement, so a sound run replays to the same findings."""
    engine = CodeWorldEngine()
    job = Job(engine="codeworld", items=[ITEM, {"task": "bad"}], options=QUICK, seed=3)

    async def both():
        manifest = await run_job(engine, job, run_id="first")
        return manifest, await replay(engine, manifest)

    manifest, again = anyio.run(both)

    assert again.same, again
    assert [row.id for row in again.rows] == [
        *(f"square/{name}" for name in _order(manifest)),
        "item-2",
    ]
    assert again.drift == {}
    assert json.loads(json.dumps(manifest.to_dict(), allow_nan=False)) == manifest.to_dict()


def _order(manifest):
    return [row["id"] for row in manifest.results[0]["variants"]]


def test_a_program_that_answers_by_luck_is_caught_by_the_replay():
    """A replay that differs says so."""
    code = "import os\ndef solve(x): return int.from_bytes(os.urandom(8), 'big')"
    item = {"task": "t", "context": {"code_variants": {"v": code}, "input": 1, "expected": 1}}
    engine = CodeWorldEngine()

    async def both():
        manifest = await run_job(engine, Job(engine="codeworld", items=[item]), run_id="first")
        return await replay(engine, manifest)

    again = anyio.run(both)

    assert not again.same
    assert [row.status for row in again.rows] == ["different"]


def test_the_seed_changes_the_order_of_execution_and_nothing_else():
    """Same findings for every seed; the same seed gives the same order."""
    context = {
        **ITEM["context"],
        "code_variants": {k: VARIANTS[k] for k in ("right", "wrong", "crash", "syntax", "float")},
    }
    orders, found = [], []
    for seed in (1, 1, 2, 3, 4):
        events = []
        result = run([{**ITEM, "context": context}], seed=seed, emit=events.append, repeats=0)
        orders.append([e.arm for e in events if isinstance(e, TrialFinished)])
        found.append(sorted(result.findings, key=lambda row: row.id))

    assert all(rows == found[0] for rows in found)
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) > 1


def test_a_malformed_item_fails_alone_and_is_counted():
    """Two good items around a bad one are run as if it were not there."""
    good = {
        "task": "t",
        "context": {"code_variants": {"a": VARIANTS["right"]}, "input": 3, "expected": 9},
    }
    result = run([good, {"task": "t", "context": {"inputs": [1]}}, good], repeats=0)

    assert [row["status"] for row in result.results] == ["solved", "invalid", "solved"]
    assert "code_variants" in result.results[1]["reason"]
    counts = result.summary
    assert (counts["items"], counts["succeeded"], counts["failed"], counts["invalid"]) == (
        3,
        2,
        1,
        1,
    )
    assert len(result.findings) == 3


def test_without_expected_answers_nothing_is_called_correct_or_best():
    """The outputs are there, the judgement is not."""
    context = {"code_variants": {"a": VARIANTS["right"]}, "inputs": [2]}
    result = run([{"task": "t", "context": context}])
    row = result.results[0]

    assert (row["status"], row["best"]) == ("not_scored", None)
    assert row["variants"][0]["scores"]["correctness"] is None
    assert "not scored" in row["variants"][0]["reason"]
    assert row["variants"][0]["executions"][0]["output"] == 4
    assert result.summary["not_scored"] == 1
    assert result.summary["succeeded"] == 0


def test_no_best_is_named_when_nothing_is_right():
    """The least bad is not called best."""
    context = {
        "code_variants": {"a": VARIANTS["wrong"], "b": VARIANTS["syntax"]},
        "inputs": [3],
        "expected": [9],
    }
    row = run([{"task": "t", "context": context}]).results[0]

    assert (row["status"], row["best"], row["best_tied"]) == ("unsolved", None, [])
    assert row["best_reason"] == "no variant is right in any case"


def test_tolerance_is_for_numbers_that_are_nearly_right():
    """A float kernel may differ in the last digits when the item says so."""
    context = {
        "code_variants": {"a": "def solve(x): return [x + 1e-12, 'a']"},
        "input": 1.0,
        "expected": [1.0, "a"],
    }
    strict, lax = run(
        [{"task": "t", "context": context}, {"task": "t", "tolerance": 1e-9, "context": context}],
        repeats=0,
    ).results

    assert (strict["status"], lax["status"]) == ("unsolved", "solved")


def test_a_long_output_is_cut_and_says_so_but_its_digest_is_of_all():
    """A large right answer is right, and the result stays readable."""
    value = ["x" * 1000] * 100

    row = one("def solve(x): return ['x' * 1000] * 100", expected=value, repeats=0)

    case = row["executions"][0]
    assert row["scores"]["correctness"] == 1.0
    assert "output" not in case
    assert case["output_cut"] == "longer than 65536 bytes"
    assert case["output_bytes"] == 100 * 1003 + 1
    assert case["output_head"].startswith('["xxx')


def test_a_program_that_fails_only_when_repeated_has_failed():
    """Right by luck is found out by the timing repeats."""
    code = (
        "import os\n"
        "def solve(x):\n"
        "    if os.urandom(1)[0] < 64: raise RuntimeError('unlucky')\n"
        "    return 1"
    )
    # Each of 31 runs fails with probability 1/4; all pass once in (4/3)**31 = 7000 times.
    row = one(code, repeats=30)

    assert row["status"] == "exception"
    assert row["aggregate"] == 0.0


def test_answers_that_differ_from_run_to_run_are_reported():
    """Both may be right within the tolerance; that they differ is said."""
    code = "import os\ndef solve(x): return 1 + int.from_bytes(os.urandom(4), 'big') / 2**50"
    context = {"code_variants": {"v": code}, "input": 1, "expected": 1}
    item = {"task": "t", "tolerance": 1e-3, "context": context}

    row = run([item]).results[0]["variants"][0]

    assert row["scores"]["correctness"] == 1.0
    assert row["executions"][0]["repeatable"] is False


def test_progress_is_told_item_by_item():
    """Who listens hears of each item once, with how many are done."""
    events = []
    run([ITEM | {"id": "a"}, {"task": "bad"}], emit=events.append, repeats=0)

    done = [event for event in events if isinstance(event, ItemFinished)]
    assert [(e.engine, e.done, e.total) for e in done] == [("codeworld", 1, 2), ("codeworld", 2, 2)]
    assert sorted(e.item_id for e in done) == ["a", "item-2"]
    trials = [event.arm for event in events if isinstance(event, TrialFinished)]
    assert sorted(trials) == sorted(VARIANTS)


def test_where_the_wanted_isolation_cannot_be_had_nothing_is_run(monkeypatch):
    """Fails closed: no result at a weaker level, and no variant called wrong."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")

    with pytest.raises(SandboxError):
        run([ITEM], isolation="L1")


@pytest.mark.parametrize(
    ("job", "named"),
    [
        (Job(engine="other", items=[ITEM]), "other"),
        (Job(engine="codeworld", items=[]), "no items"),
        (Job(engine="codeworld", items=[ITEM], options={"depth": 3}), "'depth'"),
    ],
)
def test_a_job_that_is_none_is_refused(job, named):
    """Wrong engine, no items, unknown options: refused by name before anything runs."""
    with pytest.raises(UsageError, match=named):
        anyio.run(CodeWorldEngine().run, job)


def test_the_engine_runs_on_trio_as_well():
    """Both event loops of anyio give the same findings."""
    job = Job(engine="codeworld", items=[ITEM], options={**QUICK, "repeats": 1})

    found = [
        sorted(anyio.run(CodeWorldEngine().run, job, backend=backend).findings, key=lambda f: f.id)
        for backend in ("asyncio", "trio")
    ]

    assert found[0] == found[1]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), "\ud800", {1: 2}])
def test_an_item_that_is_not_plain_json_does_not_harm_the_others(odd):
    """What no record could hold is reported as invalid; the rest of the job is run."""
    bad = {"task": "t", "context": {"code_variants": {"v": "x"}, "input": odd, "expected": 1}}

    first, second = run([bad, ITEM], repeats=0).results

    assert (first["status"], second["status"]) == ("invalid", "solved")
    assert "not plain JSON" in first["reason"]


def test_a_failure_shows_its_way_through_the_programs_own_code():
    """Frames are told outermost first, bounded, with the left-out ones counted; none when ok."""
    deep = "def down(n):\n    return down(n - 1) if n else 1 / 0\ndef solve(n):\n    return down(n)"
    code = {"short": deep, "fine": "def solve(n):\n    return 0"}
    context = {"code_variants": code, "inputs": [1, 30], "expected": [0, 0]}

    rows = run([{"task": "t", "context": context}], repeats=0, fail_fast=False).results[0]
    of = {row["id"]: row["executions"] for row in rows["variants"]}
    first, second = of["short"]

    assert [(row["line"], row["function"]) for row in first["frames"]] == [
        (4, "solve"),
        (2, "down"),
        (2, "down"),
    ]
    assert second["frames"][0] == {"left_out": 24}
    assert len(second["frames"]) == 9
    assert [row["frames"] for row in of["fine"]] == [[], []]


WORK = "def solve(n):\n    s = 0\n    for i in range(n): s += i * i % 7\n    return s\n"
TWO_SPEEDS = """
import time
def solve(n):
    for i in range(n * (1 + time.monotonic_ns() // 1000 % 2)): pass
    return n
"""


@pytest.mark.deep
@pytest.mark.parametrize(("code", "size"), [(WORK, 8_000), (WORK, 100_000), (TWO_SPEEDS, 150_000)])
def test_two_equal_programs_are_as_fast_as_each_other(code, size):
    """In twenty jobs of three repeats at most one is misled: 1 in 100 by chance, and two speeds."""
    space = {}
    exec(code, space)
    item = {
        "task": "t",
        "context": {
            "code_variants": {"one": code, "other": f"{code}# the same\n"},
            "inputs": [size],
            "expected": [space["solve"](size)],
        },
    }

    told_apart = 0
    for seed in range(20):
        rows = run([item], seed=seed, timeout_s=20.0).results[0]["variants"]
        told_apart += rows[0]["scores"]["speed"] != rows[1]["scores"]["speed"]

    assert told_apart <= 1
