"""Makers of vectors that each break one promise, and the tests of the kit that must catch them.

Not collected by itself: `test_testing_mutants.py` runs it in a subprocess.
"""

from __future__ import annotations

import logging

import pytest
from scillm.errors import BadRequestError
from scillm.providers.echo import Echo
from scillm.records import EmbeddingRequest, evolve
from scillm.testing import EmbeddingConformance


class Mutant(EmbeddingConformance):
    deterministic = True
    Provider = Echo

    @pytest.fixture
    def provider(self, endpoint, host):
        return self.Provider(endpoint, host)

    @pytest.fixture
    def failing_embedding(self):
        return EmbeddingRequest(model=self.model, input="x", params={"dimensions": 0})


class TestSound(Mutant):
    """Echo itself: the control."""

    caught_by = ()


class TestNoVectors(Mutant):
    """Answers chats alone."""

    caught_at_least_by = ("test_makes_vectors", "test_every_text_gets_its_vector")

    class Provider:
        def __init__(self, endpoint, host):
            self.endpoint = endpoint

        async def complete(self, request, /):
            return await Echo(self.endpoint, None).complete(request)


class TestReversed(Mutant):
    """Gives the last text's vector first, numbered as if it were the first's."""

    caught_by = ("test_vectors_belong_to_their_texts",)

    class Provider(Echo):
        async def embed(self, request, /):
            pieces = list(request.pieces)
            turned = [pieces[-1], *pieces[:-1]]
            return await super().embed(evolve(request, input=turned))


class TestOneShort(Mutant):
    """Drops the last vector of several."""

    caught_at_least_by = ("test_every_text_gets_its_vector", "test_vectors_can_be_kept")

    class Provider(Echo):
        async def embed(self, request, /):
            answer = await super().embed(request)
            return evolve(answer, data=answer.data[: max(1, len(answer.data) - 1)])


class TestListWanted(Mutant):
    """Takes a bare text for a list of letters."""

    caught_at_least_by = ("test_one_text_needs_no_list",)

    class Provider(Echo):
        async def embed(self, request, /):
            return await super().embed(evolve(request, input=list(request.input)))


class TestInputChanged(Mutant):
    """Adds a full stop to the caller's texts."""

    caught_by = ("test_leaves_the_request_for_vectors_alone",)

    class Provider(Echo):
        async def embed(self, request, /):
            answer = await super().embed(request)
            if isinstance(request.input, list):
                request.input[0] += "."
            return answer


class TestKeyLogged(Mutant):
    """Logs its key."""

    caught_by = ("test_shows_no_secret_with_vectors",)

    class Provider(Echo):
        async def embed(self, request, /):
            logging.getLogger("mutant").debug("asking with %s", self.endpoint.api_key)
            return await super().embed(request)


class TestKeyInError(Mutant):
    """Shows its key when it refuses."""

    caught_by = ("test_refusing_vectors_is_a_scillm_error",)

    class Provider(Echo):
        async def embed(self, request, /):
            if "dimensions" in request.params:
                raise BadRequestError(
                    f"{self.endpoint.api_key} may not ask that", provider="echo", model="m"
                )
            return await super().embed(request)


class TestCannotBeKept(Mutant):
    """Keeps a function in its answer."""

    caught_by = ("test_vectors_can_be_kept", "test_shows_no_secret_with_vectors")

    class Provider(Echo):
        async def embed(self, request, /):
            answer = await super().embed(request)
            return evolve(answer, extra={"again": lambda: answer})
