"""Comparing answers: plain JSON, outside the program, with no surprises."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm_codeworld.plain import MAX_DEPTH, difference, plain_problem
from scillm_codeworld.records import Tolerance

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_what_json_can_hold_is_plain_and_the_same_as_its_copy(value):
    """An answer that went through JSON is equal to what was meant."""
    copy = json.loads(json.dumps(value))

    assert plain_problem(value) is None
    assert difference(copy, value) is None


@given(JSON, JSON)
def test_sameness_does_not_depend_on_the_side(one, other):
    """Two answers are the same whichever of them was expected."""
    assert (difference(one, other) is None) == (difference(other, one) is None)


@given(JSON)
def test_one_changed_entry_is_found(value):
    """A difference is found at any depth, and never hidden by its surroundings."""
    assert difference({"a": [1, value]}, {"a": [2, value]}) == "answer['a'][0] must be 2, but is 1"
    assert difference([value], [value, value]) is not None
    assert difference([value, None], [value, False]) is not None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (0.0, -0.0, True),
        (True, 1, False),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        (2**53, 2.0**53, True),
        (2**53 + 1, 2.0**53, False),
        ([], {}, False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ([1, 2], [2, 1], False),
    ],
)
def test_numbers_are_numbers_and_nothing_else_is(one, other, same):
    """1 and 1.0 are the same; true and 1, null and false, order and missing keys are not."""
    assert (difference(one, other) is None) is same


@given(st.floats(-1e300, 1e300), st.floats(0, 1e-3))
def test_tolerance_is_relative_to_the_expected_number(wanted, relative):
    """What is within the tolerance is the same, what is clearly outside is not."""
    tolerance = Tolerance(relative=relative)
    inside = wanted + 0.99 * relative * abs(wanted)
    outside = wanted + (1.01 * relative + 1e-12) * abs(wanted) + 1e-300

    assert abs(inside - wanted) > relative * abs(wanted) or not difference(
        inside, wanted, tolerance
    )
    assert outside == wanted or difference(outside, wanted, tolerance) is not None


def test_tolerance_works_beyond_the_range_of_floats():
    """Integers too large for a float are compared exactly."""
    huge = 10**400

    assert difference(huge + 1, huge, Tolerance(relative=1e-9)) is None
    assert difference(2 * huge, huge, Tolerance(relative=1e-9)) is not None


def test_a_number_too_long_to_print_can_still_be_wrong():
    """The message names it without its digits."""
    assert difference(10**5000, 1) == "answer must be 1, but is a very long integer"


def test_tolerance_does_not_make_other_things_the_same():
    """true is not near 1, however large the tolerance."""
    wide = Tolerance(relative=9.0, absolute=9.0)

    assert difference([True], [1], wide) is not None
    assert difference("a", "b", wide) is not None
    assert difference(5, 1, wide) is None


def _nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def _circle():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        (1, 2),
        {1, 2},
        b"x",
        [[math.nan]],
        {"a": {"b": object()}},
        _nested(MAX_DEPTH + 1),
        _circle(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_could_not_be_stored_is_refused_with_a_reason(value):
    """NaN, lone surrogates, odd keys, foreign types, bottomless nesting: none gets through."""
    assert plain_problem(value)


def test_the_deepest_allowed_nesting_is_allowed():
    """The bound is where it is said to be."""
    assert plain_problem(_nested(MAX_DEPTH)) is None
