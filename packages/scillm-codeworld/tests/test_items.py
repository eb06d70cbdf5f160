"""Items: what is malformed is named, and costs no other item anything."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UsageError
from scillm_codeworld.items import parse_items
from scillm_codeworld.options import Options, parse_options
from scillm_codeworld.records import BadItem, Item, Tolerance

CODE = {"a": "def solve(x): return x"}
GOOD = {"task": "t", "context": {"code_variants": CODE, "input": 1, "expected": 1}}


def context(**changes):
    """A good item whose context has these changes; None removes a key."""
    merged = {**GOOD["context"], **changes}
    return {"task": "t", "context": {k: v for k, v in merged.items() if v is not None}}


MALFORMED = [
    ("text", "mapping"),
    ({}, "task"),
    ({"task": "t"}, "context"),
    ({"task": " ", "context": {}}, "task"),
    ({**GOOD, "spec": "s"}, "not both"),
    ({**GOOD, "task": "\ud800"}, "task holds"),
    ({**GOOD, "id": "a", "task_id": "b"}, "not both"),
    ({**GOOD, "tolerence": 1e-9}, "'tolerence'"),
    ({**GOOD, "id": 7}, "item id"),
    ({**GOOD, "id": "a/b"}, "item id"),
    ({**GOOD, "id": "a\nb"}, "item id"),
    ({**GOOD, "metadata": {1: 2}}, "metadata"),
    (context(code_variants=None), "code_variants"),
    (context(code_variants={}), "empty"),
    (context(code_variants="code"), "code_variants"),
    (context(code_variants={"a": 5}), "code of variant 'a'"),
    (context(code_variants={"a": "\ud800"}), "code of variant 'a'"),
    (context(code_variants={3: "x"}), "id of a variant"),
    (context(code_variants=[{"id": "a", "code": "x"}] * 2), "came twice"),
    (context(code_variants=[{"id": "a"}]), "{id, code}"),
    (context(timeout=3), "'timeout'"),
    (context(input=None), "input"),
    (context(inputs=[1]), "either input"),
    (context(input=None, inputs=[]), "at least one case"),
    (context(input=None, inputs={"a": 1}), "inputs must be a list"),
    (context(input=None, inputs=[1, 2], expected=[1]), "list of 2 answers"),
    (context(input=None, inputs=[1, 2], expected=5), "list of 2 answers"),
    (context(input=math.nan), "input is nan"),
    (context(expected=[math.inf]), "expected[0] is inf"),
    (context(expected=(1, 2)), "tuple"),
    (context(entry="not a name"), "entry"),
    (context(tolerance=-1.0), "tolerance.relative"),
    (context(tolerance=math.nan), "tolerance.relative"),
    (context(tolerance=True), "tolerance"),
    (context(tolerance={}), "tolerance"),
    (context(tolerance={"rel": 1}), "tolerance"),
    ({**context(tolerance=1), "tolerance": 1}, "give it once"),
    (context(code_variants={"a": {"lang": "python"}}), "{code, language}"),
    (context(code_variants={"a": {"code": "x", "language": "cobol"}}), "'cobol'"),
    (context(code_variants=[{"id": "a", "code": "x", "language": 3}]), "is in 3"),
    (context(code_variants={"a": "é" * 500_001}), "1000002 bytes"),
    (context(robustness_inputs=3), "robustness_inputs must be a list"),
    (context(robustness_inputs=[math.nan]), "robustness_inputs"),
    (context(report_inputs=[1]), "report_expected exactly when"),
    (context(report_inputs=[1], report_expected=[]), "must have 1 answers"),
    (context(report_expected=[1]), "must have 0 answers"),
    (context(comparison="fuzzy"), "comparison must be"),
    (context(check=["x"]), "the check must be a text"),
    (context(scoring=3), "scoring must be code"),
    (context(scoring={"entry": "f"}), "scoring must be code"),
    (context(scoring={"code": "x", "entry": "not a name"}), "scoring.entry"),
    (context(scoring={"code": "x", "lang": "lua"}), "scoring.lang"),
    (context(scoring={"code": "x", "speed": 1}), "'speed'"),
    (context(hidden=math.inf), "hidden is inf"),
]


@pytest.mark.parametrize(("item", "named"), MALFORMED, ids=[why for _, why in MALFORMED])
def test_a_malformed_item_is_named_and_the_others_are_not_harmed(item, named):
    """The reason says what is wrong; the good items around it are taken as they are."""
    before, bad, after = parse_items([GOOD, item, {**GOOD, "id": "last"}])

    assert isinstance(bad, BadItem)
    assert named in bad.reason
    assert isinstance(before, Item)
    assert isinstance(after, Item)
    assert (before.id, after.id) == ("item-1", "last")


def test_a_doubled_id_is_the_second_ones_fault_and_ids_stay_distinct():
    """Every result can be told from every other."""
    rows = parse_items([{**GOOD, "id": "x"}, {**GOOD, "task_id": "x"}, {**GOOD, "item_id": "y"}])
    others = parse_items([{**GOOD, "id": name} for name in ("x", "x", "x#2", "x#2'", "x")])

    assert [row.id for row in rows] == ["x", "x#2", "y"]
    assert [row.id for row in others] == ["x", "x#2''", "x#2", "x#2'", "x#5"]
    assert [isinstance(row, BadItem) for row in others] == [False, True, False, False, True]
    assert isinstance(rows[1], BadItem)
    assert "already that of item 1" in rows[1].reason


@given(st.lists(st.just(GOOD) | st.sampled_from([bad for bad, _ in MALFORMED]), max_size=6))
def test_there_is_one_answer_per_item_with_an_id_of_its_own(items):
    """Nothing is dropped and nothing is merged."""
    rows = parse_items(items)

    assert [row.index for row in rows] == list(range(len(items)))
    assert len({row.id for row in rows}) == len(items)


def test_an_input_is_one_case_and_inputs_are_many():
    """`input: [1, 2]` is one case that is a list; `inputs: [1, 2]` are two cases."""
    one, many = parse_items(
        [
            context(input=[1, 2], expected=[3]),
            context(input=None, inputs=[1, 2], expected=[3, 4]),
        ]
    )

    assert (one.inputs, one.expected) == ([[1, 2]], [[3]])
    assert (many.inputs, many.expected) == ([1, 2], [3, 4])


def test_an_expected_null_is_an_answer_and_a_missing_one_is_not():
    """`expected: null` asks for null."""
    null, missing = parse_items(
        [{**GOOD, "context": {**GOOD["context"], "expected": None}}, context(expected=None)]
    )

    assert null.expected == [None]
    assert missing.expected is None


def test_entry_and_tolerance_may_stand_in_the_item_or_in_its_context():
    """Both places mean the same."""
    outside, inside = parse_items(
        [
            {**GOOD, "entry": "f", "tolerance": {"absolute": 2}},
            context(entry="f", tolerance={"absolute": 2}),
        ]
    )

    assert outside.entry == inside.entry == "f"
    assert outside.tolerance == inside.tolerance == Tolerance(absolute=2.0)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 3},
        {"timeout_s": 0},
        {"timeout_s": math.nan},
        {"timeout_s": "5"},
        {"timeout_s": True},
        {"memory_mb": 1},
        {"memory_mb": 512.5},
        {"repeats": -1},
        {"repeats": True},
        {"width": 0},
        {"output_bytes": 0},
        {"workers": 0},
        {"fail_fast": 1},
        {"strategy": 3},
        {"budget": {"hours": 1}},
        {"budget": {"rollouts": float("nan")}},
        {"budget": {"rollouts": 0}},
        {"judge": "loudest"},
        {"judge": {"mode": "pareto", "jury": 12}},
        {"judge": {"weights": {"speed": -1}}},
        {"judge": {"weights": {"speed": 0}}},
        {"judge": {"weights": {}}},
        {"judge": {"order": 3}},
        {"judge": {"model": 3}},
        {"metrics": [3]},
        {"metrics": "speed"},
        {"metrics": ["speed", "speed"]},
        {"isolation": 3},
        {"allowed_languages": "python"},
        {"allowed_modules": "numpy"},
        {"allowed_modules": ["numpy", "scillm"]},
        {"allowed_modules": [["numpy"]]},
    ],
    ids=repr,
)
def test_an_option_that_cannot_be_used_is_refused_by_name(options):
    """No option is ignored, and none is quietly corrected."""
    with pytest.raises(UsageError) as refusal:
        parse_options(options)

    assert next(iter(options)) in refusal.value.message


def test_options_go_through_json_unchanged():
    """What a manifest keeps is what a replay runs with."""
    options = parse_options({"timeout_s": 2, "width": 3, "workers": 4, "metrics": ["speed"]})

    assert parse_options(options.to_dict()) == options
    assert options == Options(timeout_s=2, width=3, workers=4, metrics=("speed",))


@pytest.mark.parametrize(
    "sugar",
    [
        {"strategy": "mcts", "rollouts": 9, "uct_c": 0.3},
        {"strategy": "mcts", "rollouts": 9, "exploration_constant": 0.3},
        {"strategy": "mcts", "rollouts": 9, "uct_c": 0.3, "exploration_constant": 7},
        {"strategy_config": {"name": "mcts", "rollouts": 9, "uct_c": 0.3}},
        {"strategy": {"name": "mcts", "rollouts": 9, "uct_c": 0.3}},
        {"strategy": "mcts", "params": {"uct_c": 0.3}, "budget": {"rollouts": 9}},
    ],
    ids=repr,
)
def test_every_spelling_of_a_search_means_the_same(sugar):
    """The older names of the parameters still do what they say; `uct_c` wins over its alias."""
    options = parse_options(sugar)

    assert (options.strategy, options.params, options.budget) == (
        "mcts",
        {"uct_c": 0.3},
        {"rollouts": 9},
    )
