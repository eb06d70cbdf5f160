"""The HTTP provider: two pure functions, `prepare` and `parse`, make a whole provider.

A subclass says how a request is written and how a reply is read; calling, streaming, errors,
masking and naming come from here.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio

from scillm.errors import APIConnectionError, MalformedReplyError, ProviderError
from scillm.http.sse import ServerSentEvent, SSEDecoder
from scillm.http.wire import read_chunk, read_completion
from scillm.models import ChunkChoice, CompletionChunk, Delta
from scillm.providers.failures import excerpt, failure, failure_inside, looks_like_html
from scillm.providers.replyhead import side_of, with_side
from scillm.providers.secrets import masked
from scillm.records import HttpReply

if TYPE_CHECKING:
    from scillm.models import Answered, Completion
    from scillm.protocols import Host
    from scillm.records import ChatRequest, EmbeddingRequest, Endpoint, HttpCall, HttpStream, Json

Answer = TypeVar("Answer", bound="Answered")

MAX_ERROR_BODY_BYTES = 1024 * 1024
SHOWN_CHARS = 200
DONE = "[DONE]"
DRAIN_S = 0.05


class HttpProvider(ABC):
    """A provider over HTTP. Remembers its endpoint and what the host lends."""

    def __init__(self, endpoint: Endpoint, host: Host) -> None:
        self.endpoint = endpoint
        self.host = host

    @abstractmethod
    def prepare(self, request: ChatRequest) -> HttpCall:
        """The HTTP call for `request`; pure. Raises `UsageError` when it cannot be written."""

    def parse(self, reply: HttpReply) -> Completion:
        """The completion in a reply of status 2xx; pure. The default reads OpenAI's shape."""
        document = self.document(reply)
        self.refuse_error(document, reply.headers)
        return read_completion(document)

    def parse_chunk(self, document: Json) -> CompletionChunk | None:
        """The chunk in one event's JSON; pure. None for an event that carries nothing."""
        return read_chunk(document)

    async def complete(self, request: ChatRequest, /) -> Completion:
        """Answer `request`; raises `ProviderError` with provider and model set."""
        return await self.exchange(request, self.prepare(request), self.parse)

    async def exchange(
        self,
        request: ChatRequest | EmbeddingRequest,
        call: HttpCall,
        parse: Callable[[HttpReply], Answer],
    ) -> Answer:
        """Send `call` for `request` and `parse` the reply; errors as those of `complete`."""
        try:
            reply = await self.host.transport.send(call)
            if reply.status >= 300:
                raise self.refusal(reply)
            return with_side(parse(reply), self.side(reply.headers))
        except ProviderError as error:
            self._name(error, request)
            raise

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, /
    ) -> AsyncIterator[AsyncIterator[CompletionChunk]]:
        """Open the streamed answer to `request`; leaving the context closes the connection."""
        call = self.prepare(request)
        with self.named(request):
            async with self.host.transport.stream(call) as head:
                if head.status >= 300:
                    body = await _read_up_to(head.chunks, MAX_ERROR_BODY_BYTES)
                    raise self.refusal(
                        HttpReply(status=head.status, headers=head.headers, body=body)
                    )
                chunks = self._chunks(head, request)
                try:
                    yield _Chunks(chunks, self.side(head.headers))
                finally:
                    await chunks.aclose()

    def document(self, reply: HttpReply) -> Json:
        """The JSON of a reply; `MalformedReplyError` for anything else."""
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError) as error:
            raise self._malformed(reply.body, error) from error

    def refuse_error(self, document: Json, headers: object = None) -> None:
        """Raise the error that `document` reports although the status was 2xx."""
        if not isinstance(document, dict) or not document.get("error"):
            return
        error = failure_inside(
            document,
            headers=headers if isinstance(headers, dict) else {},
            who=self.endpoint.label,
            secrets=self.endpoint.secrets(),
            now=time.time(),
        )
        if error is not None:
            raise error

    def refusal(self, reply: HttpReply) -> ProviderError:
        """The error for a reply of status 300 or more; to be overridden where a server's own
        words say more than its status."""
        return failure(
            status=reply.status,
            headers=reply.headers,
            body=reply.body,
            who=self.endpoint.label,
            secrets=self.endpoint.secrets(),
            now=time.time(),
        )

    def _malformed(self, body: bytes | str, error: Exception) -> MalformedReplyError:
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        shown = masked(text, self.endpoint.secrets())
        what = "an HTML page" if looks_like_html(text) else f"{excerpt(shown, SHOWN_CHARS)!r}"
        return MalformedReplyError(
            f"{self.endpoint.label} should have answered with JSON, but sent {what} ({error}).",
            body=excerpt(shown, 2000),
        )

    def side(self, headers: Mapping[str, str]) -> Mapping[str, Json]:
        """What the head of an answer says besides the answer, for `scillm_meta`.

        Called once for each answer, and for a stream when its head is there.
        """
        return side_of(headers)

    @contextmanager
    def named(self, request: ChatRequest | EmbeddingRequest) -> Iterator[None]:
        """Set provider and model on every `ProviderError` that leaves the block."""
        try:
            yield
        except ProviderError as error:
            self._name(error, request)
            raise

    def _name(self, error: ProviderError, request: ChatRequest | EmbeddingRequest) -> None:
        error.provider = error.provider or self.endpoint.provider
        error.model = error.model or request.model

    async def _chunks(
        self, head: HttpStream, request: ChatRequest
    ) -> AsyncGenerator[CompletionChunk, None]:
        with self.named(request):
            kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind in ("application/json", "text/html"):
                yield await self._whole(head)
                return
            ended = _Ending()
            async with aclosing(_events(head.chunks)) as events:
                async for event in events:
                    if event.data.strip() == DONE:
                        await _drain(head.chunks)
                        return
                    chunk = self._read_event(event)
                    if chunk is not None:
                        ended.see(chunk)
                        yield chunk
            if not ended:
                raise APIConnectionError(
                    f"{self.endpoint.label} ended the stream before the answer was finished."
                )

    async def _whole(self, head: HttpStream) -> CompletionChunk:
        """The answer of a server that was asked to stream and did not."""
        body = b"".join([piece async for piece in head.chunks])
        reply = HttpReply(status=head.status, headers=head.headers, body=body)
        return _as_chunk(self.parse(reply))

    def _read_event(self, event: ServerSentEvent) -> CompletionChunk | None:
        try:
            document = json.loads(event.data)
        except (ValueError, RecursionError) as error:
            raise self._malformed(event.data, error) from error
        if event.event == "error" and isinstance(document, dict) and "error" not in document:
            document = {"error": document}
        self.refuse_error(document)
        if event.bare and isinstance(document, dict) and "choices" not in document:
            # A bare JSON line is how some gateways say that something went wrong.
            self.refuse_error({"error": document})
        return self.parse_chunk(document)


class _Chunks:
    """The chunks of a stream. Remembers in `side` what the head of the reply said."""

    def __init__(self, source: AsyncIterator[CompletionChunk], side: Mapping[str, Json]) -> None:
        self._source = source
        self.side = side

    def __aiter__(self) -> _Chunks:
        return self

    def __anext__(self) -> Awaitable[CompletionChunk]:
        return self._source.__anext__()


class _Ending:
    """Whether every choice of a stream has said why it ended. Remembers the open ones."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.open: set[int] = set()

    def see(self, chunk: CompletionChunk) -> None:
        for choice in chunk.choices:
            if choice.index not in self.seen:
                self.open.add(choice.index)
            self.seen.add(choice.index)
            if choice.finish_reason:
                self.open.discard(choice.index)

    def __bool__(self) -> bool:
        return bool(self.seen) and not self.open


async def _events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[ServerSentEvent, None]:
    decoder = SSEDecoder()
    async for piece in pieces:
        for event in decoder.feed(piece):
            yield event
    for event in decoder.finish():
        yield event


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    # The end of the body mostly comes with [DONE]; only a body read to its end leaves a
    # connection that can be used again. A server that keeps it open is not waited for.
    with anyio.move_on_after(DRAIN_S):
        async for _piece in pieces:
            continue


async def _read_up_to(pieces: AsyncIterator[bytes], limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= limit:
            break
    return b"".join(parts)[:limit]


def _as_chunk(completion: Completion) -> CompletionChunk:
    choices = [
        ChunkChoice(
            index=choice.index,
            delta=Delta(
                **{
                    name: getattr(choice.message, name)
                    for name in (
                        "role",
                        "content",
                        "tool_calls",
                        "function_call",
                        "refusal",
                        "reasoning_content",
                        "extra",
                    )
                }
            ),
            finish_reason=choice.finish_reason,
            logprobs=choice.logprobs,
        )
        for choice in completion.choices
    ]
    return CompletionChunk(
        id=completion.id,
        created=completion.created,
        model=completion.model,
        choices=choices,
        usage=completion.usage,
        system_fingerprint=completion.system_fingerprint,
        extra=completion.extra,
    )
