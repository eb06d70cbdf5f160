"""The conformance suite for providers that make vectors: give it a fixture `provider`."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scillm.errors import ScillmError
from scillm.models import EmbeddingResponse
from scillm.protocols import Embeds
from scillm.records import EmbeddingRequest
from scillm.testing.answers import check_error, check_plain_json, check_secrets_absent, pickled
from scillm.testing.asking import FEW, ProviderSuite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.records import Endpoint

TEXTS = st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=5)


class EmbeddingConformance(ProviderSuite):
    """What every provider that makes vectors promises, on asyncio and on trio.

    Inherit it beside, or without, `ProviderConformance`, and give a fixture `provider`. Knobs:
    `model`, `params`, `deterministic` (equal texts get equal vectors), and the fixtures
    `api_base`, `endpoint`, `host` and `failing_embedding`.
    """

    @pytest.fixture
    def failing_embedding(self) -> EmbeddingRequest | None:
        """A request the provider must refuse with an error, or None when there is none."""
        return None

    def texts_request(self, texts: str | Sequence[str]) -> EmbeddingRequest:
        """The request for the vectors of `texts`."""
        return EmbeddingRequest(
            model=self.model,
            requested_model=self.model,
            input=texts,
            params=copy.deepcopy(dict(self.params)),
        )

    def test_makes_vectors(self, provider: Embeds) -> None:
        """It has the one method of such providers."""
        assert isinstance(provider, Embeds), (
            f"{type(provider).__name__} has no method embed(request)."
        )

    @FEW
    @given(texts=TEXTS)
    async def test_every_text_gets_its_vector(self, provider: Embeds, texts: list[str]) -> None:
        """There are as many vectors as texts, numbered from 0, of one length, not empty."""
        answer = check_vectors(await provider.embed(self.texts_request(texts)), len(texts))

        assert len({len(row.embedding) for row in answer.data}) == 1, (
            "All vectors of an answer must have the same length."
        )

    async def test_one_text_needs_no_list(self, provider: Embeds) -> None:
        """A bare text gets one vector."""
        check_vectors(await provider.embed(self.texts_request(self.prompts[0])), 1)

    async def test_vectors_belong_to_their_texts(self, provider: Embeds) -> None:
        """A text has the same vector wherever it stands, and another text has another one."""
        if not self.deterministic:
            pytest.skip("set `deterministic = True` if the same text gets the same vector")
        first, second = self.prompts
        answer = check_vectors(await provider.embed(self.texts_request([first, second, first])), 3)
        alone = check_vectors(await provider.embed(self.texts_request(second)), 1)
        rows = [row.embedding for row in answer.data]

        assert rows[0] == rows[2], "The same text got two vectors in one answer."
        assert rows[1] == alone.data[0].embedding, (
            "A text's vector depends on its place: is every vector at the index of its text?"
        )
        assert rows[0] != rows[1], "Two texts got the same vector; give other `prompts`?"

    async def test_vectors_can_be_kept(self, provider: Embeds) -> None:
        """An answer goes to plain JSON, pickles and copies, and loses nothing."""
        answer = check_vectors(await provider.embed(self.texts_request(list(self.prompts))), 2)
        check_plain_json(answer.to_dict(), "EmbeddingResponse.to_dict()")

        assert pickled(answer) == answer == copy.deepcopy(answer)

    async def test_leaves_the_request_for_vectors_alone(self, provider: Embeds) -> None:
        """The request, its input and its params are the same after the call as before."""
        request = self.texts_request(list(self.prompts))
        before = copy.deepcopy(request)
        await provider.embed(request)

        assert request == before, "embed() must not change the request; copy what you alter."

    async def test_shows_no_secret_with_vectors(
        self,
        provider: Embeds,
        endpoint: Endpoint,
        every_log_line: pytest.LogCaptureFixture,
    ) -> None:
        """Neither answer nor log lines hold the endpoint's key or headers."""
        answer = await provider.embed(self.texts_request(self.prompts[0]))

        check_secrets_absent("the answer", pickle.dumps(answer), endpoint.secrets())
        check_secrets_absent("a log line", every_log_line.text, endpoint.secrets())

    async def test_refusing_vectors_is_a_scillm_error(
        self, provider: Embeds, failing_embedding: EmbeddingRequest | None, endpoint: Endpoint
    ) -> None:
        """A refused request raises an error of the tree, without secrets."""
        if failing_embedding is None:
            pytest.skip("give a fixture `failing_embedding` to have the errors checked")
        with pytest.raises(ScillmError) as caught:
            await provider.embed(failing_embedding)

        check_error(caught.value, endpoint.secrets())


def check_vectors(answer: object, count: int) -> EmbeddingResponse:
    """`answer`, if it has `count` vectors of numbers in order; fails otherwise."""
    assert isinstance(answer, EmbeddingResponse), (
        f"embed() must return an EmbeddingResponse, but returned a {type(answer).__name__}."
    )
    assert [row.index for row in answer.data] == list(range(count)), (
        f"{count} texts need vectors with the indices 0 to {count - 1}, in this order."
    )
    for row in answer.data:
        assert isinstance(row.embedding, list), "A vector is a list of numbers."
        assert row.embedding, "A vector is not empty."
        assert {type(number) for number in row.embedding} <= {int, float}, (
            "A vector holds numbers alone."
        )
    return answer
