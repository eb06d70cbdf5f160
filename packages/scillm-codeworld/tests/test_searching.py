"""Searches through the engine: every strategy, its control, its budget, and what it costs."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from scillm.errors import PluginNotFoundError, UsageError
from scillm.records import Job, Outcome, Trial
from scillm.runs import recorded
from scillm.runs.store import RunStore
from scillm_codeworld.engine.jobs import CodeWorldEngine
from scillm_codeworld.engine.making import Made
from scillm_codeworld.engine.outcomes import speed_of
from scillm_codeworld.engine.trying import Tried
from scillm_codeworld.items import parse_items
from scillm_codeworld.options import parse_options
from scillm_codeworld.records import OK, Execution, Variant

RIGHT = "def solve(x): return x * x"
PROGRAMS = {
    "right": RIGHT,
    "the same": RIGHT,
    "double": "def solve(x): return x + x",
    "cube": "def solve(x): return x ** 3",
    "crash": "def solve(x): return x / 0",
    "ten": "def solve(x): return 10",
    "abs": "def solve(x): return abs(x)",
    "syntax": "def solve(x)",
}
CASES = [2, 0, 1, 3, -4, 5, 6, 7]
DISTINCT = len(set(PROGRAMS.values()))
STRATEGIES = ("baseline", "uniform", "ucb", "thompson", "halving", "mcts", "race", "sweep")


def job_of(strategy="sweep", *, programs=PROGRAMS, seed=1, **options):
    """Squaring, with one right program twice and six others."""
    context = {
        "code_variants": programs,
        "inputs": CASES,
        "expected": [x * x for x in CASES],
    }
    return Job(
        engine="codeworld",
        items=[{"id": "square", "task": "Square the number.", "context": context}],
        options={"repeats": 0, "strategy": strategy, "width": 2, "workers": 2, **options},
        seed=seed,
    )


def run(job, **engine):
    """The result of the only item."""
    (result,) = anyio.run(CodeWorldEngine(**engine).run, job).results
    return result


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_finds_the_right_program(strategy):
    """With a budget that allows it, the best is right in every case, confirmed by running them."""
    result = run(job_of(strategy, budget={"rollouts": 64}))

    assert result["status"] == "solved", result["search"]
    assert result["best"] in {"right", "the same"}
    assert result["search"]["best"] in {"right", "the same"}


def test_programs_with_the_same_code_cost_one_execution(tmp_path):
    """The twin has the same outcome and no answer of its own in the record."""
    store = RunStore(tmp_path)
    manifest = anyio.run(recorded.keep_job, CodeWorldEngine(), job_of(), store)
    (result,) = manifest.results

    rows = {row["id"]: row for row in result["variants"]}
    assert rows["right"]["executions"] == rows["the same"]["executions"]
    assert (rows["right"]["rank"], rows["the same"]["rank"]) == (1, 1)
    assert len(result["search"]["trials"]) == DISTINCT
    answers = (store.folder(manifest.run_id) / "measured.jsonl").read_text().count('"wall_s"')
    # crash and syntax end at their first case
    assert answers == (DISTINCT - 2) * len(CASES) + 2


def test_a_race_costs_a_fraction_and_is_shown_beside_its_control():
    """Fewer executions than running everything; the control had as many, and what it found."""
    search = run(job_of("race"))["search"]

    assert search["spent"]["executions"] < search["exhaustive_executions"] / 2
    control = search["baseline"]
    assert control["executions"] <= search["spent"]["executions"]
    assert control["trials"] >= 1
    assert control["curve"][-1] == [control["executions"], control["best_score"]]


def test_what_the_search_left_out_is_not_called_wrong():
    """A program that was never tried has no score, no rank, and says so."""
    result = run(job_of("ucb", budget={"rollouts": 3}, width=1))

    left = [row for row in result["variants"] if row["status"] == "not_run"]
    assert left
    assert all((row["rank"], row["scores"]["correctness"]) == (None, None) for row in left)
    assert all("did not try it" in row["reason"] for row in left)


@pytest.mark.parametrize(
    ("budget", "stopped"),
    [({"executions": 5}, "executions"), ({"rollouts": 2}, {"rollouts", "finished"}),
     ({"seconds": 1e-9}, "seconds")],
)  # fmt: skip
def test_the_bound_that_ended_the_search_is_named(budget, stopped):
    """Executions, rollouts or seconds: the result says which was used up."""
    search = run(job_of("ucb", budget=budget, width=1))["search"]

    assert search["stopped"] in ({stopped} if isinstance(stopped, str) else stopped)


def test_a_search_ended_by_the_clock_is_verified_and_rerun_to_the_same_end(tmp_path):
    """Where the time was up stands in the record; a faster machine does not go on from there."""
    programs = {
        f"sleepy {number}": f"import time\ndef solve(x):\n    time.sleep(0.1)\n    return {number}"
        for number in range(40)
    }
    job = job_of("ucb", programs=programs, budget={"seconds": 1.0, "rollouts": 300}, width=2)
    store = RunStore(tmp_path)
    manifest = anyio.run(recorded.keep_job, CodeWorldEngine(), job, store)
    folder = store.folder(manifest.run_id)

    verified = anyio.run(recorded.verify, CodeWorldEngine(), manifest, folder)
    rerun = anyio.run(recorded.rerun, CodeWorldEngine(), manifest, folder)

    search = manifest.results[0]["search"]
    assert search["stopped"] == "seconds"
    assert 2 <= len(search["trials"]) < 300
    assert verified.problems == []
    assert rerun.same, rerun.differing


def test_every_trial_is_kept_with_the_counts_it_was_asked_with():
    """n counts told trials, pending those in flight; w is the sum of their scores."""
    trials = run(job_of("ucb", budget={"rollouts": 20}))["search"]["trials"]

    assert [trial["number"] for trial in trials] == list(range(len(trials)))
    for place, trial in enumerate(trials):
        counts = trial["counts"]
        window = place - place % 2
        assert counts["n"] == window
        assert counts["pending"] == place - window
        before = [row for row in trials[:window] if row["arm"] == trial["arm"]]
        assert counts["arm"]["n"] == len(before)
        assert counts["arm"]["w"] == sum(row["score"] or 0.0 for row in before)


@pytest.mark.parametrize("strategy", ["ucb", "mcts", "race", "thompson"])
def test_the_outcome_does_not_depend_on_the_number_of_workers(strategy):
    """Same seed and width, 1 or 8 workers: the same trials, the same findings."""
    results = [
        anyio.run(CodeWorldEngine().run, job_of(strategy, width=3, workers=workers))
        for workers in (1, 8)
    ]

    assert results[0].findings == results[1].findings
    assert results[0].results[0]["search"] == results[1].results[0]["search"]


SUMS = {
    "sleepy": "import time\ndef solve(x):\n    time.sleep(0.15)\n    return sum(range(x))",
    "quick": "def solve(x): return sum(range(x))",
    "wrong": "def solve(x): return x",
    "crash": "def solve(x): return x / 0",
}


def timing_job(strategy="ucb", *, programs=SUMS, repeats=0, context=(), **options):
    """Summing up, searched by timings."""
    inputs = [100, 2000]
    context = {"code_variants": programs, "inputs": inputs, **dict(context)}
    if "expected" not in context:
        context["expected"] = [sum(range(x)) for x in inputs]
    return Job(
        engine="codeworld",
        items=[{"id": "sum", "task": "Add up the numbers below x.", "context": context}],
        options={
            "strategy": strategy,
            "params": {"pull": "timing"},
            "budget": {"rollouts": 20},
            "repeats": repeats,
            "width": 2,
            "workers": 2,
            **options,
        },
        seed=3,
    )


@pytest.mark.parametrize("strategy", ["ucb", "thompson", "mcts", "halving", "ab"])
def test_each_timing_pull_is_one_more_measured_repeat(strategy):
    """Of a program that is right; what is wrong or crashes is never timed."""
    result = run(timing_job(strategy, budget={"rollouts": 12}))

    search = result["search"]
    assert result["best"] == "quick"
    assert search["best"] in ("quick", "sleepy")
    rows = {row["id"]: row for row in result["variants"]}
    for name in ("wrong", "crash"):
        assert rows[name]["executions"][0]["runs"] == 1
        assert rows[name]["wall_s"] is None
    for trial in search["trials"]:
        assert trial["pull"] == "timing"
        measured = trial.get("wall_s")
        assert (
            (measured is None) == (trial["score"] is None) == (trial["arm"] in ("wrong", "crash"))
        )
        if measured is not None:
            assert trial["score"] == pytest.approx(1 / sum(measured))


def test_timings_of_the_search_count_as_repeats():
    """Whoever was timed often is not timed again; whoever was not gets the repeats asked for."""
    result = run(timing_job(repeats=4, budget={"rollouts": 12}))

    told = [trial["arm"] for trial in result["search"]["trials"]]
    rows = {row["id"]: row for row in result["variants"]}
    for name in ("quick", "sleepy"):
        # the first run, then the repeats
        assert rows[name]["executions"][0]["runs"] == 1 + max(4, told.count(name))
    spent = result["search"]["spent"]["executions"]
    first_runs = 2 + 2 + 2 + 1
    assert spent == first_runs + 2 * (told.count("quick") + told.count("sleepy"))


def test_a_search_by_timings_is_verified_and_rerun_from_its_record(tmp_path):
    """What was measured stands in the record: the same search follows, and only from there."""
    store = RunStore(tmp_path)
    manifest = anyio.run(recorded.keep_job, CodeWorldEngine(), timing_job(), store)
    folder = store.folder(manifest.run_id)

    found = anyio.run(recorded.verify, CodeWorldEngine(), manifest, folder)
    again = anyio.run(recorded.rerun, CodeWorldEngine(), manifest, folder)

    assert (found.problems, found.head) == ([], manifest.record["head"])
    assert (again.same, list(again.differing)) == (True, [])


def test_a_program_that_fails_while_it_is_timed_has_no_score_for_that():
    """Right at first and wrong later is found out, and costs it the rank."""
    flaky = "import random\ndef solve(x): return sum(range(x)) + (random.random() < 0.5)"

    result = run(timing_job(programs={"flaky": flaky, "sleepy": SUMS["sleepy"]}))

    assert result["best"] == "sleepy"
    failed = [row for row in result["search"]["trials"] if row["arm"] == "flaky"]
    assert any(row["score"] is None for row in failed)


def test_a_scorer_is_told_the_time_of_each_timing_pull():
    """With an item's own scorer a timing is worth what the scorer makes of it."""
    scorer = (
        "def score(task, context, outputs, timings):\n"
        "    return {'quick': float(sum(timings['wall_s']) < 0.2), 'cases': 1.0}"
    )
    programs = {name: SUMS[name] for name in ("sleepy", "quick")}

    search = run(timing_job(programs=programs, context={"scoring": scorer}))["search"]

    scores = {row["arm"]: set() for row in search["trials"]}
    for row in search["trials"]:
        scores[row["arm"]].add(row["score"])
    assert scores["sleepy"] == {0.5}
    assert 1.0 in scores["quick"]


def test_where_fuel_is_counted_a_timing_needs_no_clock():
    """It is worth 10⁹ / its fuel, the same on every machine, and no seconds stand in the record."""
    (item,) = parse_items(timing_job().items)
    runs = [Execution(status=OK, output=1, fuel=fuel, wall_s=0.1) for fuel in (500, 1500)]
    found = [Tried(case=case, run=row, fault=None) for case, row in enumerate(runs)]
    told = Outcome(score=1.0, detail={"cases": []})

    outcome = anyio.run(partial(speed_of, None, item, told, found, parse_options({})))

    assert outcome.score == 1e9 / 2000
    assert "wall_s" not in outcome.detail


def test_nothing_is_timed_where_nothing_can_be_right():
    """Without expected answers a time says nothing, and none is taken."""
    job = timing_job(programs={"a": RIGHT})
    context = {"code_variants": {"a": RIGHT}, "inputs": [1, 2]}
    job = Job(engine=job.engine, items=[{"task": "t", "context": context}], options=job.options)

    search = run(job)["search"]

    assert search["spent"]["executions"] == 2
    assert all(row["score"] is None and "wall_s" not in row for row in search["trials"])


@pytest.mark.parametrize(
    ("strategy", "params", "said"),
    [
        ("race", {"pull": "timing"}, "no timing pulls: it lacks the parameter 'kind'"),
        ("sweep", {"pull": "case"}, "no case pulls: it lacks the parameter 'cases'"),
        ("ucb", {"pull": "case", "kind": "timing"}, "pull is 'case' and kind is 'timing'"),
        ("ucb", {"pull": ["case"]}, "pull must be one of run, case, timing"),
    ],
)
def test_a_pull_the_strategy_cannot_make_is_refused(strategy, params, said):
    """And not quietly another one made."""
    with pytest.raises(UsageError, match=said):
        run(job_of(strategy, params=params))


def test_a_strategy_that_makes_programs_cannot_pull_timings():
    """A made program comes with its score; nothing is said to be timed that is not."""

    async def make(item, trial, known):
        raise AssertionError("nothing is made")

    with pytest.raises(UsageError, match="kind must be run"):
        run(timing_job("mcts"), make=make)


def test_an_unknown_strategy_is_refused_with_the_known_ones():
    """Before anything is run."""
    with pytest.raises(PluginNotFoundError, match=r"'mtcs'.*mcts"):
        run(job_of("mtcs"))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"speed": 3}, "has no parameter 'speed'"),
        ({"pull": "whole"}, "pull must be one of"),
        ({"cases": 0}, "cases"),
    ],
)
def test_a_parameter_the_strategy_does_not_have_is_refused(params, said):
    """By name, with those it has."""
    with pytest.raises(UsageError, match=said):
        run(job_of("ucb", params=params))


class Growing:
    """Asks for two new programs, the second made from the first."""

    def __init__(self, arms, *, seed):
        self.told = []

    def ask(self):
        number = len(self.told)
        if number == 2:
            return None
        parent = self.told[-1].arm if self.told else None
        return Trial(number=number, arm=f"new-{number}", new=True, parent=parent, kind="generate")

    def tell(self, trial, outcome, /):
        self.told.append(outcome)

    def report(self):
        best = max(self.told, key=lambda outcome: outcome.score or 0.0)
        return {"best": best.arm, "best_score": best.score}


def test_a_strategy_that_wants_new_programs_needs_somebody_who_makes_them():
    """Without a generator that is an error in words, not an empty search."""
    with pytest.raises(UsageError, match="asks for a new program"):
        run(job_of("growing"), find=lambda name: Growing)


def test_made_programs_are_run_ranked_and_verified_without_the_generator(tmp_path):
    """What a generator made stands in the record with what it was made from."""
    asked = []

    async def make(item, trial, known):
        asked.append((trial.parent, {arm: len(cases) for arm, cases in known.items()}))
        codes = ["def solve(x): return x * 2", "def solve(x): return x * x  # better"]
        variant = Variant(id=f"made-{trial.number}", code=codes[trial.number], origin={"by": "me"})
        return Made(variant=variant, cost={"tokens": 7.0}, detail={"prompt": "square, please"})

    engine = CodeWorldEngine(find=lambda name: Growing, make=make)
    job = job_of("growing", programs={"ten": PROGRAMS["ten"]}, width=1)
    store = RunStore(tmp_path)
    manifest = anyio.run(recorded.keep_job, engine, job, store)
    (result,) = manifest.results

    found = anyio.run(recorded.verify, engine, manifest, store.folder(manifest.run_id))

    assert (result["status"], result["best"]) == ("solved", "made-1")
    assert [row["id"] for row in result["variants"] if row["origin"] == {"by": "me"}] == [
        "made-1",
        "made-0",
    ]
    assert result["search"]["spent"]["tokens"] == 14.0
    first, second = result["search"]["trials"]
    assert (first["parent"], second["parent"]) == (None, first["made"])
    assert asked[1] == (first["made"], {"ten": 0, first["made"]: len(CASES)})
    assert (found.problems, len(asked)) == ([], 2)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"square, please" in kept


@pytest.mark.parametrize("fresh", [2, 5])
def test_made_programs_do_not_depend_on_who_was_made_first(tmp_path, fresh):
    """Slow and quick generators, one worker or eight: the same record and the same names."""

    async def make(item, trial, known):
        await anyio.sleep(0.05 * (3 - trial.number % 4))
        code = f"def solve(x): return x * x + {trial.number % fresh}"
        return Made(variant=Variant(id=f"made-{trial.number}", code=code))

    def kept(workers):
        context = {"inputs": [2, 3], "expected": [4, 9], "code_variants": {"ten": PROGRAMS["ten"]},
                   "report_inputs": [5], "report_expected": [25]}  # fmt: skip
        options = {"strategy": "uniform", "budget": {"rollouts": 9}, "width": 4, "repeats": 0}
        job = Job(
            engine="codeworld",
            items=[{"task": "Square.", "context": context}],
            options={**options, "workers": workers},
        )
        store = RunStore(tmp_path / str(workers))
        return anyio.run(recorded.keep_job, CodeWorldEngine(make=make), job, store)

    one, eight = kept(1), kept(8)

    assert one.record == eight.record
    assert one.findings == eight.findings
    names = {row.id.split("/")[1] for row in one.findings}
    assert names == {"ten", *(f"made-{number}" for number in range(1, fresh + 1))}


def test_results_stream_as_items_are_done():
    """Who listens gets each result before the whole job is over, and may leave early."""
    job = job_of()
    items = [{**job.items[0], "id": f"item-{n}"} for n in range(3)] + [{"task": "bad"}]
    job = Job(engine="codeworld", items=items, options=job.options)

    async def main():
        found = []
        async with CodeWorldEngine().results(job) as results:
            found += [(result["item_id"], result["status"]) async for result in results]
        async with CodeWorldEngine().results(job) as results:
            async for result in results:
                found.append(("first of the second", result["item_id"]))
                break
        return found

    found = anyio.run(main)

    assert sorted(found[:4]) == [
        ("item-0", "solved"),
        ("item-1", "solved"),
        ("item-2", "solved"),
        ("item-4", "invalid"),
    ]
    assert len(found) == 5


def test_what_is_wrong_with_a_streamed_job_is_raised_bare():
    """Not wrapped in a group of one."""

    async def main():
        async with CodeWorldEngine().results(job_of("mtcs")) as results:
            async for _ in results:
                pass

    with pytest.raises(PluginNotFoundError):
        anyio.run(main)


def test_all_cases_are_run_when_failures_do_not_end_it():
    """`fail_fast=False`: a crash in the first case leaves the other answers to be seen."""
    programs = {"odd": "def solve(x): return x * x if x != 2 else 1 / 0"}

    (row,) = run(job_of(programs=programs, fail_fast=False))["variants"]

    assert [case["status"] for case in row["executions"]] == ["exception"] + ["ok"] * 7
    assert row["status"] == "exception"
    assert row["executions"][0]["input"] == 2


BAD = [
    ("ten megabytes", {"code_variants": {"a": "#" * 10_000_000}, "input": 1}, "10000000 bytes"),
    ("no text", {"code_variants": {"a": "\ud800"}, "input": 1}, "half of a surrogate"),
    ("language", {"code_variants": {"a": {"code": "x", "language": "cobol"}}, "input": 1},
     "'cobol', but allowed are python"),
    ("scorer", {"code_variants": PROGRAMS, "input": 1, "scoring": {"code": "x", "lang": "lua"}},
     "scoring.lang must be py"),
    ("report", {"code_variants": PROGRAMS, "inputs": [1], "expected": [1], "report_inputs": [2]},
     "report_expected"),
    ("comparison", {"code_variants": PROGRAMS, "input": 1, "comparison": "roughly"}, "exact, set"),
]  # fmt: skip


def test_each_bad_item_says_what_is_wrong_and_the_good_one_is_solved():
    """Ten megabytes of code, no Unicode, an unknown language: their own fault alone."""
    job = job_of()
    bad = [{"id": name, "task": "t", "context": context} for name, context, _ in BAD]
    job = Job(engine="codeworld", items=[*bad, job.items[0], job.items[0]], options=job.options)

    results = anyio.run(CodeWorldEngine().run, job).results

    for result, (name, _, said) in zip(results, BAD, strict=False):
        assert (result["item_id"], result["status"]) == (name, "invalid")
        assert said in result["reason"]
    assert results[-2]["status"] == "solved"
    assert "'square' is already that of item" in results[-1]["reason"]
