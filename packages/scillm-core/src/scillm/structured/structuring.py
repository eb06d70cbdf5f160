"""JSON values to Python types (cattrs' second door; pydantic models read themselves)."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

from scillm.errors import SchemaError
from scillm.structured.schema import check, compiled
from scillm.structured.types import is_model, is_union, json_schema, name_of

if TYPE_CHECKING:
    from cattrs import Converter

    from scillm.records import Json

REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What a class may raise to refuse a value."""


def structure(value: Json, kind: Any) -> Any:
    """`value` as an instance of `kind`, which may refuse it in its validators.

    Raises `SchemaError` when the value does not fit the type's schema or the class refuses it, and
    `UsageError` for a type without a JSON form.
    """
    from cattrs import BaseValidationError

    check(value, json_schema(kind))
    try:
        return _converter().structure(value, kind)
    except (BaseValidationError, *REFUSALS) as error:
        path, reason = _first_reason(error, "")
    problem = f"at {path or 'the root'}, {reason}"
    raise SchemaError(
        f"{name_of(kind)} refuses the value: {problem}.",
        path=path,
        text=json.dumps(value, ensure_ascii=False)[:300],
        problems=[problem],
    )


@lru_cache(maxsize=1)
def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter(forbid_extra_keys=True)
    readers: dict[type, Callable[[str], Any]] = {
        dt.datetime: _moment,
        dt.date: dt.date.fromisoformat,
        uuid.UUID: uuid.UUID,
        decimal.Decimal: decimal.Decimal,
    }
    for kind, read in readers.items():
        converter.register_structure_hook(kind, _reading(read))
    converter.register_structure_hook(type(None), lambda _value, _kind: None)
    converter.register_structure_hook_factory(is_union, _union_reader)
    converter.register_structure_hook_factory(is_model, _model_reader)
    return converter


def _reading(read: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _kind: read(value)


def _moment(text: str) -> dt.datetime:
    # Python 3.10 does not read the Z of RFC 3339.
    return dt.datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)


def _union_reader(kind: Any) -> Callable[[Any, Any], Any]:
    members = get_args(kind)

    def read(value: Any, _kind: Any) -> Any:
        # As JSON Schema's anyOf: the first member that the value fits and the class accepts.
        refused = [_misfit(kind)]
        for member in members:
            if not compiled(json_schema(member)).is_valid(value):
                continue
            try:
                return structure(value, member)
            except SchemaError as error:
                refused.append(error)
        raise refused[-1]

    return read


def _misfit(kind: Any) -> SchemaError:
    return SchemaError(f"The value fits no member of {name_of(kind)}.")


def _model_reader(kind: Any) -> Callable[[Any, Any], Any]:
    # From text, so that a strict model takes dates and numbers as JSON has them.
    return lambda value, _kind: kind.model_validate_json(json.dumps(value))


def _first_reason(error: BaseException, path: str) -> tuple[str, str]:
    from cattrs import AttributeValidationNote, BaseValidationError, IterableValidationNote

    if isinstance(error, SchemaError):
        said = error.problems[0].partition(", ")[2] if error.problems else error.message
        return f"{path}{error.path}", said
    listed: Callable[[], Any] | None = getattr(error, "errors", None)
    if listed is not None:  # pydantic's
        first = listed()[0]
        return path + "".join(f"/{step}" for step in first["loc"]), first["msg"]
    if not isinstance(error, BaseValidationError):
        return path, " ".join(str(error).split()) or type(error).__name__
    inner = error.exceptions[0]
    step = ""
    for note in getattr(inner, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            step = f"/{note.name}"
        elif isinstance(note, IterableValidationNote):
            step = f"/{note.index}"
    return _first_reason(inner, path + step)
