"""Checking values against JSON Schemas (jsonschema's door)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from scillm.errors import SchemaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator
    from referencing import Resource
    from referencing._core import Resolver

    from scillm.records import Json

MOST_PROBLEMS = 20
PROBLEM_CHARS = 300
NEWEST = "https://json-schema.org/draft/2020-12/schema"
DRAFTS: Mapping[str, str] = {
    NEWEST: "Draft202012Validator",
    "https://json-schema.org/draft/2019-09/schema": "Draft201909Validator",
    "http://json-schema.org/draft-07/schema": "Draft7Validator",
    "http://json-schema.org/draft-06/schema": "Draft6Validator",
    "http://json-schema.org/draft-04/schema": "Draft4Validator",
}
KEPT = 256
"""Schemas whose validators are kept; the least used goes first."""


def compiled(schema: Json) -> Validator:
    """The validator of `schema`, kept by the schema's canonical text.

    The draft is what `$schema` says, else 2020-12; `format` is an annotation, as the drafts say.
    Nothing is fetched: a `$ref` that leads out of the schema is refused. Raises `UsageError` when
    the schema is not one.
    """
    try:
        text = json.dumps(schema, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"A JSON Schema must be plain JSON: {error}.") from error
    return _compiled(text)


def check(value: Json, schema: Json) -> None:
    """Raise `SchemaError` unless `value` fits `schema`; the deepest misfit is named first.

    `.path` is its JSON pointer, `.text` an excerpt of what stands there, `.problems` has up to 20
    misfits. Errors of the schema itself as `compiled`.
    """
    validator = compiled(schema)
    try:
        if validator.is_valid(value):
            return
        found = list(islice(validator.iter_errors(value), MOST_PROBLEMS + 1))
    except RecursionError:
        raise SchemaError("The value is nested too deeply to be checked.") from None
    raise _misfit(found)


@lru_cache(maxsize=KEPT)
def _compiled(text: str) -> Validator:
    # Read back from its text: what the caller changes later does not change the validator.
    import jsonschema
    from jsonschema.exceptions import SchemaError as BadSchema
    from referencing.jsonschema import EMPTY_REGISTRY

    schema = json.loads(text)
    if not isinstance(schema, dict):
        raise UsageError(f"A JSON Schema is an object, but this is {text[:60]}.")
    declared = str(schema.get("$schema", NEWEST)).rstrip("#")
    if declared not in DRAFTS:
        raise UsageError(
            f"The JSON Schema draft {declared!r} is unknown; leave $schema out for 2020-12."
        )
    cls: type[Validator] = getattr(jsonschema, DRAFTS[declared])
    try:
        cls.check_schema(schema)
    except BadSchema as error:
        where = _pointer(error.absolute_path) or "its root"
        raise UsageError(
            f"This is not a JSON Schema: at {where}, {error.message[:PROBLEM_CHARS]}."
        ) from error
    # A registry of one's own keeps jsonschema from fetching references over the network.
    validator = cls(schema, registry=EMPTY_REGISTRY)
    _probe(validator, schema)
    return validator


def _probe(validator: Validator, schema: Mapping[str, Json]) -> None:
    # Before anything is asked of a model: every reference leads somewhere, and comes to an end.
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import EMPTY_REGISTRY, specification_with

    specification = specification_with(str(schema.get("$schema", NEWEST)))
    resource = specification.create_resource(schema)
    try:
        _resolve_all(resource, EMPTY_REGISTRY.resolver_with_root(resource))
        validator.is_valid(None)
    except Unresolvable as error:
        raise UsageError(
            f"The JSON Schema refers to {error.ref!r}, which is not in it; nothing is fetched."
        ) from error
    except RecursionError:
        raise UsageError("The JSON Schema refers to itself without end.") from None


def _resolve_all(resource: Resource[Json], resolver: Resolver[Json]) -> None:
    contents = resource.contents
    if isinstance(contents, dict) and isinstance(contents.get("$ref"), str):
        resolver.lookup(contents["$ref"])
    for inner in resource.subresources():
        _resolve_all(inner, resolver.in_subresource(inner))


def _misfit(errors: list[ValidationError]) -> SchemaError:
    from jsonschema.exceptions import best_match

    # Inside anyOf and oneOf, the branch that came nearest says what is wrong.
    nearest = [best_match([error]) or error for error in errors[:MOST_PROBLEMS]]
    nearest.sort(key=lambda error: -len(error.absolute_path))
    problems = [_sentence(error) for error in nearest]
    first, path = nearest[0], _pointer(nearest[0].absolute_path)
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    if len(errors) > MOST_PROBLEMS:
        more = f" (at least {MOST_PROBLEMS} more)"
    return SchemaError(
        f"The value does not fit the schema: {problems[0]}.{more}",
        path=path,
        text=_excerpt(json.dumps(first.instance, ensure_ascii=False, default=repr)),
        problems=problems,
    )


def _sentence(error: ValidationError) -> str:
    return f"at {_pointer(error.absolute_path) or 'the root'}, {_excerpt(error.message)}"


def _pointer(path: Iterable[str | int]) -> str:
    """RFC 6901."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _excerpt(text: str) -> str:
    if len(text) <= PROBLEM_CHARS:
        return text
    return f"{text[:PROBLEM_CHARS]}… ({len(text) - PROBLEM_CHARS} more characters)"
