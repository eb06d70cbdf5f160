"""JSON documents to OpenAI-shaped records (cattrs' door). Unknown fields go to `extra`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from attrs import fields
from cattrs import Converter

from scillm.errors import MalformedReplyError
from scillm.models import Completion, CompletionChunk, EmbeddingResponse, OpenAIRecord, made

Record = TypeVar("Record", bound=OpenAIRecord)

_converter = Converter(detailed_validation=False)


def _keeping_extra(cls: type[Record]) -> Callable[[Any, Any], Record]:
    kinds = get_type_hints(cls)
    own = [f for f in fields(cls) if f.name not in ("extra", "additional_kwargs")]
    readers = {f.name: _reader(kinds[f.name]) for f in own}
    taken_as = {f.name: _scalar(kinds[f.name]) for f in own}
    made_by = {f.name: f.default.factory for f in fields(cls) if hasattr(f.default, "factory")}
    blank = {f.name: None if f.name in made_by else f.default for f in fields(cls)}
    factories = [(name, make) for name, make in made_by.items() if name != "extra"]

    def read(document: Any, _type: Any) -> Record:
        if not isinstance(document, (dict, Mapping)):  # in this order, because the second is slow
            raise TypeError(f"{cls.__name__} must be an object, but is {type(document).__name__}")
        values: dict[str, Any] = blank.copy()
        extra = values["extra"] = {}
        for key, value in document.items():
            kind = taken_as.get(key)
            if type(value) is kind:
                values[key] = value
            elif kind is None:
                extra[key] = value
            elif value is not None:  # null means "not said" upstream, so it takes the default
                values[key] = readers[key](value, None)
        for name, make in factories:
            if values[name] is None:
                values[name] = make()
        return made(cls, values)

    return read


def _reader(kind: Any) -> Callable[[Any, Any], Any]:
    """What reads a value of this type that is not null. Found once: there are thousands of them."""
    if kind is Any:
        return _as_it_is
    bare = _bare(kind)
    if get_origin(kind) is list:
        one = _reader(bare)
        return lambda values, _type: [one(value, None) for value in values]
    if bare is not kind:
        return _reader(bare)
    found: Callable[[Any, Any], Any] = _converter.get_structure_hook(kind)
    return found


def _bare(kind: Any) -> Any:
    """The type without `None` or `list`; itself where it has neither."""
    inner = [part for part in get_args(kind) if part is not NoneType]
    return inner[0] if len(inner) == 1 else kind


def _scalar(kind: Any) -> Any:
    """str or int, a value of which is taken as it is; for other types what no value's type is."""
    bare = _bare(kind)
    return bare if bare in (str, int) and get_origin(kind) is not list else _as_it_is


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
_embeddings: Callable[[Any, Any], EmbeddingResponse] = _converter.get_structure_hook(
    EmbeddingResponse
)


def read_completion(document: Any) -> Completion:
    """A `chat.completion` object; `MalformedReplyError` when it does not have that shape."""
    return _read(document, _completion, "a chat completion")


def read_chunk(document: Any) -> CompletionChunk:
    """A `chat.completion.chunk` object; `MalformedReplyError` when it does not have that shape."""
    return _read(document, _chunk, "a chat completion chunk")


def read_embeddings(document: Any) -> EmbeddingResponse:
    """A `list` object of `embedding`s; `MalformedReplyError` when it does not have that shape."""
    return _read(document, _embeddings, "a list of embeddings", has="data")


def _read(
    document: Any, reader: Callable[[Any, Any], Record], what: str, *, has: str = "choices"
) -> Record:
    if not isinstance(document, (dict, Mapping)) or has not in document:
        raise MalformedReplyError(f"{what.capitalize()} has `{has}`, but {_seen(document)} came.")
    try:
        return reader(document, None)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise MalformedReplyError(f"The reply is not {what}: {error}") from error


def _seen(document: Any) -> str:
    if isinstance(document, Mapping):
        return f"an object with {', '.join(map(repr, list(document)[:8])) or 'no fields'}"
    return f"a JSON {type(document).__name__}"
