"""Scores and ranks follow from what happened, and from nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm_codeworld.judge.noise import NOISE, relative
from scillm_codeworld.judge.score import judged
from scillm_codeworld.records import (
    NOT_RUN,
    OK,
    SANDBOX_REFUSED,
    STATUSES,
    Execution,
    Item,
    Trace,
    Variant,
)

CASES = 3
ENDS = st.sampled_from(STATUSES)
RUNS = st.builds(
    lambda status, output, wall_s: Execution(
        status=status, output=output if status == OK else None, reason=status, wall_s=wall_s
    ),
    st.sampled_from([OK, OK, OK, OK, *STATUSES]),
    st.sampled_from([1, 1, 1, 2]),
    st.floats(1e-5, 1.0),
)
TRACES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.tuples(
        st.sampled_from(["x = 1\n", "x = 1\n\ny = 2\n", "a\nb\nc\nd"]),
        st.lists(st.lists(RUNS, min_size=1, max_size=3), min_size=CASES, max_size=CASES),
    ),
    min_size=1,
    max_size=6,
).map(
    lambda rows: [
        Trace(variant=Variant(id=name, code=code), cases=cases)
        for name, (code, cases) in rows.items()
    ]
)


def item_of(traces, *, expected=(1, 1, 1)):
    """An item whose right answer is always 1."""
    return Item(
        id="i",
        index=0,
        task="t",
        variants=[trace.variant for trace in traces],
        inputs=[0] * CASES,
        expected=expected,
    )


def trace(name, *statuses, outputs=(1, 1, 1), walls=(), code="x"):
    """A variant with one run per case, or several when `walls` gives their times."""
    cases = [
        [
            Execution(status=status, output=output, reason="why", wall_s=0.1),
            *(Execution(status=status, output=output, reason="why", wall_s=w) for w in walls),
        ]
        for status, output in zip(statuses, outputs, strict=True)
    ]
    return Trace(variant=Variant(id=name, code=code), cases=cases)


@given(TRACES, st.randoms())
def test_the_order_of_variants_changes_nothing(traces, luck):
    """Ranks and scores are the same whoever comes first in the file."""
    shuffled = list(traces)
    luck.shuffle(shuffled)

    assert judged(item_of(traces), traces) == judged(item_of(shuffled), shuffled)


@given(TRACES)
def test_a_failing_variant_scores_nothing_and_never_outranks_one_that_ran(traces):
    """Whatever else is good about it: one case that did not end ok, and it is worth 0."""
    rows = judged(item_of(traces), traces)
    failed = [row for row in rows if row.status not in (OK, NOT_RUN)]
    ran = [row for row in rows if row.status == OK]

    assert all(not row.correctness and not row.aggregate and row.reason for row in failed)
    assert all(good.rank < bad.rank for good in ran for bad in failed if bad.rank is not None)


@given(TRACES)
def test_nobody_outranks_a_variant_that_is_right_more_often(traces):
    """No speed and no brevity makes up for a wrong answer."""
    rows = [row for row in judged(item_of(traces), traces) if row.rank is not None]

    assert all(
        a.rank < b.rank
        for a in rows
        for b in rows
        if a.status == b.status == OK and a.correctness > b.correctness
    )


@given(TRACES)
def test_scores_stay_in_their_range_and_full_marks_need_every_case(traces):
    """All scores lie in [0, 1]; correctness 1 means right in every execution of every case."""
    for row in judged(item_of(traces), traces):
        found = (row.correctness, row.aggregate, row.speed, row.brevity)
        assert all(0.0 <= score <= 1.0 for score in found if score is not None)
        runs = [run for t in traces if t.variant == row.variant for case in t.cases for run in case]
        assert (row.correctness == 1.0) == all(r.status == OK and r.output == 1 for r in runs)
        assert row.speed is None or row.correctness == 1.0


@given(TRACES)
def test_without_expected_answers_nothing_is_called_correct(traces):
    """No expected answers: no correctness, no aggregate, no rank."""
    rows = judged(item_of(traces, expected=None), traces)

    assert all((r.correctness, r.aggregate, r.rank) == (None, None, None) for r in rows)
    assert all(right is None for row in rows for right in row.right)
    assert all(row.reason for row in rows)


@given(st.dictionaries(st.text("abc", max_size=3), st.floats(1e-4, 10), max_size=8))
def test_speeds_follow_the_times_and_noise_is_a_tie(times):
    """The fastest has speed 1, nobody faster is called slower, and near times are equal."""
    speeds = relative(times, floors={})

    assert speeds.keys() == times.keys()
    assert not times or max(speeds.values()) == 1.0
    for a, b in ((a, b) for a in times for b in times if times[a] <= times[b]):
        assert speeds[a] >= speeds[b]
    fastest = min(times.values(), default=0.0)
    assert all(speeds[n] == 1.0 for n, t in times.items() if t - fastest <= NOISE * fastest)


def test_the_weights_are_seven_two_one():
    """By hand: fast and long .7 + .2 + .1 * 1/2; slow and short .7 + .2 * 1/4 + .1."""
    fast = trace("fast", OK, OK, OK, walls=(0.5,), code="a\n\nb")
    slow = trace("slow", OK, OK, OK, walls=(2.0,), code="a")
    half = trace("part", OK, OK, OK, outputs=(1, 1, 2))

    rows = {row.variant.id: row for row in judged(item_of([fast]), [half, slow, fast])}

    assert (rows["fast"].aggregate, rows["fast"].rank) == (0.95, 1)
    assert (rows["slow"].aggregate, rows["slow"].rank) == (0.85, 2)
    assert (rows["part"].aggregate, rows["part"].rank) == (round(0.7 * 2 / 3, 4), 3)
    assert rows["fast"].wall_s == 1.5


def test_equally_good_variants_share_a_rank_and_the_next_one_is_left_out():
    """1, 1, 3: as in sports."""
    twins = [trace(name, OK, OK, OK, walls=(0.1,)) for name in ("b", "a")]
    rows = judged(item_of(twins), [*twins, trace("c", OK, OK, OK, outputs=(2, 2, 2))])

    assert [(row.variant.id, row.rank) for row in rows] == [("a", 1), ("b", 1), ("c", 3)]


@pytest.mark.parametrize("status", [s for s in STATUSES if s not in (OK, NOT_RUN)])
def test_the_first_failing_case_is_named(status):
    """Status and reason say what happened and in which case."""
    row = judged(item_of([]), [trace("v", OK, status, NOT_RUN)])[0]

    assert row.status == status
    assert row.reason == "case 2 of 3: why"


def test_a_variant_the_sandbox_refused_is_not_called_wrong():
    """Nothing was run, so nothing is known: no correctness, no rank."""
    row = judged(item_of([]), [trace("v", SANDBOX_REFUSED, NOT_RUN, NOT_RUN)])[0]

    assert (row.status, row.correctness, row.rank) == (SANDBOX_REFUSED, None, None)
    assert list(row.right) == [None, None, None]


def test_a_wrong_repeat_makes_the_case_wrong():
    """A program that is right only the first time is not right."""
    runs = [Execution(status=OK, output=answer, wall_s=0.1) for answer in (1, 1, 2)]
    flaky = Trace(variant=Variant(id="v", code="x"), cases=[runs, runs[:2], runs[:2]])

    row = judged(item_of([]), [flaky])[0]

    assert list(row.right) == [False, True, True]
    assert "wrong in 1 of 3 cases" in row.reason
