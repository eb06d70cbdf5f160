"""scillm-markov keeps every promise a provider and a plugin make."""

from __future__ import annotations

import pytest
from scillm.records import ChatRequest
from scillm.testing import PluginConformance, ProviderConformance
from scillm_markov.provider import Markov


class TestMarkov(ProviderConformance):
    deterministic = True

    @pytest.fixture
    def provider(self, endpoint, host):
        return Markov(endpoint, host)

    @pytest.fixture
    def failing_request(self):
        return ChatRequest(model="markov", messages=[])


class TestPlugin(PluginConformance):
    @pytest.fixture
    def distribution(self):
        return "scillm-markov"
