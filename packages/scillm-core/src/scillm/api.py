"""`completion`, `embedding` and their async forms: one call with no Router of your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from scillm.routing.default import default_router

if TYPE_CHECKING:
    from scillm.models import Completion, EmbeddingResponse
    from scillm.records import Message
    from scillm.routing.streams import AsyncCompletionStream, CompletionStream


@overload
async def acompletion(
    model: str | None = None,
    messages: Sequence[Message] | None = None,
    *,
    stream: Literal[False] = False,
    timeout: float | None = None,
    api_base: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    custom_llm_provider: str | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    **params: Any,
) -> Completion: ...


@overload
async def acompletion(
    model: str | None = None,
    messages: Sequence[Message] | None = None,
    *,
    stream: Literal[True],
    timeout: float | None = None,
    api_base: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    custom_llm_provider: str | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    **params: Any,
) -> AsyncCompletionStream: ...


@overload
async def acompletion(
    model: str | None = None,
    messages: Sequence[Message] | None = None,
    *,
    stream: bool,
    timeout: float | None = None,
    api_base: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    custom_llm_provider: str | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    **params: Any,
) -> Completion | AsyncCompletionStream: ...


async def acompletion(
    model: str | None = None,
    messages: Sequence[Message] | None = None,
    *,
    stream: bool = False,
    **arguments: Any,
) -> Completion | AsyncCompletionStream:
    """Ask `model` and return its answer, or with `stream=True` its chunks as they arrive.

    `model` is `<provider>/<id>` (`openai/…`, `echo/…`, `codeworld`), or any id of an
    OpenAI-compatible server together with `api_base`. `timeout` is in seconds: for the whole
    attempt, or for the longest silence of a stream. `custom_llm_provider` names the provider
    outright. `extra_headers` go with the HTTP request, `extra_body` into its body unchecked.
    Every other argument is the provider's and passes through untouched; None means not given.

    A Python type or a schema as `response_format`, `response_mode="schema_first"` with
    `json_schema`, or `repair_rounds` get a checked JSON answer, or `SchemaError`;
    `response_mode="plain"` takes what comes. See `docs/guide/structured_output.md`.

    Raises `UsageError` when nothing was sent, and `ProviderError` when the upstream failed.
    """
    return await default_router().acompletion(model, messages, stream=stream, **arguments)


@overload
def completion(
    model: str | None = None,
    messages: Sequence[Message] | None = None,
    *,
    stream: Literal[False] = False,
    timeout: float | None = None,
    api_base: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    custom_llm_provider: str | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    **params: Any,
) -> Completion: ...


@overload
def completion(
    model: str | None = None,
    messages: Sequence[Message] | None = None,
    *,
    stream: Literal[True],
    timeout: float | None = None,
    api_base: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    custom_llm_provider: str | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    **params: Any,
) -> CompletionStream: ...


@overload
def completion(
    model: str | None = None,
    messages: Sequence[Message] | None = None,
    *,
    stream: bool,
    timeout: float | None = None,
    api_base: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    custom_llm_provider: str | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    **params: Any,
) -> Completion | CompletionStream: ...


def completion(
    model: str | None = None,
    messages: Sequence[Message] | None = None,
    *,
    stream: bool = False,
    **arguments: Any,
) -> Completion | CompletionStream:
    """The synchronous form of `acompletion`, for scripts, threads, notebooks, forked children."""
    return default_router().completion(model, messages, stream=stream, **arguments)


async def aembedding(
    model: str | None = None,
    input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | None = None,
    *,
    dimensions: int | None = None,
    encoding_format: Literal["float", "base64"] | None = None,
    user: str | None = None,
    **arguments: Any,
) -> EmbeddingResponse:
    """Turn `input`, a text or several, into vectors: `.data[i].embedding` belongs to `input[i]`.

    `model`, `timeout`, `api_base`, `api_key`, `extra_headers`, `extra_body`, retries, fallbacks and
    budgets are those of `acompletion`; every other argument is the provider's. Vectors of different
    models cannot be compared, so a fallback should serve the same one.

    Raises `UsageError` when nothing was sent, and `ProviderError` when the upstream failed.
    """
    arguments |= {"dimensions": dimensions, "encoding_format": encoding_format, "user": user}
    return await default_router().aembedding(model, input, **arguments)


def embedding(
    model: str | None = None,
    input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | None = None,
    *,
    dimensions: int | None = None,
    encoding_format: Literal["float", "base64"] | None = None,
    user: str | None = None,
    **arguments: Any,
) -> EmbeddingResponse:
    """The synchronous form of `aembedding`, for scripts, threads, notebooks, forked children."""
    arguments |= {"dimensions": dimensions, "encoding_format": encoding_format, "user": user}
    return default_router().embedding(model, input, **arguments)
