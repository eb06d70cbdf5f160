"""The provider `codex-agent` keeps what the core's conformance suites ask of every provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from scillm.records import ChatRequest, Endpoint
from scillm.testing import PluginConformance, ProviderConformance
from scillm_codex.provider import CodexAgent
from support.codex_service import CodexService
from support.codex_sidecar import codex_sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scillm.protocols import Host


@pytest.fixture(scope="module")
def sidecar() -> Iterator[str]:
    with CodexService().running_here() as service, codex_sidecar(service) as url:
        yield url


class TestCodexAgent(ProviderConformance):
    """On asyncio and trio, against a strict chat server on a real socket."""

    deterministic = True

    @pytest.fixture
    def api_base(self, faulty_server: Any) -> str:
        return str(faulty_server.base_url)

    @pytest.fixture
    def provider(self, endpoint: Endpoint, host: Host) -> CodexAgent:
        return CodexAgent(endpoint, host)

    @pytest.fixture
    def failing_request(self) -> ChatRequest:
        return ChatRequest(model="conformance", messages=[])


@pytest.mark.deep
class TestCodexAgentOnCodex(ProviderConformance):
    """The same, against the sidecar on the real Codex CLI."""

    model = "fake-plain"
    deterministic = True

    @pytest.fixture
    def api_base(self, sidecar: str) -> str:
        return sidecar

    @pytest.fixture
    def provider(self, endpoint: Endpoint, host: Host) -> CodexAgent:
        return CodexAgent(endpoint, host)

    @pytest.fixture
    def failing_request(self) -> ChatRequest:
        return ChatRequest(model="fake-404", messages=[{"role": "user", "content": "?"}])


class TestDistribution(PluginConformance):
    """Installing the distribution promises what its metadata says."""

    @pytest.fixture
    def distribution(self) -> str:
        return "scillm-codex"
