"""JSON documents to OpenAI-shaped records (cattrs' door). Unknown fields go to `extra`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from attrs import fields
from cattrs import Converter

from scillm.errors import MalformedReplyError
from scillm.models import Completion, CompletionChunk, OpenAIRecord

Record = TypeVar("Record", bound=OpenAIRecord)

_converter = Converter(detailed_validation=False)


def _keeping_extra(cls: type[Record]) -> Callable[[Any, Any], Record]:
    kinds = get_type_hints(cls)
    readers = {
        f.name: _reader(kinds[f.name])
        for f in fields(cls)
        if f.name not in ("extra", "additional_kwargs")
    }

    def read(document: Any, _type: Any) -> Record:
        if not isinstance(document, (dict, Mapping)):  # in this order, because the second is slow
            raise TypeError(f"{cls.__name__} must be an object, but is {type(document).__name__}")
        own: dict[str, Any] = {}
        extra = own["extra"] = {}
        for key, value in document.items():
            if key not in readers:
                extra[key] = value
            elif value is not None:  # null means "not said" upstream, so it takes the default
                own[key] = readers[key](value, None)
        return cls(**own)

    return read


def _reader(kind: Any) -> Callable[[Any, Any], Any]:
    """What reads a value of this type that is not null. Found once: there are thousands of them."""
    if kind is Any:
        return _as_it_is
    bare = [part for part in get_args(kind) if part is not NoneType]
    if get_origin(kind) is list:
        one = _reader(bare[0])
        return lambda values, _type: [one(value, None) for value in values]
    if len(bare) == 1:
        return _reader(bare[0])
    found: Callable[[Any, Any], Any] = _converter.get_structure_hook(kind)
    return found


def _as_it_is(value: Any, _type: Any) -> Any:
    return value


def _checked(wanted: type) -> Callable[[Any, Any], Any]:
    def read(value: Any, _type: Any) -> Any:
        if type(value) is wanted:
            return value
        if isinstance(value, wanted) and not isinstance(value, bool):
            return value
        if wanted is int and isinstance(value, float) and value.is_integer():
            return int(value)
        raise TypeError(f"{wanted.__name__} wanted, but {type(value).__name__} came")

    return read


# cattrs would turn anything into a string and cut fractions off; a wrong type is a wrong reply.
_converter.register_structure_hook(str, _checked(str))
_converter.register_structure_hook(int, _checked(int))
_converter.register_structure_hook_factory(
    lambda kind: isinstance(kind, type) and issubclass(kind, OpenAIRecord), _keeping_extra
)
_completion: Callable[[Any, Any], Completion] = _converter.get_structure_hook(Completion)
_chunk: Callable[[Any, Any], CompletionChunk] = _converter.get_structure_hook(CompletionChunk)


def read_completion(document: Any) -> Completion:
    """A `chat.completion` object; `MalformedReplyError` when it does not have that shape."""
    return _read(document, _completion, "a chat completion")


def read_chunk(document: Any) -> CompletionChunk:
    """A `chat.completion.chunk` object; `MalformedReplyError` when it does not have that shape."""
    return _read(document, _chunk, "a chat completion chunk")


def _read(document: Any, reader: Callable[[Any, Any], Record], what: str) -> Record:
    if not isinstance(document, (dict, Mapping)) or "choices" not in document:
        raise MalformedReplyError(f"{what.capitalize()} has `choices`, but {_seen(document)} came.")
    try:
        return reader(document, None)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise MalformedReplyError(f"The reply is not {what}: {error}") from error


def _seen(document: Any) -> str:
    if isinstance(document, Mapping):
        return f"an object with {', '.join(map(repr, list(document)[:8])) or 'no fields'}"
    return f"a JSON {type(document).__name__}"
