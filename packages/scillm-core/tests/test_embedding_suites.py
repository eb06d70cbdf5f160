"""The core's makers of vectors keep what the kit asks of others' makers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from scillm.providers.echo import Echo
from scillm.providers.mock import Mock, MockReply
from scillm.providers.openai_like import OpenAILike
from scillm.records import EmbeddingRequest, Endpoint
from scillm.testing import EmbeddingConformance
from support.faulty import Json

if TYPE_CHECKING:
    from scillm.protocols import Host
    from support.http1 import Request


class TestEcho(EmbeddingConformance):
    deterministic = True

    @pytest.fixture
    def provider(self, endpoint: Endpoint, host: Host) -> Echo:
        return Echo(endpoint, host)

    @pytest.fixture
    def failing_embedding(self) -> EmbeddingRequest:
        return EmbeddingRequest(model="conformance", input="x", params={"dimensions": 0})


class TestMock(EmbeddingConformance):
    """Every text gets the vector that was given, so they cannot be told apart."""

    @pytest.fixture
    def provider(self) -> Mock:
        return Mock(MockReply(response=[0.5, 1.0]))


class TestOpenAILike(EmbeddingConformance):
    """Against a real HTTP server on loopback that sends its rows in reverse."""

    deterministic = True

    @pytest.fixture
    def api_base(self, faulty_server: Any) -> str:
        faulty_server.route("/v1/embeddings", vectors)
        return str(faulty_server.base_url)

    @pytest.fixture
    def provider(self, endpoint: Endpoint, host: Host) -> OpenAILike:
        return OpenAILike(endpoint, host)

    @pytest.fixture
    def failing_embedding(self) -> EmbeddingRequest:
        return EmbeddingRequest(model="absent", input="x")


def vectors(request: Request) -> Json:
    """Rows in reverse order, numbered; 404 for the model `absent`."""
    if request.json["model"] == "absent":
        return Json({"error": {"message": "no such model"}}, 404)
    given = request.json["input"]
    texts = given if isinstance(given, list) else [given]
    rows = [
        {"index": at, "embedding": [*hashlib.sha256(text.encode()).digest()[:4]]}
        for at, text in enumerate(texts)
    ]
    return Json({"object": "list", "model": "m", "data": rows[::-1]})
