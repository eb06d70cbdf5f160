"""Providers that each break one promise, and the tests of the kit that must catch them.

Not collected by itself: `test_testing_mutants.py` runs it in a subprocess.
"""

from __future__ import annotations

import itertools
import logging
import os
from contextlib import aclosing, asynccontextmanager
from types import MappingProxyType
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from scillm.errors import BadRequestError
from scillm.providers.echo import Echo
from scillm.records import ChatRequest, evolve
from scillm.testing import ProviderConformance

count = itertools.count()


def with_choice(answer, **changes):
    return evolve(answer, choices=[evolve(answer.choices[0], **changes)])


class Mutant(ProviderConformance):
    deterministic = True
    Provider = Echo

    @pytest.fixture
    def provider(self, endpoint, host):
        return self.Provider(endpoint, host)


class TestSound(Mutant):
    """Echo itself: the control."""

    caught_by = ()


class TestRequestChanged(Mutant):
    """Adds a system message to the caller's list."""

    caught_by = ("test_leaves_the_request_alone",)

    class Provider(Echo):
        async def complete(self, request, /):
            messages: Any = request.messages
            messages.insert(0, {"role": "system", "content": "Be brief."})
            return await super().complete(request)


class TestParamsChanged(Mutant):
    """Empties the caller's params, at depth."""

    params = MappingProxyType({"stop": ["END"]})
    caught_by = (
        "test_leaves_the_request_alone",
        "test_stream_leaves_the_request_alone",
    )

    class Provider(Echo):
        async def complete(self, request, /):
            request.params["stop"].clear()
            return await super().complete(request)

        def stream(self, request, /):
            request.params["stop"].clear()
            return super().stream(request)


class TestKeyInRepr(Mutant):
    """Shows its endpoint's key in its repr."""

    caught_by = ("test_hides_secrets",)

    class Provider(Echo):
        def __repr__(self):
            return f"Provider(key={self.endpoint.api_key!r})"


class TestKeyInAnswer(Mutant):
    """Keeps the headers it sent, in the answer's side information."""

    caught_by = ("test_hides_secrets",)

    class Provider(Echo):
        async def complete(self, request, /):
            answer = await super().complete(request)
            return evolve(answer, additional_kwargs={"sent": dict(self.endpoint.extra_headers)})


class TestKeyInLog(Mutant):
    """Logs the key, at debug level only."""

    caught_by = (
        "test_hides_secrets",
        "test_stream_hides_secrets",
    )

    class Provider(Echo):
        def _said(self, request):
            logging.getLogger("mutant").debug("with key %s", self.endpoint.api_key)
            return super()._said(request)


class Refuses(Mutant):
    @pytest.fixture
    def failing_request(self):
        return ChatRequest(model="conformance", messages=[])


class TestKeyInError(Refuses):
    """Quotes the key when it refuses."""

    caught_by = ("test_failure_is_a_scillm_error",)

    class Provider(Echo):
        async def complete(self, request, /):
            if not request.messages:
                raise BadRequestError(
                    f"refused for {self.endpoint.api_key}", provider="echo", model=request.model
                )
            return await super().complete(request)


class TestAnonymousError(Refuses):
    """Refuses without saying who refused."""

    caught_by = ("test_failure_is_a_scillm_error",)

    class Provider(Echo):
        async def complete(self, request, /):
            if not request.messages:
                raise BadRequestError("refused")
            return await super().complete(request)


class TestForeignError(Refuses):
    """Lets an error of its own library through."""

    caught_by = ("test_failure_is_a_scillm_error",)

    class Provider(Echo):
        async def complete(self, request, /):
            return await super().complete(evolve(request, model=request.messages[-1]["content"]))


class TestForeignErrorInStream(Refuses):
    """Lets an error of its own library through, but only when it streams."""

    caught_by = ("test_stream_failure_is_a_scillm_error",)

    class Provider(Echo):
        def stream(self, request, /):
            return super().stream(evolve(request, model=request.messages[-1]["content"]))


class TestKeyInStreamError(Refuses):
    """Quotes the key when it refuses to stream."""

    caught_by = ("test_stream_failure_is_a_scillm_error",)

    class Provider(Echo):
        def stream(self, request, /):
            if not request.messages:
                raise BadRequestError(
                    f"refused for {self.endpoint.api_key}", provider="echo", model=request.model
                )
            return super().stream(request)


class TestChatty(Mutant):
    """Prints what it does."""

    caught_by = ("test_prints_nothing",)

    class Provider(Echo):
        async def complete(self, request, /):
            print(f"asked for {request.model}")  # noqa: T201
            return await super().complete(request)


class TestMixedAnswers(Mutant):
    """Keeps the request in `self` while it waits."""

    caught_by = ("test_concurrent_calls_do_not_mix",)

    class Provider(Echo):
        async def complete(self, request, /):
            self.request = request
            await anyio.lowlevel.checkpoint()
            return await super().complete(self.request)


class TestMixedStreams(Mutant):
    """Keeps the request in `self` while it streams."""

    caught_by = ("test_streams_do_not_mix",)

    class Provider(Echo):
        @asynccontextmanager
        async def stream(self, request, /):
            self.request = request
            await anyio.lowlevel.checkpoint()
            async with super().stream(self.request) as chunks:
                yield chunks


class TestMoody(Mutant):
    """Claims to be deterministic and is not."""

    caught_by = (
        "test_same_request_gets_the_same_text",
        "test_concurrent_calls_do_not_mix",
        "test_streams_do_not_mix",
        "test_stream_and_complete_say_the_same",
    )

    class Provider(Echo):
        def _said(self, request):
            return f"{super()._said(request)} {next(count)}"


class TestEnvironmentWritten(Mutant):
    """Sets the same variable to the same value again and again."""

    caught_by = ("test_leaves_the_environment_alone",)

    class Provider(Echo):
        async def complete(self, request, /):
            os.environ["MUTANT_MODEL"] = "conformance"
            return await super().complete(request)


class TestShielded(Mutant):
    """Tidies up for more than a second when it is cancelled."""

    stops_within_s = 1.0
    caught_by = ("test_cancelled_call_ends_promptly",)

    class Provider(Echo):
        async def complete(self, request, /):
            try:
                await anyio.sleep(0.002)
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1.1)
                raise
            return await super().complete(request)


class TestOneLoop(Mutant):
    """Belongs to the event loop it was first used on, as a client with a connection pool does.

    The generated conversations show it as well: pytest's anyio plugin gives each its own loop.
    """

    caught_by = (
        "test_serves_async_and_sync_callers_in_turn",
        "test_answers_every_conversation",
        "test_leaves_the_request_alone",
    )

    class Provider(Echo):
        home = None

        async def complete(self, request, /):
            here = anyio.lowlevel.current_token()
            self.home = self.home or here
            if self.home != here:
                raise RuntimeError("Event loop is closed")
            return await super().complete(request)


class TestHalfKept(Mutant):
    """Puts something into the side information that is not plain JSON."""

    caught_by = ("test_answers_can_be_kept",)

    class Provider(Echo):
        async def complete(self, request, /):
            return evolve(await super().complete(request), additional_kwargs={"m": {"a", "b"}})


class TestWrongSum(Mutant):
    """Streams usage that does not add up."""

    caught_by = ("test_stream_is_a_whole_answer",)

    class Provider(Echo):
        async def _chunks(self, request):
            from scillm.models import Usage

            wrong = Usage(prompt_tokens=2, completion_tokens=2, total_tokens=5)
            async with aclosing(super()._chunks(request)) as chunks:
                async for chunk in chunks:
                    yield evolve(chunk, usage=wrong)


class TestNoGoodbye(Mutant):
    """Ends its streams without saying why."""

    caught_by = (
        "test_stream_is_a_whole_answer",
        "test_stream_and_complete_say_the_same",
    )

    class Provider(Echo):
        async def _chunks(self, request):
            async with aclosing(super()._chunks(request)) as chunks:
                async for chunk in chunks:
                    yield with_choice(chunk, finish_reason=None)


class TestTruncated(Mutant):
    """Loses a stream's first word."""

    caught_by = ("test_stream_and_complete_say_the_same",)

    class Provider(Echo):
        async def _chunks(self, request):
            number = 0
            async with aclosing(super()._chunks(request)) as chunks:
                async for chunk in chunks:
                    number += 1
                    if number != 1 or chunk.choices[0].finish_reason:
                        yield chunk


class TestGroupAcrossYield(Mutant):
    """Holds a task group open around the reader, whose errors then come wrapped in a group."""

    caught_by = ("test_stream_passes_the_readers_error_on",)

    class Provider(Echo):
        @asynccontextmanager
        async def stream(self, request, /):
            async with anyio.create_task_group(), super().stream(request) as chunks:
                yield chunks


class TestSwallows(Mutant):
    """Takes everything that goes wrong in the reader for the end of the stream."""

    caught_by = (
        "test_stream_passes_the_readers_error_on",
        "test_stream_can_be_cancelled",
    )

    class Provider(Echo):
        @asynccontextmanager
        async def stream(self, request, /):
            chunks = self._chunks(request)
            try:
                yield chunks
            except BaseException:  # noqa: BLE001 - this is the mistake
                pass
            finally:
                await chunks.aclose()


class TestUnclosed(Mutant):
    """Leaves its generator to the garbage collector when the reader leaves early."""

    caught_at_least_by = ("test_stream_can_be_left_early",)

    class Provider(Echo):
        @asynccontextmanager
        async def stream(self, request, /):
            yield self._chunks(request)


class TestNoReason(Mutant):
    """Finishes answers without a finish_reason; nearly every test looks at it."""

    caught_at_least_by = ("test_answers_every_conversation",)

    class Provider(Echo):
        async def complete(self, request, /):
            return with_choice(await super().complete(request), finish_reason=None)


class TestDictionary(Mutant):
    """Returns the document instead of the record."""

    caught_at_least_by = ("test_answers_every_conversation",)

    class Provider:
        def __init__(self, endpoint, host):
            self.echo = Echo(endpoint, host)

        async def complete(self, request, /):
            return (await self.echo.complete(request)).to_dict()


class TestTextOnly(Mutant):
    """Cannot read a message whose content is a list of parts."""

    caught_by = (
        "test_answers_every_conversation",
        "test_leaves_the_request_alone",
        "test_stream_is_a_whole_answer",
    )

    class Provider(Echo):
        def _said(self, request):
            return "".join(message["content"] for message in request.messages)
