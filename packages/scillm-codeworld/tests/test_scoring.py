"""The item's own check and scorer: in a sandbox of their own, on plain JSON, finite or nothing."""

from __future__ import annotations

import anyio
import pytest
from scillm.records import Job
from scillm_codeworld.engine.asking import read_scores
from scillm_codeworld.engine.jobs import CodeWorldEngine

DOUBLE = "def solve(x): return 2 * x"
TRIPLE = "def solve(x): return 3 * x"
SIX = "def solve(x): return 6"


def run(context, *, task="t", **options):
    """The result of one item, as (result, variant rows by id)."""
    item = {"id": "i", "task": task, "context": context}
    job = Job(engine="codeworld", items=[item], options={"repeats": 0, "timeout_s": 5.0, **options})
    (result,) = anyio.run(CodeWorldEngine().run, job).results
    return result, {row["id"]: row for row in result["variants"]}


def test_a_check_decides_where_many_answers_are_right():
    """Any divisor will do: the check sees input and output, and calls the rest wrong."""
    result, rows = run(
        {
            "code_variants": {
                "half": "def solve(n): return n // 2",
                "one": "def solve(n): return 1",
                "more": "def solve(n): return n + 1",
            },
            "inputs": [12, 30],
            "check": "def check(input, expected, output):\n    return input % output == 0",
        }
    )

    assert {name: row["scores"]["correctness"] for name, row in rows.items()} == {
        "half": 1.0,
        "one": 1.0,
        "more": 0.0,
    }
    assert "the check says False of the answer 13" in rows["more"]["reason"]
    assert result["status"] == "solved"


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("def check(i, e, o): return 'yes'", "the check says 'yes'"),
        ("def check(i, e, o): return 0.999", "the check says 0.999"),
        ("def check(i, e, o): return 1 / 0", "the check itself ended exception"),
        ("def chuck(i, e, o): return True", "the check itself ended exception"),
        ("def check(", "the check itself ended syntax_error"),
    ],
)
def test_a_check_that_does_not_say_yes_passes_nothing(check, said):
    """Only true (or 1) is right; a broken check is named as what it is."""
    _, rows = run({"code_variants": {"a": DOUBLE}, "input": 3, "expected": 6, "check": check})

    assert rows["a"]["scores"]["correctness"] == 0.0
    assert said in rows["a"]["reason"]


def test_a_set_ignores_order_and_repetition_and_nothing_else():
    """[3, 1, 1] is the set {1, 3}; [1] and [1, 2, 3] are not; 1.0 is 1 and true is not."""
    _, rows = run(
        {
            "code_variants": {
                "same": "def solve(x): return [3, 1, 1]",
                "floats": "def solve(x): return [3.0, 1.0]",
                "less": "def solve(x): return [1]",
                "more": "def solve(x): return [1, 2, 3]",
                "bool": "def solve(x): return [True, 3]",
            },
            "input": 0,
            "expected": [1, 3],
            "comparison": "set",
        }
    )

    right = {name for name, row in rows.items() if row["scores"]["correctness"] == 1.0}
    assert right == {"same", "floats"}
    assert rows["less"]["reason"] == "wrong: answer lacks the member 3"
    assert rows["more"]["reason"] == "wrong: answer must not have the member 2"


SCORER = """
def score(task, context, outputs, timings):
    error = abs(outputs["result"] - context["target"])
    return {"closeness": 1 / (1 + error), "told": float(task == "near")}
"""


def test_a_scorer_ranks_where_nothing_is_right_or_wrong():
    """It gets the task, the whole context and the outputs; what it returns is ranked."""
    result, rows = run(
        {
            "code_variants": {"double": DOUBLE, "triple": TRIPLE},
            "input": 5,
            "hidden": {"target": 14},
            "scoring": SCORER.replace('context["target"]', 'context["hidden"]["target"]'),
        },
        task="near",
    )

    assert rows["triple"]["scores"]["closeness"] == 0.5
    assert rows["double"]["scores"]["closeness"] == 0.2
    assert rows["double"]["scores"]["told"] == 1.0
    assert (rows["triple"]["rank"], rows["double"]["rank"]) == (1, 2)
    assert (result["best"], result["status"]) == ("triple", "solved")
    assert rows["triple"]["aggregate"] == 0.75


def test_no_score_makes_up_for_a_wrong_answer():
    """The gate comes first: the right program wins although the scorer likes the other one."""
    scorer = "def score(task, context, outputs, timings): return outputs['result'] == 6 or 9.0"
    _, rows = run(
        {
            "code_variants": {"double": DOUBLE, "triple": TRIPLE},
            "input": 3,
            "expected": 6,
            "scoring": {"lang": "py", "code": scorer.replace("== 6 or 9.0", "- 5.5")},
        }
    )

    assert (rows["double"]["rank"], rows["triple"]["rank"]) == (1, 2)
    assert rows["triple"]["scores"]["aggregate"] == 3.5
    assert rows["double"]["scores"]["aggregate"] == 0.5


@pytest.mark.parametrize(
    "answer",
    ["float('nan')", "{'a': float('inf')}", "{'a': 'good'}", "{}", "None", "{'a': True}", "1 / 0",
     "[1]", "exit()"],
)  # fmt: skip
def test_a_score_that_is_no_finite_number_is_no_score(answer):
    """NaN, infinity, texts, nothing, a crash: the variant is score_invalid, and not ranked well."""
    scorer = f"def score(task, context, outputs, timings): return {answer}"
    result, rows = run({"code_variants": {"a": DOUBLE}, "input": 3, "scoring": scorer})

    assert rows["a"]["status"] == "score_invalid"
    assert "scorer" in rows["a"]["reason"]
    assert (result["best"], result["status"]) == (None, "unsolved")


def test_scores_are_read_strictly():
    """A number stands for the aggregate; without one the mean of the metrics does."""
    assert read_scores(2) == ({"aggregate": 2.0}, "")
    assert read_scores({"a": 1, "b": 0}) == ({"a": 1.0, "b": 0.0, "aggregate": 0.5}, "")
    assert read_scores({"a": 1, "aggregate": 0.9}) == ({"a": 1.0, "aggregate": 0.9}, "")


def test_a_program_cannot_hand_the_scorer_anything_but_json():
    """The scorer sees outputs parsed anew: an object equal to everything is an empty mapping."""
    code = (
        "class Any(dict):\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        "def solve(x): return Any()"
    )
    scorer = "def score(t, c, outputs, ti): return 1.0 if outputs['result'] == 42 else 0.0"
    _, rows = run({"code_variants": {"a": code}, "input": 3, "scoring": scorer})

    assert rows["a"]["scores"]["aggregate"] == 0.0


def test_a_scorer_gets_the_measured_times_in_the_end():
    """Milliseconds of the parent's clock, one time per case; during a search the clock stands."""
    scorer = (
        "def score(task, context, outputs, timings):\n"
        "    return {'ms': timings['duration_ms'], 'cases': len(timings['wall_s'])}"
    )
    slow = "import time\ndef solve(x):\n    time.sleep(0.05)\n    return x"
    result, rows = run(
        {"code_variants": {"a": slow}, "inputs": [1, 2], "scoring": scorer}, repeats=1
    )

    assert rows["a"]["scores"]["ms"] >= 100
    assert rows["a"]["scores"]["cases"] == 2
    assert result["search"]["trials"][0]["score"] == (2 * 1.0 + 2) / 2


def test_report_cases_are_kept_from_the_search_and_shown_beside_it():
    """A program that knows the search's cases by heart is seen to know nothing else."""
    by_heart = "def solve(x): return {2: 4, 3: 9}.get(x, 0)"
    _, rows = run(
        {
            "code_variants": {"square": "def solve(x): return x * x", "by heart": by_heart},
            "inputs": [2, 3],
            "expected": [4, 9],
            "report_inputs": [4, 5, 6],
            "report_expected": [16, 25, 36],
        }
    )

    assert [rows[name]["right"] for name in ("square", "by heart")] == [2, 2]
    assert [rows[name]["report_right"] for name in ("square", "by heart")] == [3, 0]
    assert rows["by heart"]["report_executions"][0]["input"] == 4


def test_robustness_is_the_share_of_odd_inputs_that_end_ok():
    """Odd inputs have no right answer: only whether the program survives them counts."""
    careful = "def solve(x):\n    return x * x if isinstance(x, int) else None"
    result, rows = run(
        {
            "code_variants": {"careful": careful, "plain": "def solve(x): return x * x"},
            "input": 3,
            "expected": 9,
            "robustness_inputs": [None, "text", 0, -1],
        },
        metrics=["correctness", "robustness"],
    )

    assert rows["careful"]["scores"]["robustness"] == 1.0
    assert rows["plain"]["scores"]["robustness"] == 0.5
    assert result["best"] == "careful"
