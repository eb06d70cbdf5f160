"""JSON documents to OpenAI-shaped records (cattrs' door). Unknown fields go to `extra`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_origin

from attrs import fields
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn

from scillm.errors import MalformedReplyError
from scillm.models import Completion, CompletionChunk, OpenAIRecord

Record = TypeVar("Record", bound=OpenAIRecord)

_converter = Converter(detailed_validation=False)


def _keeping_extra(cls: type[Record]) -> Callable[[Any, Any], Record]:
    known = frozenset(f.name for f in fields(cls)) - {"extra", "additional_kwargs"}
    structure = make_dict_structure_fn(cls, _converter, _cattrs_detailed_validation=False)

    def read(document: Any, _type: Any) -> Record:
        if not isinstance(document, Mapping):
            raise TypeError(f"{cls.__name__} must be an object, but is {type(document).__name__}")
        # null means "not said" upstream, so it takes the field's default.
        own = {key: value for key, value in document.items() if key in known and value is not None}
        own["extra"] = {key: value for key, value in document.items() if key not in known}
        return structure(own, cls)

    return read


def _checked(wanted: type) -> Callable[[Any, Any], Any]:
    def read(value: Any, _type: Any) -> Any:
        if isinstance(value, wanted) and not isinstance(value, bool):
            return value
        if wanted is int and isinstance(value, float) and value.is_integer():
            return int(value)
        raise TypeError(f"{wanted.__name__} wanted, but {type(value).__name__} came")

    return read


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is Mapping


# cattrs would turn anything into a string and cut fractions off; a wrong type is a wrong reply.
_converter.register_structure_hook(str, _checked(str))
_converter.register_structure_hook(int, _checked(int))
_converter.register_structure_hook_func(_is_mapping, lambda value, _type: value)
_converter.register_structure_hook_factory(
    lambda kind: isinstance(kind, type) and issubclass(kind, OpenAIRecord), _keeping_extra
)


def read_completion(document: Any) -> Completion:
    """A `chat.completion` object; `MalformedReplyError` when it does not have that shape."""
    return _read(document, Completion, "a chat completion")


def read_chunk(document: Any) -> CompletionChunk:
    """A `chat.completion.chunk` object; `MalformedReplyError` when it does not have that shape."""
    return _read(document, CompletionChunk, "a chat completion chunk")


def _read(document: Any, cls: type[Record], what: str) -> Record:
    if not isinstance(document, Mapping) or "choices" not in document:
        raise MalformedReplyError(f"{what.capitalize()} has `choices`, but {_seen(document)} came.")
    try:
        return _converter.structure(document, cls)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise MalformedReplyError(f"The reply is not {what}: {error}") from error


def _seen(document: Any) -> str:
    if isinstance(document, Mapping):
        return f"an object with {', '.join(map(repr, list(document)[:8])) or 'no fields'}"
    return f"a JSON {type(document).__name__}"
