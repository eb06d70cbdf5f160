"""What a provider that streams promises; a provider that does not is skipped, visibly."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given

from scillm.errors import ScillmError
from scillm.http.folding import Fold
from scillm.protocols import Streams
from scillm.records import evolve
from scillm.testing.answers import (
    check_chunks,
    check_completion,
    check_error,
    check_plain_json,
    check_secrets_absent,
    check_shape,
    pickled,
)
from scillm.testing.asking import CONVERSATIONS, FEW, ProviderSuite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.models import Completion, CompletionChunk
    from scillm.protocols import Provider
    from scillm.records import ChatRequest, Endpoint, Message


class ReaderError(Exception):
    """Stands for whatever goes wrong in the code that reads a stream."""


def streaming(provider: Provider) -> Streams:
    """`provider`, if it streams; otherwise the test is skipped."""
    if not isinstance(provider, Streams):
        pytest.skip(f"{type(provider).__name__} has no method stream")
    return provider


async def collect(provider: Streams, request: ChatRequest) -> list[CompletionChunk]:
    """Every chunk of the answer to `request`."""
    async with provider.stream(evolve(request, stream=True)) as chunks:
        return [chunk async for chunk in chunks]


def folded(chunks: Sequence[CompletionChunk]) -> Completion:
    """The completion that `chunks` add up to."""
    fold = Fold()
    for chunk in chunks:
        fold.add(chunk)
    return fold.completion()


class StreamingPromises(ProviderSuite):
    """The part of `ProviderConformance` that is about streams."""

    @FEW
    @given(messages=CONVERSATIONS)
    async def test_stream_is_a_whole_answer(
        self, provider: Provider, messages: Sequence[Message]
    ) -> None:
        """A stream's chunks add up to one whole answer, and its end says why it ended."""
        chunks = await collect(streaming(provider), self.make_request(messages))

        check_chunks(chunks)
        check_shape(folded(chunks))
        for chunk in chunks:
            check_plain_json(chunk.to_dict(), "CompletionChunk.to_dict()")
            assert pickled(chunk) == chunk, "A chunk must survive pickling."

    async def test_stream_and_complete_say_the_same(self, provider: Provider) -> None:
        """Streamed or whole, a deterministic provider gives the same text and reason to end."""
        if not self.deterministic:
            pytest.skip("set `deterministic = True` if the same request gets the same text")
        streamed = folded(await collect(streaming(provider), self.ask(self.prompts[0])))
        whole = check_completion(await provider.complete(self.ask(self.prompts[0])))

        assert [
            (choice.message.content or "", choice.finish_reason) for choice in streamed.choices
        ] == [(choice.message.content or "", choice.finish_reason) for choice in whole.choices]

    async def test_stream_leaves_the_request_alone(self, provider: Provider) -> None:
        """Streaming changes nothing in the request it was given."""
        request = evolve(self.ask(self.prompts[0]), stream=True)
        before = copy.deepcopy(request)
        async with streaming(provider).stream(request) as chunks:
            async for _ in chunks:
                pass

        assert request == before, "stream() must not change the request; copy what you alter."

    @pytest.mark.parametrize("taken", [0, 1])
    async def test_stream_can_be_left_early(self, provider: Provider, taken: int) -> None:
        """A reader may leave a stream at any point; the next call is answered as usual."""
        async with streaming(provider).stream(
            evolve(self.ask(self.prompts[0]), stream=True)
        ) as chunks:
            for _ in range(taken):
                await chunks.__anext__()

        check_completion(await provider.complete(self.ask(self.prompts[0])))

    async def test_stream_passes_the_readers_error_on(self, provider: Provider) -> None:
        """What goes wrong in the reader of a stream reaches the reader's caller as it is.

        Not in an exception group, and not as another error: neither would be caught.
        """
        opened = streaming(provider)

        async def fail_while_reading() -> None:
            async with opened.stream(evolve(self.ask(self.prompts[0]), stream=True)) as chunks:
                async for _ in chunks:
                    raise ReaderError

        with pytest.raises(ReaderError):
            await fail_while_reading()

    async def test_stream_can_be_cancelled(self, provider: Provider) -> None:
        """A cancelled stream ends promptly, and the next call is answered as usual."""
        opened = streaming(provider)

        async def read(*, scope: anyio.CancelScope) -> None:
            async with opened.stream(evolve(self.ask(self.prompts[0]), stream=True)) as chunks:
                async for _ in chunks:
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()

        started_s = anyio.current_time()
        with anyio.CancelScope() as scope:
            await read(scope=scope)
        took_s = anyio.current_time() - started_s

        assert scope.cancelled_caught, "A stream must let a cancellation through, not swallow it."
        assert took_s < self.stops_within_s, (
            f"A cancelled stream took {took_s:.1f} s to end; {self.stops_within_s} s are allowed."
        )
        check_completion(await provider.complete(self.ask(self.prompts[0])))

    async def test_streams_do_not_mix(self, provider: Provider) -> None:
        """Streams read in turn, piece by piece, each give their own answer."""
        if not self.deterministic:
            pytest.skip("set `deterministic = True` if the same request gets the same text")
        opened = streaming(provider)
        requests = [self.ask(prompt) for prompt in self.prompts]
        alone = [folded(await collect(opened, request)).text for request in requests]
        if alone[0] == alone[1]:
            pytest.skip("both `prompts` get the same answer, so a mix could not be seen")
        found: dict[int, str] = {}

        async def read(number: int) -> None:
            sofar = []
            async with opened.stream(evolve(requests[number], stream=True)) as chunks:
                async for chunk in chunks:
                    sofar.append(chunk)
                    await anyio.lowlevel.checkpoint()
            found[number] = folded(sofar).text

        async with anyio.create_task_group() as group:
            group.start_soon(read, 0)
            group.start_soon(read, 1)

        assert [found[0], found[1]] == alone, "Two streams at once must not share any state."

    async def test_stream_hides_secrets(
        self,
        provider: Provider,
        endpoint: Endpoint,
        every_log_line: pytest.LogCaptureFixture,
    ) -> None:
        """No key of the endpoint can be read in a chunk or in what is logged while streaming."""
        chunks = await collect(streaming(provider), self.ask(self.prompts[0]))

        check_secrets_absent("a chunk", pickle.dumps(chunks), endpoint.secrets())
        check_secrets_absent("a log line", every_log_line.text, endpoint.secrets())

    async def test_stream_failure_is_a_scillm_error(
        self, provider: Provider, failing_request: ChatRequest | None, endpoint: Endpoint
    ) -> None:
        """A refused stream raises an error of SciLLM too, when it opens or while it is read."""
        if failing_request is None:
            pytest.skip("give a fixture `failing_request` to have the errors checked")
        opened = streaming(provider)
        with pytest.raises(ScillmError) as caught:
            await collect(opened, failing_request)

        check_error(caught.value, endpoint.secrets())
