"""OpenAI-shaped answers: by attribute and by key, unknown fields kept, plain JSON on demand.

Shape: the API reference (the objects `chat.completion`, `chat.completion.chunk`, `embedding`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from attrs import field, fields, frozen

from scillm.records import Json  # noqa: TC001 - read at run time by the converter of http.wire

if TYPE_CHECKING:
    from typing_extensions import Self

Record = TypeVar("Record", bound="OpenAIRecord")

LATER = "_make_additional_kwargs"
"""Where an answer keeps what will make its side information, in place of that."""

ALWAYS_SHOWN = frozenset({"content", "finish_reason"})
"""Fields that `to_dict` shows even when they are null, as the API does."""


def _plain(value: Json) -> Json:
    if isinstance(value, OpenAIRecord):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def made(cls: type[Record], values: dict[str, Any]) -> Record:
    """A record with `values` of all its fields: its `__init__` at a third of the cost."""
    record = object.__new__(cls)
    object.__setattr__(record, "__dict__", values)
    return record


_NAMES: dict[type, tuple[str, ...]] = {}


def _field_names(cls: type[OpenAIRecord]) -> tuple[str, ...]:
    names = _NAMES.get(cls)
    if names is None:
        names = _NAMES[cls] = tuple(f.name for f in fields(cls))
    return names


@frozen(kw_only=True, slots=False)
class OpenAIRecord:
    """A record that can be read like the `openai` client's objects and like their JSON."""

    _own: ClassVar[frozenset[str]] = frozenset({"extra"})

    extra: Mapping[str, Json] = field(factory=dict, repr=False)
    """Fields the upstream sent that this record does not know; readable like the others."""

    def __getattr__(self, name: str) -> Any:
        # Only called when the normal lookup failed. `extra` itself is missing while unpickling.
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def __getitem__(self, key: str) -> Any:
        if key in self.extra:
            return self.extra[key]
        if key in self:
            return getattr(self, key)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self.extra or (key not in self._own and key in _field_names(type(self)))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        """Field names in declared order, then the upstream's own."""
        return [name for name in _field_names(type(self)) if name not in self._own] + [*self.extra]

    def get(self, key: str, default: Any = None) -> Any:
        """The field `key`, or `default` where the record has none."""
        return self[key] if key in self else default  # noqa: SIM401 (this is that method)

    def to_dict(self) -> dict[str, Json]:
        """Plain JSON; empty optional fields are left out."""
        shown = ((key, _plain(self[key])) for key in self.keys())
        return {key: value for key, value in shown if value is not None or key in ALWAYS_SHOWN}


@frozen(kw_only=True, slots=False)
class Function(OpenAIRecord):
    """The function a tool call names. `arguments` is the model's JSON text, unchecked."""

    name: str | None = None
    arguments: str = ""


@frozen(kw_only=True, slots=False)
class ToolCall(OpenAIRecord):
    """One call of a tool."""

    id: str | None = None
    type: str | None = None
    function: Function | None = None
    index: int | None = None


@frozen(kw_only=True, slots=False)
class ChatMessage(OpenAIRecord):
    """What the model said. `content` is text, a list of parts, or None."""

    role: str = "assistant"
    content: Any = None
    tool_calls: list[ToolCall] | None = None
    function_call: Any = None
    refusal: str | None = None
    reasoning_content: str | None = None


@frozen(kw_only=True, slots=False)
class Choice(OpenAIRecord):
    """One of the `n` answers."""

    index: int = 0
    message: ChatMessage = field(factory=ChatMessage)
    finish_reason: str | None = None
    logprobs: Any = None


@frozen(kw_only=True, slots=False)
class Usage(OpenAIRecord):
    """Tokens as the upstream counted them; None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None


@frozen(kw_only=True, slots=False)
class Delta(OpenAIRecord):
    """What a chunk adds to a message."""

    role: str | None = None
    content: Any = None
    tool_calls: list[ToolCall] | None = None
    function_call: Any = None
    refusal: str | None = None
    reasoning_content: str | None = None


@frozen(kw_only=True, slots=False)
class ChunkChoice(OpenAIRecord):
    """What a chunk adds to one of the `n` answers."""

    index: int = 0
    delta: Delta = field(factory=Delta)
    finish_reason: str | None = None
    logprobs: Any = None


@frozen(kw_only=True, slots=False)
class CompletionChunk(OpenAIRecord):
    """One piece of a streamed answer."""

    id: str = ""
    object: str = "chat.completion.chunk"
    created: int | None = None
    model: str = ""
    choices: list[ChunkChoice] = field(factory=list)
    usage: Usage | None = None
    system_fingerprint: str | None = None


class Answered(OpenAIRecord):
    """What chat answers and vectors have in common: usage, and side information by subject."""

    model: str
    usage: Usage | None
    additional_kwargs: dict[str, Json]

    def with_additional(self, additional_kwargs: dict[str, Json]) -> Self:
        """The same answer with other side information; several times as fast as `evolve`."""
        values = {**self.__dict__, "additional_kwargs": additional_kwargs}
        values.pop(LATER, None)
        return made(type(self), values)

    def with_additional_later(self, make: Callable[[], dict[str, Json]]) -> Self:
        """The same answer with the side information that `make` gives when it is first wanted."""
        values = {**self.__dict__, LATER: make}
        values.pop("additional_kwargs", None)
        return made(type(self), values)

    def __getattr__(self, name: str) -> Any:
        make = self.__dict__.get(LATER) if name == "additional_kwargs" else None
        if make is None:
            return super().__getattr__(name)
        # Two threads may make it; both must get the same one, because a caller may write into it.
        return self.__dict__.setdefault(name, make())

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "additional_kwargs": self.additional_kwargs}
        state.pop(LATER, None)
        return state

    @property
    def scillm_meta(self) -> Mapping[str, Json]:
        """View of `additional_kwargs["scillm"]`: requested, resolved and served model, attempts."""
        meta: Mapping[str, Json] = self.additional_kwargs.get("scillm", {})
        return meta

    @property
    def _hidden_params(self) -> Mapping[str, Json]:
        """The older name of `scillm_meta`."""
        return self.scillm_meta


@frozen(kw_only=True, slots=False)
class Completion(Answered):
    """An answer. Side information lives in `additional_kwargs`, by subject."""

    _own: ClassVar[frozenset[str]] = frozenset({"extra", "additional_kwargs"})

    id: str = ""
    object: str = "chat.completion"
    created: int | None = None
    model: str = ""
    choices: list[Choice] = field(factory=list)
    usage: Usage | None = None
    system_fingerprint: str | None = None
    additional_kwargs: dict[str, Json] = field(factory=dict, repr=False)

    @property
    def text(self) -> str:
        """Text of the first choice; empty when it has none."""
        content = self.choices[0].message.content if self.choices else None
        if isinstance(content, list):
            parts = (part.get("text") for part in content if isinstance(part, Mapping))
            return "".join(part for part in parts if isinstance(part, str))
        return content if isinstance(content, str) else ""


@frozen(kw_only=True, slots=False)
class Embedding(OpenAIRecord):
    """One vector: a list of numbers, or base64 text where the call asked for that."""

    object: str = "embedding"
    index: int = 0
    embedding: Any = None


@frozen(kw_only=True, slots=False)
class EmbeddingResponse(Answered):
    """Vectors in the order of the input. Side information as of a `Completion`."""

    _own: ClassVar[frozenset[str]] = frozenset({"extra", "additional_kwargs"})

    object: str = "list"
    data: list[Embedding] = field(factory=list)
    model: str = ""
    usage: Usage | None = None
    additional_kwargs: dict[str, Json] = field(factory=dict, repr=False)
