"""Bad input gets a clear answer, and the rest of the batch is unharmed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UsageError
from scillm_certainly.intake import cache_key, checked_policy, fault_of, imports_of
from scillm_certainly.items import BadItem, parse_items, policy_of, storable
from scillm_certainly.records import STANDARD_AXIOMS, CheckRequest, Policy

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["id", "code", "lean", "text", "reference", "axioms", "heartbeats", "max_seconds",
     "requirement_text", "odd"]
)  # fmt: skip


@given(items=st.lists(JSON | st.dictionaries(KEYS, JSON, max_size=4), max_size=5))
def test_any_items_get_one_answer_each(items: list[object]) -> None:
    """Whatever stands in a batch, every item has its own request or its own reason."""
    parsed = parse_items(items)  # type: ignore[arg-type]

    assert len(parsed) == len(items)
    assert len({row.id for row in parsed}) == len(items)
    assert all(row.reason for row in parsed if isinstance(row, BadItem))


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({}, "no code"),
        ({"code": 3}, "must be text"),
        ({"code": "x", "text": "y"}, "both given"),
        ({"code": "x", "cmd": "rm"}, "unknown key 'cmd'"),
        ({"code": "x", "heartbeats": -1}, "heartbeats"),
        ({"code": "x", "max_seconds": -5}, "time of a check"),
        ({"code": "x", "max_seconds": float("nan")}, "time of a check"),
        ({"code": "x", "axioms": ["a b"]}, "is no name"),
        ({"code": "x", "axioms": "propext"}, "list of names"),
        ({"id": ["a"], "code": "x"}, "an id is text"),
        ({"id": True, "code": "x"}, "an id is text"),
        ("theorem", "a mapping"),
        ({"requirement_text": " "}, "not empty"),
    ],
)
def test_a_bad_item_says_what_is_wrong(item: object, reason: str) -> None:
    """The reason names the part that has to be changed."""
    (found, good) = parse_items([item, {"code": "theorem t : True := trivial"}])  # type: ignore[list-item]

    assert isinstance(found, BadItem)
    assert reason in found.reason
    assert isinstance(good, CheckRequest)


def test_an_id_is_kept_as_text() -> None:
    """A number is an id too, also 0; without one an item is named by its place."""
    code = "theorem t : True := trivial"
    parsed = parse_items([{"id": 0, "code": code}, {"code": code}, {"id": "", "code": code}])

    assert [row.id for row in parsed] == ["0", "item-2", "item-3"]


def test_names_for_doubles_are_never_doubles() -> None:
    """Whatever ids a batch uses, each of its answers has one of its own."""
    code = "theorem t : True := trivial"
    parsed = parse_items([{"id": row, "code": code} for row in ("a#3", "a", "a", "a#3")])

    assert len({row.id for row in parsed}) == 4
    assert [isinstance(row, BadItem) for row in parsed] == [False, False, True, True]


def test_a_second_item_with_the_same_id_is_refused_alone() -> None:
    """Two items with one id get two answers; the first is checked."""
    first, second = parse_items([{"id": "a", "code": "x"}, {"id": "a", "code": "y"}])

    assert isinstance(first, CheckRequest)
    assert isinstance(second, BadItem)
    assert "came before" in second.reason


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"colour": 1}, "Unknown option 'colour'"),
        ({"axioms": "propext"}, "list of names"),
        ({"heartbeats": True}, "heartbeats"),
        ({"heartbeats": 1.5}, "heartbeats"),
        ({"check_seconds": "1"}, "seconds of a check"),
        ({"max_seconds": -1}, "max_seconds must be"),
        ({"max_seconds": 0}, "max_seconds must be"),
        ({"max_seconds": float("inf")}, "max_seconds must be"),
        ({"max_seconds": "5"}, "max_seconds must be"),
    ],
)
def test_an_option_that_cannot_be_kept_is_named(options: dict[str, object], says: str) -> None:
    """A wrong option is an error, never a silent default."""
    with pytest.raises(UsageError, match=says):
        policy_of(options)


def test_known_flags_of_older_clients_change_nothing() -> None:
    """What older clients ask for is what is always done."""
    assert policy_of({"flags": ["--no-llm", "--deterministic"]}) == Policy(axioms=STANDARD_AXIOMS)


@pytest.mark.parametrize("item", [{"code": float("nan")}, {"code": {1, 2}}])
def test_what_has_no_json_form_is_refused_alone(item: object) -> None:
    """An item that cannot be written down is a bad item of the job, which goes on."""
    (found,) = parse_items([storable(item)])

    assert isinstance(found, BadItem)
    assert "no JSON form" in found.reason
    assert storable({"code": "x"}) == {"code": "x"}


@pytest.mark.parametrize(
    "flags", [["--output-file=/etc/passwd"], ["-o"], "--no-llm", [{}], [["-o"]], [None]]
)
def test_an_unknown_flag_is_refused(flags: object) -> None:
    """Flags of older clients never reach a command line; one that is unknown is an error."""
    with pytest.raises(UsageError, match=r"Unknown flag|must be a list"):
        policy_of({"flags": flags})


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "no code"),
        ("  \n", "no code"),
        ("a\0b", "NUL"),
        ("\ud800", "surrogate"),
        ("x" * 10_000_000, "at most"),
    ],
)
def test_code_that_is_no_text_never_reaches_lean(code: str, reason: str) -> None:
    """Empty, broken and oversized code is named as that."""
    assert reason in fault_of(CheckRequest(code=code))


@given(
    heartbeats=st.integers(), time_s=st.floats(allow_nan=True), axioms=st.lists(st.text(max_size=3))
)
def test_a_policy_is_kept_or_refused(heartbeats: int, time_s: float, axioms: list[str]) -> None:
    """A policy that comes through can be kept."""
    policy = Policy(heartbeats=heartbeats, time_s=time_s, axioms=axioms)
    try:
        checked = checked_policy(policy)
    except UsageError:
        return

    assert checked.heartbeats > 0
    assert 0 < checked.time_s <= 3600
    assert all(name and not name[0].isdigit() for name in checked.axioms)


@pytest.mark.parametrize(
    ("code", "imports"),
    [
        ("theorem t : True := trivial", ()),
        ("import Std\nimport Lean", ("Lean", "Std")),
        ("-- a\n/- b -/ import Lean.Elab\ntheorem t", ("Lean.Elab",)),
        ("module\npublic meta import Lean\n", ("Lean",)),
        ("theorem t : True := by\n  -- import Std\n  trivial", ()),
    ],
)
def test_imports_are_read_from_the_head(code: str, imports: tuple[str, ...]) -> None:
    """A worker that has these modules warm is preferred."""
    assert imports_of(code) == imports


def test_the_cache_tells_requests_apart() -> None:
    """Another policy, reference or code is another question; the id and the time limit are not."""
    base = CheckRequest(code="a")
    others = [
        CheckRequest(code="b"),
        CheckRequest(code="a", reference="a"),
        CheckRequest(code="a", policy=Policy(axioms=())),
        CheckRequest(code="a", policy=Policy(heartbeats=1)),
    ]

    assert len({cache_key(row) for row in (base, *others)}) == 5
    assert cache_key(CheckRequest(code="a", id="x", policy=Policy(time_s=1))) == cache_key(base)
