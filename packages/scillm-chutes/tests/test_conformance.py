"""Chutes keeps what the core's conformance suites ask of every provider and every plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scillm.records import ChatRequest, EmbeddingRequest, Endpoint
from scillm.testing import EmbeddingConformance, PluginConformance, ProviderConformance
from scillm_chutes.desk import Desk
from scillm_chutes.fake import FakeAccount, FakeChutes
from scillm_chutes.pacing import PaceRules
from scillm_chutes.provider import Chutes
from scillm_chutes.sites import site_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT = FakeAccount(limit_per_min=1e9, burst=1e9)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeChutes]:
    with FakeChutes(accounts=[ACCOUNT]) as fake:
        for model in fake.models.values():
            model.concurrency = 1000
        yield fake


class TestChutes(ProviderConformance):
    """On asyncio and trio, against the fake's real sockets."""

    model = "acme/Alder-3-32B"
    deterministic = True

    @pytest.fixture
    def api_base(self, server):
        return server.api_base

    @pytest.fixture
    def endpoint(self, server):
        return Endpoint(provider="chutes", api_base=server.api_base, api_key=server.key)

    @pytest.fixture
    def failing_request(self):
        return ChatRequest(model="absent/Model-1B", messages=[{"role": "user", "content": "?"}])

    @pytest.fixture
    def provider(self, endpoint, host):
        desk = Desk()
        fast = PaceRules(per_s=1e6, burst=1e6)
        desk.gate(site_of(endpoint.api_base), endpoint.api_key, fast)
        return Chutes(endpoint, host, desk=desk)


class TestVectors(EmbeddingConformance):
    """The same provider, asked for vectors at the fake's host for them."""

    model = "juniper/Juniper-Embed-0.6B"
    deterministic = True
    endpoint = TestChutes.endpoint
    provider = TestChutes.provider

    @pytest.fixture
    def api_base(self, server):
        return server.api_base

    @pytest.fixture
    def failing_embedding(self):
        return EmbeddingRequest(model="absent/Model-1B", input="?")


class TestDistribution(PluginConformance):
    """Installing the distribution promises what its metadata says."""

    @pytest.fixture
    def distribution(self):
        return "scillm-chutes"
