"""The examples of the documentation run, and each variant does what its file says."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from scillm.records import Job
from scillm_codeworld.engine.jobs import CodeWorldEngine
from scillm_codeworld.files import read_items

FOLDER = Path(__file__).parents[3] / "docs" / "examples" / "codeworld"
FAILING = {
    "pairwise-recursive": "exception",
    "last-letters": "exception",
    "table-for-any-word": "memory",
    "newton-from-zero": "exception",
    "with-scipy": "exception",
    "capitals-only": "exception",
    "half-written": "syntax_error",
    "no-dead-ends": "exception",
    "endless-walk": "timeout",
    "quicksort-without-an-end": "exception",
    "swap-until-quiet": "timeout",
}
WRONG = {
    "accurate-sum": {"plain-loop", "kahan"},
    "edit-distance": {"count-places"},
    "kepler": {"ten-fixed-point-steps"},
    "roman": {"no-subtraction"},
    "shortest-path": {"fewest-edges"},
    "sorting": {"through-a-set"},
}
FAST_AND_SLOW = {
    "accurate-sum": ("fsum", "fractions"),
    "edit-distance": ("two-rows", "plain-recursion"),
    "kepler": ("newton-from-pi", "scan-and-refine"),
    "roman": ("look-ahead", "write-them-all"),
    "shortest-path": ("dijkstra", "all-pairs"),
    "sorting": ("builtin", "bubble"),
}


@pytest.fixture(scope="module")
def results():
    """The results of all examples by item, with a shorter timeout and more repeats than usual."""
    items = read_items([FOLDER])
    job = Job(engine="codeworld", items=items, options={"timeout_s": 3.0, "repeats": 7})
    found = anyio.run(CodeWorldEngine().run, job)
    return {result["item_id"]: result for result in found.results}


def test_there_are_at_least_six_items_with_four_variants_each(results):
    """Sorting, numbers, text, a graph, a recurrence, science."""
    assert len(results) >= 6
    assert set(results) == set(FAST_AND_SLOW)
    assert all(len(result["variants"]) >= 4 for result in results.values())


def test_the_fast_right_variant_wins_and_the_slow_one_is_second(results):
    """Right and slow is better than wrong, and slower than right and fast.

    Where a busy machine's noise is as large as the difference, calling them equal is honest.
    """
    for name, (fast, slow) in FAST_AND_SLOW.items():
        rows = {row["id"]: row for row in results[name]["variants"]}
        assert results[name]["best"] == fast, results[name]
        assert (rows[fast]["rank"], rows[slow]["rank"]) == (1, 2), rows
        difference_s = rows[slow]["wall_s"] - rows[fast]["wall_s"]
        noise_s = max(rows[fast]["noise_s"], rows[slow]["noise_s"])
        assert rows[slow]["scores"]["speed"] < 0.9 or 0 < difference_s <= noise_s, rows


def test_the_wrong_variants_ran_and_are_wrong(results):
    """A plausible mistake costs its points, and no more than a crash does."""
    for name, wrong in WRONG.items():
        for row in results[name]["variants"]:
            ran_wrong = row["status"] == "ok" and row["scores"]["correctness"] < 1
            assert ran_wrong == (row["id"] in wrong), row


def test_the_failing_variants_fail_as_their_files_say(results):
    """Crash, timeout, memory, syntax: each with its own status and a reason, each worth 0."""
    failed = {
        row["id"]: row["status"]
        for result in results.values()
        for row in result["variants"]
        if row["status"] != "ok"
    }

    assert failed == FAILING
    assert all(
        row["aggregate"] == 0 and row["reason"]
        for result in results.values()
        for row in result["variants"]
        if row["id"] in FAILING
    )
