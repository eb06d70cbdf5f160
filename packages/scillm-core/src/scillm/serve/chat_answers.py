"""Who answers a chat server's questions: a Provider, a Router, or a plain async function."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

from scillm.errors import UsageError
from scillm.protocols import Provider, Streams

if TYPE_CHECKING:
    from scillm.models import Completion, CompletionChunk
    from scillm.records import ChatRequest

Answer: TypeAlias = "Callable[[ChatRequest], Awaitable[Completion]]"
Chunks: TypeAlias = "AsyncIterator[CompletionChunk]"


@runtime_checkable
class Routes(Protocol):
    """Something that is called as `scillm.Router` is."""

    async def acompletion(self, model: str, messages: Any, **arguments: Any) -> Any:
        """Answer, or with `stream=True` give a stream of chunks."""
        ...


class Answers:
    """One way to ask. `streams` says whether there is a real stream."""

    def __init__(self, source: object) -> None:
        if isinstance(source, type):
            # It has the attributes of its objects, and would be taken for one of them.
            raise UsageError(f"A chat server answers with an object, but the {source!r} came.")
        self._router = source if isinstance(source, Routes) else None
        provider = source if isinstance(source, Provider) else None
        self._complete: Answer
        if provider is not None:
            self._complete = provider.complete
        elif self._router is not None:
            self._complete = self._routed
        elif callable(source):
            self._complete = cast("Answer", source)
        else:
            raise UsageError(
                "A chat server answers with a Provider, a Router, or an async function of a "
                f"ChatRequest, but a {type(source).__name__} came."
            )
        self._streaming: Streams | None = provider if isinstance(provider, Streams) else None

    @property
    def streams(self) -> bool:
        """Whether chunks come as they are made."""
        return self._streaming is not None or self._router is not None

    async def complete(self, request: ChatRequest) -> Completion:
        """The whole answer."""
        return await self._complete(request)

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[Chunks]:
        """The answer piece by piece; leaving the context stops the work behind it."""
        if self._streaming is not None:
            return self._streaming.stream(request)
        return self._routed_stream(request)

    async def _routed(self, request: ChatRequest) -> Completion:
        assert self._router is not None
        answer: Completion = await self._router.acompletion(
            request.model, list(request.messages), **_arguments(request)
        )
        return answer

    @asynccontextmanager
    async def _routed_stream(self, request: ChatRequest) -> AsyncIterator[Chunks]:
        assert self._router is not None
        stream = await self._router.acompletion(
            request.model,
            list(request.messages),
            stream=True,
            **_arguments(request),
        )
        try:
            yield stream
        finally:
            await stream.aclose()


def _arguments(request: ChatRequest) -> dict[str, Any]:
    # As extra_body everything a client wrote is the model's business. As keyword arguments,
    # `api_base` would send the server's key wherever the client likes.
    return {"timeout": request.timeout_s, "extra_body": dict(request.params)}
