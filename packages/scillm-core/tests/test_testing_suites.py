"""The core keeps the promises it asks of others: its own plugins under the kit's suites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from scillm.providers.echo import Echo
from scillm.providers.openai_like import OpenAILike
from scillm.records import ChatRequest, Endpoint
from scillm.resilience.retry import Backoff, NoRetry, Tenacious
from scillm.search.sweep import Sweep
from scillm.testing import (
    ProviderConformance,
    RetryPolicyConformance,
    StrategyConformance,
)

if TYPE_CHECKING:
    from scillm.protocols import Host


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
    def api_base(self, faulty_server: Any) -> str:
        return str(faulty_server.base_url)

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


class TestBackoff(RetryPolicyConformance):
    @pytest.fixture
    def policy(self) -> Backoff:
        return Backoff()


class TestTenacious(RetryPolicyConformance):
    @pytest.fixture
    def policy(self) -> Tenacious:
        return Tenacious()


class TestNoRetry(RetryPolicyConformance):
    @pytest.fixture
    def policy(self) -> NoRetry:
        return NoRetry()
