"""Schemas: what does not fit is named with its path; a wrong schema is the caller's error."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import SchemaError, UsageError
from scillm.structured import check, compiled

ORDER = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"price": {"type": "number"}, "a/b~c": {"type": "string"}},
                "required": ["price"],
            },
        }
    },
    "required": ["items", "id"],
}


def test_a_fitting_value_passes():
    """Nothing is raised, nothing returned."""
    assert check({"id": 1, "items": [{"price": 1.5}]}, ORDER) is None


def test_the_deepest_misfit_comes_first_with_its_path():
    """Path, value and reason of the misfit; the others follow."""
    with pytest.raises(SchemaError) as caught:
        check({"items": [{"price": 1}, {"price": "dear"}]}, ORDER)
    error = caught.value

    assert error.path == "/items/1/price"
    assert error.text == '"dear"'
    assert error.problems == (
        "at /items/1/price, 'dear' is not of type 'number'",
        "at the root, 'id' is a required property",
    )
    assert "(1 more)" in error.message


def test_paths_are_json_pointers():
    """Slashes and tildes in keys are escaped as RFC 6901 says."""
    with pytest.raises(SchemaError) as caught:
        check({"id": 1, "items": [{"price": 1, "a/b~c": 2}]}, ORDER)

    assert caught.value.path == "/items/0/a~1b~0c"


def test_inside_a_choice_the_nearest_branch_speaks():
    """anyOf does not hide what is wrong behind a general sentence."""
    branch = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    with pytest.raises(SchemaError) as caught:
        check({"n": "x"}, {"anyOf": [branch, {"type": "string"}]})

    assert caught.value.path == "/n"


def test_many_misfits_and_long_values_are_counted_not_dropped():
    """A thousand misfits make a short message that says there are more."""
    with pytest.raises(SchemaError) as caught:
        check(["x" * 5000] * 1000, {"items": {"type": "integer"}})

    assert "at least 20 more" in caught.value.message
    assert "more characters" in caught.value.text
    assert len(caught.value.problems) == 20


@pytest.mark.parametrize(
    "schema",
    [
        [],
        True,
        {"type": "objekt"},
        {"pattern": "("},
        {"enum": {1, 2}},
        {"const": float("nan")},
        {"$schema": "http://example.org/none"},
        {"$schema": 7},
        {"$ref": "#/$defs/absent"},
        {"properties": {"a": {"$ref": "#/$defs/absent"}}},
        {"$ref": "http://192.0.2.1/schema.json"},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
    ],
    ids=repr,
)
def test_a_wrong_schema_is_refused_before_anything_is_asked(schema):
    """References are resolved at once, and never fetched."""
    with pytest.raises(UsageError):
        compiled(schema)


@pytest.mark.parametrize(
    "draft",
    [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    ],
)
def test_drafts_are_known(draft):
    """A schema may name its draft."""
    schema = {"$schema": draft, "properties": {"a": {"$ref": "#/definitions/n"}}}
    schema["definitions"] = {"n": {"type": "integer"}}
    with pytest.raises(SchemaError):
        check({"a": "x"}, schema)

    assert check({"a": 1}, schema) is None


def test_recursive_schemas_work():
    """A schema may refer to itself where the value ends some day."""
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}}
    with pytest.raises(SchemaError) as caught:
        check({"kids": [{"kids": [1]}]}, tree)

    assert caught.value.path == "/kids/0/kids/0"
    deep: dict[str, object] = {}
    for _ in range(5000):
        deep = {"kids": [deep]}
    with pytest.raises(SchemaError, match="too deeply"):
        check(deep, tree)


def test_a_schema_changed_later_is_another_schema():
    """Validators are kept by what the schema says, not by which object it is."""
    schema = {"type": "integer"}
    check(1, schema)
    schema["type"] = "string"

    with pytest.raises(SchemaError):
        check(1, schema)


def test_validators_are_kept():
    """A thousand checks take far less than a thousand compilations."""
    value = {"id": 1, "items": [{"price": 1.5}]}
    started = time.process_time()
    for _ in range(1000):
        check(value, ORDER)

    assert compiled(ORDER) is compiled({**ORDER})
    assert time.process_time() - started < 1


@given(st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()))
def test_types_are_json_types(value):
    """true is no number, 1.0 is an integer, as the drafts say."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    fits = whole and not isinstance(value, bool)
    try:
        check(value, {"type": "integer"})
    except SchemaError:
        assert not fits
    else:
        assert fits
