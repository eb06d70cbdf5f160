"""Properties of the command line's pure parts: rows, changes, alignment, escapes, masks."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from scillm.cli.checks import masked
from scillm.cli.commands import exit_code
from scillm.cli.output import aligned, visible
from scillm.cli.run_rows import ABSENT, arrow, changes, pairs
from scillm.errors import (
    PluginConflictError,
    PluginLoadError,
    PluginNotFoundError,
    RateLimitError,
    SettingsError,
    UsageError,
)
from scillm.records import Check
from scillm.runs.canonical import canonical_json

NAMES = st.text(alphabet="abc", min_size=1, max_size=3)
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text(alphabet="xy→", max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_changes_are_empty_exactly_for_equal_values(then: object, now: object) -> None:
    """A difference is told if and only if the canonical texts differ, as for the digests."""
    told = list(changes(then, now))

    assert bool(told) is (canonical_json(then) != canonical_json(now))


@given(st.dictionaries(NAMES, VALUES, max_size=4), NAMES, SCALARS)
def test_a_change_is_told_where_it_is(value: dict[str, object], name: str, new: object) -> None:
    """One changed entry of a mapping is told as that entry, with both values."""
    before = {**value, name: "before"}
    after = {**value, name: [new]}

    assert list(changes(before, after)) == [(name, "before", [new])]


def test_absent_is_not_null() -> None:
    """A value that is gone is told apart from one that became null."""
    assert arrow({"a": 1, "b": 2}, {"a": None}) == "a: 1 → null; b: 2 → (absent)"
    assert arrow(ABSENT, {"a": 1}) == '(absent) → {"a": 1}'


def test_nested_names_are_joined_by_dots() -> None:
    """A nested mapping reads as one line of name=value; an empty one is still there."""
    value = {"a": {"b": 1, "c": {"d": "x"}}, "e": {}, "f": [1, None]}

    assert list(pairs(value)) == ["a.b=1", "a.c.d=x", "e={}", "f=[1, null]"]


@given(st.text())
def test_visible_text_holds_no_control_character(text: str) -> None:
    """Whatever goes in, what comes out cannot move a cursor or break a line."""
    shown = visible(text)

    kinds = {unicodedata.category(char) for char in shown}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    assert "\u202e" not in shown


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Z"])))
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    """Letters, digits, marks and symbols of any script are left alone."""
    assert visible(text) == text


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.text(alphabet="ab\nc", max_size=5), min_size=width, max_size=width),
            min_size=1,
            max_size=5,
        )
    )
)
def test_aligned_text_has_one_line_per_row_and_every_cell_in_its_column(
    rows: list[list[str]],
) -> None:
    """A table in a pipe can be cut by column: each cell stands whole below its title."""
    titles = [f"T{number}" for number in range(len(rows[0]))]

    lines = aligned(titles, rows).split("\n")

    starts = [lines[0].index(title) for title in titles]
    assert len(lines) == len(rows) + 1
    for line, row in zip(lines[1:], rows, strict=True):
        for cell, start, stop in zip(row, starts, [*starts[1:], None], strict=True):
            assert line[start:stop].rstrip() == visible(cell)


def test_wide_characters_keep_the_columns() -> None:
    """A character that takes two cells of a terminal is counted as two."""
    assert aligned(["n", "v"], [["漢字", "x"], ["abcd", "y"]]) == "n     v\n漢字  x\nabcd  y"


@given(st.lists(st.text(alphabet="ab", min_size=4, max_size=8), max_size=3), st.text("ab "))
def test_no_secret_is_left_in_a_check(secrets: list[str], text: str) -> None:
    """However secrets overlap, none of them is readable in a report."""
    check = Check(name=text, ok=False, detail=text, fix=text)

    [shown] = masked([check], secrets)

    assert not [s for s in secrets for part in (shown.name, shown.detail, shown.fix) if s in part]
    assert shown.ok is False


def test_exit_codes_tell_wrong_usage_from_failure() -> None:
    """2 is for the caller to correct; what an upstream or an installed plugin did is 1."""
    usage = [UsageError("x"), SettingsError("x"), PluginNotFoundError("x")]
    failure = [RateLimitError("x"), PluginLoadError("x"), PluginConflictError("x")]

    assert {exit_code(error) for error in usage} == {2}
    assert {exit_code(error) for error in failure} == {1}
