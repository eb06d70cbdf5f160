"""Python types: what they look like as JSON Schema, and how values become their instances."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, Optional

import attrs
import cattrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import SchemaError, UsageError
from scillm.structured import check, json_schema, structure
from typing_extensions import NotRequired, Required, TypedDict


@attrs.frozen
class Item:
    name: str
    price: float = attrs.field(validator=attrs.validators.gt(0))
    tags: list[str] = attrs.field(factory=list)
    seen: int = attrs.field(default=0, init=False)


@attrs.frozen
class Node:
    value: int
    kids: list[Node]
    when: dt.datetime | None = None


class Model(pydantic.BaseModel):
    a: int = pydantic.Field(gt=3)
    sub: Optional[Model] = None  # noqa: UP045 - pydantic on 3.10
    day: dt.date


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    day: dt.date
    odd: int

    @pydantic.field_validator("odd")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Movie(TypedDict, total=False):
    title: Required[str]
    year: int


class Book(TypedDict):
    title: str
    year: NotRequired[int]


@dataclasses.dataclass
class Shelf:
    item: Item
    model: Model
    other: int | str | list[Item]
    films: Sequence[Movie] = ()
    by_name: dict[str, Item] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Lost:
    what: Absent  # noqa: F821 # pyright: ignore[reportUndefinedVariable]


@attrs.define
class Untyped:
    x = attrs.field()  # pyright: ignore[reportGeneralTypeIssues]


class Inner:
    @attrs.frozen
    class Item:
        size: int


@attrs.frozen
class Both:
    one: Item
    two: Inner.Item


Years = NewType("Years", int)
ITEM = {"name": "a", "price": 2}
MODEL = {"a": 4, "day": "2026-01-01"}

FITTING = [
    (Item, ITEM, Item("a", 2.0)),
    (Node, {"value": 1, "kids": [{"value": 2, "kids": []}]}, Node(1, [Node(2, [])])),
    (
        Node,
        {"value": 1, "kids": [], "when": "2026-01-01T00:00:00Z"},
        Node(1, [], dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)),
    ),
    (Model, MODEL, Model(a=4, day=dt.date(2026, 1, 1))),
    (list[Model], [MODEL], [Model(a=4, day=dt.date(2026, 1, 1))]),
    (Strict, {"day": "2026-01-01", "odd": 3}, Strict(day=dt.date(2026, 1, 1), odd=3)),
    (Movie, {"title": "x"}, {"title": "x"}),
    (Book, {"title": "x", "year": 1}, {"title": "x", "year": 1}),
    (
        Shelf,
        {"item": ITEM, "model": MODEL, "other": [ITEM], "by_name": {"n": ITEM}},
        Shelf(
            Item("a", 2.0), Model(a=4, day=dt.date(2026, 1, 1)), [Item("a", 2.0)],
            by_name={"n": Item("a", 2.0)},
        ),
    ),
    (Both, {"one": ITEM, "two": {"size": 1}}, Both(Item("a", 2.0), Inner.Item(1))),
    (Colour, "red", Colour.RED),
    (Literal["a", 1], 1, 1),
    (int | None, None, None),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[()], [], ()),
    (set[int], [1, 2], {1, 2}),
    (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (Annotated[int, "in years"], 3, 3),
    (Years, 3, 3),
    (uuid.UUID, str(uuid.UUID(int=1)), uuid.UUID(int=1)),
    (decimal.Decimal, "1.50", decimal.Decimal("1.50")),
    (dict, {"a": [1]}, {"a": [1]}),
    (list, [1], [1]),
    (Any, {"x": 1}, {"x": 1}),
    (None, None, None),
    (bool, True, True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "wanted"), FITTING, ids=lambda v: repr(v)[:30])
def test_a_fitting_value_becomes_an_instance(kind, value, wanted):
    """Nested classes, unions, dates and enums arrive as what the type says."""
    assert structure(value, kind) == wanted
    check(value, json_schema(kind))


REFUSED = [
    (Item, {"name": 1, "price": 2}, "/name"),
    (Item, {"name": "a", "price": 2, "more": 1}, ""),
    (Item, {"name": "a", "price": -2}, ""),
    (list[Item], [ITEM, {"name": "a", "price": -2}], "/1"),
    (dict[str, Item], {"k": {"name": "a", "price": -2}}, "/k"),
    (Node, {"value": 1, "kids": [], "when": "no"}, "/when"),
    (Model, {"a": 1, "day": "2026-01-01"}, "/a"),
    (list[Strict], [{"day": "2026-01-01", "odd": 2}], "/0/odd"),
    (Strict, {"day": "2026-13-01", "odd": 1}, "/day"),
    (int, "1", ""),
    (int, True, ""),
    (bool, 1, ""),
    (str, 1, ""),
    (dt.date, "yesterday", ""),
    (Item | None, {"name": "a", "price": -2}, ""),
    (tuple[int, str], [1], ""),
    (set[int], [1, 1], ""),
]


@pytest.mark.parametrize(("kind", "value", "path"), REFUSED, ids=lambda v: repr(v)[:30])
def test_a_value_that_does_not_fit_is_refused_with_its_path(kind, value, path):
    """Nothing is coerced; what a class's validators refuse is a SchemaError too."""
    with pytest.raises(SchemaError) as caught:
        structure(value, kind)

    assert caught.value.path == path
    assert caught.value.problems


@pytest.mark.parametrize(
    "kind",
    [complex, bytes, object, dict[int, int], Lost, Untyped, Annotated[int, []], "Item", 5,
     Literal[b"x"], list[complex], type(Item)],
    ids=repr,
)  # fmt: skip
def test_a_type_without_json_is_named(kind):
    """What cannot be written as JSON is refused by name, before anything is asked."""
    with pytest.raises(UsageError):
        json_schema(kind)


def test_classes_become_closed_objects():
    """Members without a default are required, others are not allowed to appear."""
    assert json_schema(Item) == {
        "type": "object",
        "title": "Item",
        "properties": {
            "name": {"type": "string"},
            "price": {"type": "number"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name", "price"],
        "additionalProperties": False,
    }
    assert json_schema(Movie)["required"] == json_schema(Book)["required"] == ["title"]
    assert json_schema(Annotated[int, "in years"])["description"] == "in years"


def test_two_classes_of_one_name_stay_two():
    """A name that is taken gets a number."""
    assert set(json_schema(Both)["$defs"]) == {"Item", "Item_2"}


@given(st.builds(Node, st.integers(), st.recursive(
    st.just([]), lambda kids: st.lists(st.builds(Node, st.integers(), kids), max_size=2),
    max_leaves=5,
)))  # fmt: skip
def test_what_was_written_is_read_back(node):
    """An instance survives JSON."""
    written = json.loads(json.dumps(cattrs.unstructure(node)))

    assert structure(written, Node) == node


def test_pydantic_is_not_needed():
    """The room works where pydantic is not installed, and never imports it by itself."""
    script = (
        "import sys; sys.modules['pydantic'] = None\n"
        "from scillm.structured import structure\n"
        "assert structure([1], list[int]) == [1]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
