"""Python types to JSON Schemas: what a class looks like as JSON."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, get_args, get_origin

import attrs

from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json

PLAIN: Mapping[Any, Mapping[str, Json]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    Any: {},
    dict: {"type": "object"},
    list: {"type": "array"},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    decimal.Decimal: {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"},
}
_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_SETS = (set, frozenset, collections.abc.Set)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_QUALIFIERS = ("Required", "NotRequired", "ReadOnly")


def is_model(kind: Any) -> bool:
    """Whether `kind` is a pydantic model; pydantic itself is not imported."""
    return isinstance(kind, type) and hasattr(kind, "model_json_schema")


def is_union(kind: Any) -> bool:
    """Whether `kind` is `X | Y` or `Optional[X]`."""
    return get_origin(kind) in (typing.Union, types.UnionType)


def name_of(kind: Any) -> str:
    """What messages call a type."""
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def json_schema(kind: Any) -> dict[str, Json]:
    """The JSON Schema (2020-12) of values of `kind`; classes stand under `$defs`.

    Known: attrs classes, dataclasses, TypedDict, pydantic models, Enum, Literal, unions, list,
    tuple, set, dict with text keys, str, int, float, bool, None, datetime, date, UUID, Decimal,
    Any. Objects allow no unknown members. Raises `UsageError` that names any other type.
    """
    writer = _Writer()
    schema = writer.schema(kind)
    while [*schema] == ["$ref"]:
        # Servers want an object at the root, not a reference to one.
        reference = schema["$ref"]
        name = reference.rpartition("/")[2]
        schema = writer.definitions[name]
        if reference not in _references([*writer.definitions.values()]):
            del writer.definitions[name]
    return {**schema, "$defs": writer.definitions} if writer.definitions else dict(schema)


def _references(value: Json) -> set[str]:
    if isinstance(value, Mapping):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_references(item) for item in value.values()))
    if isinstance(value, list):
        return set[str]().union(*(_references(item) for item in value))
    return set()


class _Writer:
    # Remembers the definitions written so far, and under which name a class stands.
    def __init__(self) -> None:
        self.definitions: dict[str, Json] = {}
        self._names: dict[Any, str] = {}

    def schema(self, kind: Any) -> dict[str, Json]:
        try:
            if kind in PLAIN:
                return dict(PLAIN[kind])
        except TypeError:
            raise _unsupported(kind) from None  # an Annotated or Literal with a list in it
        return self._form(kind) if get_origin(kind) is not None else self._class(kind)

    def _form(self, kind: Any) -> dict[str, Json]:
        origin, arguments = get_origin(kind), get_args(kind)
        if getattr(origin, "_name", None) in _QUALIFIERS:
            return self.schema(arguments[0])
        if origin is typing.Annotated:
            words = [note for note in kind.__metadata__ if isinstance(note, str)]
            inner = self.schema(arguments[0])
            return {**inner, "description": " ".join(words)} if words else inner
        if origin is typing.Literal:
            return self._enum(list(arguments), kind)
        if is_union(kind):
            return {"anyOf": [self.schema(argument) for argument in arguments]}
        if origin in _LISTS:
            return {"type": "array", "items": self.schema(arguments[0])}
        if origin in _SETS:
            return {"type": "array", "items": self.schema(arguments[0]), "uniqueItems": True}
        if origin is tuple:
            return self._tuple(arguments)
        if origin in _MAPPINGS and arguments[0] is str:
            return {"type": "object", "additionalProperties": self.schema(arguments[1])}
        raise _unsupported(kind)

    def _tuple(self, arguments: tuple[Any, ...]) -> dict[str, Json]:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": self.schema(arguments[0])}
        items = [self.schema(argument) for argument in arguments if argument != ()]
        size = {"minItems": len(items), "maxItems": len(items)}
        return {"type": "array", "prefixItems": items, **size} if items else {
            "type": "array", **size,
        }  # fmt: skip

    def _enum(self, values: list[Json], kind: Any) -> dict[str, Json]:
        if not all(value is None or isinstance(value, (str, int)) for value in values):
            raise _unsupported(kind)
        return {"enum": values}

    def _class(self, kind: Any) -> dict[str, Json]:
        if hasattr(kind, "__supertype__"):
            return self.schema(kind.__supertype__)
        if not isinstance(kind, type):
            raise _unsupported(kind)
        if issubclass(kind, enum.Enum):
            return self._enum([member.value for member in kind], kind)
        write = self._writer_of(kind)
        if write is None:
            raise _unsupported(kind)
        if kind not in self._names:
            name, number = kind.__name__, 2
            while name in self._names.values() or name in self.definitions:
                name, number = f"{kind.__name__}_{number}", number + 1
            self._names[kind] = name
            self.definitions[name] = {}  # a place for references to itself
            self.definitions[name] = write(kind)
        return {"$ref": f"#/$defs/{self._names[kind]}"}

    def _writer_of(self, kind: type) -> Callable[[Any], dict[str, Json]] | None:
        if is_model(kind):
            return self._model
        if attrs.has(kind):
            return self._attrs
        if dataclasses.is_dataclass(kind):
            return self._dataclass
        # typing_extensions' TypedDict is another one than typing's on older Pythons.
        return self._typed_dict if hasattr(kind, "__required_keys__") else None

    def _model(self, kind: Any) -> dict[str, Json]:
        own = self._names[kind]
        template = f"#/$defs/{own}.{{model}}"
        written: dict[str, Json] = kind.model_json_schema(ref_template=template)
        inner = written.pop("$defs", {})
        self.definitions.update({f"{own}.{name}": body for name, body in inner.items()})
        return written

    def _attrs(self, kind: Any) -> dict[str, Json]:
        fields = [field for field in attrs.fields(kind) if field.init]
        needed = [field.name for field in fields if field.default is attrs.NOTHING]
        return self._object(kind, [field.name for field in fields], needed)

    def _dataclass(self, kind: Any) -> dict[str, Json]:
        fields = [field for field in dataclasses.fields(kind) if field.init]
        needed = [
            field.name
            for field in fields
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        return self._object(kind, [field.name for field in fields], needed)

    def _typed_dict(self, kind: Any) -> dict[str, Json]:
        needed = set(kind.__required_keys__)
        for name, hint in _hints(kind).items():
            qualifier = getattr(get_origin(hint), "_name", None)
            if qualifier == "Required":
                needed.add(name)
            if qualifier == "NotRequired":
                needed.discard(name)
        names = list(_hints(kind))
        return self._object(kind, names, [name for name in names if name in needed])

    def _object(self, kind: type, names: list[str], needed: list[str]) -> dict[str, Json]:
        hints = _hints(kind)
        for name in names:
            if name not in hints:
                raise UsageError(f"{name_of(kind)}.{name} has no type, so JSON cannot be checked.")
        return {
            "type": "object",
            "title": kind.__name__,
            "properties": {name: self.schema(hints[name]) for name in names},
            "required": needed,
            "additionalProperties": False,
        }


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise UsageError(
            f"A type named in {name_of(kind)} cannot be found ({error}); define it at the top "
            "of its module."
        ) from error


def _unsupported(kind: Any) -> UsageError:
    return UsageError(
        f"The type {name_of(kind)} has no JSON form here. Use attrs classes, dataclasses, "
        "TypedDict, pydantic models, Enum, Literal, unions, list, tuple, set, dict[str, …], str, "
        "int, float, bool, None, datetime, date, UUID or Decimal."
    )
