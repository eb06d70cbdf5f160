"""The conformance suite for providers: give it a fixture `provider`."""

from __future__ import annotations

import copy
import os
import pickle
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import given

from scillm import portal
from scillm.errors import ScillmError
from scillm.protocols import Closes, Lists, Provider
from scillm.testing.answers import check_completion, check_error, check_keeps, check_secrets_absent
from scillm.testing.asking import CONVERSATIONS, FEW
from scillm.testing.streaming import StreamingPromises

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.records import ChatRequest, Endpoint, Message

CANCEL_AFTER_S = (0.0, 0.001, 0.02)
ROUNDS = 4
"""How often each of the two prompts is asked at the same time."""


class ProviderConformance(StreamingPromises):
    """What every provider promises, on asyncio and on trio.

    Inherit, and give a fixture `provider`; the fixtures `endpoint` and `host` are lent::

        class TestMine(ProviderConformance):
            @pytest.fixture
            def provider(self, endpoint, host):
                return Mine(endpoint, host)

    Knobs: `model`, `params`, `deterministic`, `prompts`, `stops_within_s`, `make_request()`, and
    the fixtures `api_base`, `endpoint`, `host` and `failing_request`.
    """

    def test_is_a_provider(self, provider: Provider) -> None:
        """It has the one method every provider has."""
        assert isinstance(provider, Provider), (
            f"{type(provider).__name__} has no method complete(request)."
        )

    @FEW
    @given(messages=CONVERSATIONS)
    async def test_answers_every_conversation(
        self, provider: Provider, messages: Sequence[Message]
    ) -> None:
        """Any conversation gets a whole answer that reads alike by attribute and by key."""
        answer = await provider.complete(self.make_request(messages))

        check_completion(answer)

    async def test_answers_can_be_kept(self, provider: Provider) -> None:
        """An answer goes to plain JSON and back, pickles and copies, and loses nothing."""
        answer = check_completion(await provider.complete(self.ask(self.prompts[0])))

        check_keeps(answer)

    @FEW
    @given(messages=CONVERSATIONS)
    async def test_leaves_the_request_alone(
        self, provider: Provider, messages: Sequence[Message]
    ) -> None:
        """The request, its messages and its params are the same after the call as before."""
        request = self.make_request(messages)
        before = copy.deepcopy(request)
        await provider.complete(request)

        assert request == before, "complete() must not change the request; copy what you alter."

    async def test_leaves_the_environment_alone(
        self, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A call sets and deletes no environment variable, not even to the value it has."""
        changed: list[str] = []
        request = self.ask(self.prompts[0])
        with monkeypatch.context() as patch:
            # os.environ writes through these two; comparing it would miss what was set before.
            patch.setattr(os, "putenv", lambda name, _value: changed.append(os.fsdecode(name)))
            patch.setattr(os, "unsetenv", lambda name: changed.append(os.fsdecode(name)))
            await provider.complete(request)

        assert not changed, f"complete() changed environment variables: {', '.join(changed)}."

    async def test_same_request_gets_the_same_text(self, provider: Provider) -> None:
        """A deterministic provider repeats itself."""
        if not self.deterministic:
            pytest.skip("set `deterministic = True` if the same request gets the same text")
        answers = [
            check_completion(await provider.complete(self.ask(self.prompts[0]))).text
            for _ in range(3)
        ]

        assert answers == answers[:1] * 3, (
            "The suite says `deterministic = True`, but one request got different texts."
        )

    async def test_concurrent_calls_do_not_mix(self, provider: Provider) -> None:
        """Calls in flight at the same time each get the answer to their own question."""
        if not self.deterministic:
            pytest.skip("set `deterministic = True` if the same request gets the same text")
        alone = {
            prompt: check_completion(await provider.complete(self.ask(prompt))).text
            for prompt in self.prompts
        }
        if len(set(alone.values())) < len(self.prompts):
            pytest.skip("both `prompts` get the same answer, so a mix could not be seen")
        answers: list[tuple[str, str]] = []

        async def one(prompt: str) -> None:
            answer = check_completion(await provider.complete(self.ask(prompt)))
            answers.append((prompt, answer.text))

        async with anyio.create_task_group() as group:
            for prompt in self.prompts * ROUNDS:
                group.start_soon(one, prompt)

        wrong = [(prompt, text) for prompt, text in answers if text != alone[prompt]]
        assert not wrong, (
            f"{len(wrong)} of {len(answers)} calls made at the same time got another call's "
            f"answer, for example {wrong[0]}. Keep what belongs to a call out of `self`."
        )

    async def test_cancelled_call_ends_promptly(self, provider: Provider) -> None:
        """A cancelled call ends at once, and the provider answers the next one as usual."""
        for after_s in CANCEL_AFTER_S:
            started_s = anyio.current_time()
            async with anyio.create_task_group() as group:
                group.start_soon(provider.complete, self.ask(self.prompts[0]))
                await anyio.sleep(after_s)
                group.cancel_scope.cancel()
            took_s = anyio.current_time() - started_s

            assert took_s < self.stops_within_s, (
                f"A call cancelled after {after_s} s went on for {took_s:.1f} s; "
                f"{self.stops_within_s} s are allowed. Shield nothing that can wait."
            )
        check_completion(await provider.complete(self.ask(self.prompts[0])))

    async def test_serves_async_and_sync_callers_in_turn(self, provider: Provider) -> None:
        """One provider answers on this event loop, on SciLLM's own for sync callers, and again."""
        request = self.ask(self.prompts[0])
        for _ in range(2):
            here = await provider.complete(request)
            # The portal's loop runs in another thread; waiting for it here would stop this loop.
            there = await anyio.to_thread.run_sync(portal.call, provider.complete, request)

            check_completion(here)
            check_completion(there)

    async def test_hides_secrets(
        self,
        provider: Provider,
        endpoint: Endpoint,
        every_log_line: pytest.LogCaptureFixture,
    ) -> None:
        """No key of the endpoint can be read in the provider's repr, an answer or a log line."""
        secrets = endpoint.secrets()
        assert secrets, "Give the fixture `endpoint` an api_key, so that a leak could be seen."
        answer = await provider.complete(self.ask(self.prompts[0]))

        check_secrets_absent("repr(provider)", repr(provider), secrets)
        check_secrets_absent("str(provider)", str(provider), secrets)
        check_secrets_absent("the answer", pickle.dumps(answer), secrets)
        check_secrets_absent("a log line", every_log_line.text, secrets)

    async def test_prints_nothing(
        self, provider: Provider, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Standard output belongs to the program that asks."""
        await provider.complete(self.ask(self.prompts[0]))

        assert capsys.readouterr().out == "", (
            "complete() must not print; log, or say it in an error."
        )

    async def test_failure_is_a_scillm_error(
        self, provider: Provider, failing_request: ChatRequest | None, endpoint: Endpoint
    ) -> None:
        """A refused request raises an error of SciLLM that says who failed, and keeps no secret."""
        if failing_request is None:
            pytest.skip("give a fixture `failing_request` to have the errors checked")
        with pytest.raises(ScillmError) as caught:
            await provider.complete(failing_request)

        check_error(caught.value, endpoint.secrets())

    async def test_lists_its_models(self, provider: Provider) -> None:
        """A provider that lists models gives distinct, non-empty ids."""
        if not isinstance(provider, Lists):
            pytest.skip(f"{type(provider).__name__} has no method models")
        names = list(await provider.models())

        assert all(isinstance(name, str) and name for name in names), f"Not all ids: {names}."
        assert len(set(names)) == len(names), f"Model ids are distinct, but came as {names}."

    async def test_closes_twice(self, provider: Provider) -> None:
        """A provider that holds resources can be closed, and closed again."""
        if not isinstance(provider, Closes):
            pytest.skip(f"{type(provider).__name__} has no method aclose")
        await provider.aclose()
        await provider.aclose()
