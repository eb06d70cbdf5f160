"""The core keeps the promises it asks of others: its own plugins under the kit's suites."""

from __future__ import annotations

from typing import Any

import pytest
from scillm.protocols import Host
from scillm.providers.echo import Echo
from scillm.providers.openai_like import OpenAILike
from scillm.records import ChatRequest, Endpoint, evolve
from scillm.search.sweep import Sweep
from scillm.testing import (
    ProviderConformance,
    StrategyConformance,
)


class TestEcho(ProviderConformance):
    deterministic = True

    @pytest.fixture
    def provider(self, endpoint: Endpoint, host: Host) -> Echo:
        return Echo(endpoint, host)

    @pytest.fixture
    def failing_request(self) -> ChatRequest:
        return ChatRequest(model="conformance", messages=[])


class TestOpenAILike(ProviderConformance):
    """Against a real HTTP server on loopback."""

    deterministic = True

    @pytest.fixture
    def endpoint(self, faulty_server: Any, endpoint: Endpoint) -> Endpoint:
        return evolve(endpoint, api_base=faulty_server.base_url)

    @pytest.fixture
    def provider(self, endpoint: Endpoint, host: Host) -> OpenAILike:
        return OpenAILike(endpoint, host)

    @pytest.fixture
    def failing_request(self) -> ChatRequest:
        return ChatRequest(model="conformance", messages=[])


class TestSweep(StrategyConformance):
    @pytest.fixture
    def make_strategy(self) -> type[Sweep]:
        return Sweep
