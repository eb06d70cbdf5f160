"""The conformance kit: inherit a suite, give one fixture, run pytest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scillm.testing.embedding import EmbeddingConformance
    from scillm.testing.hosts import LoopbackTransport, host_for
    from scillm.testing.plugin import PluginConformance
    from scillm.testing.provider import ProviderConformance
    from scillm.testing.recorded import Exchange, RecordedTransport, json_exchange
    from scillm.testing.retry import RetryPolicyConformance
    from scillm.testing.strategy import StrategyConformance
    from scillm.testing.verifier import VerifierConformance

_HOMES = {
    "EmbeddingConformance": "embedding",
    "Exchange": "recorded",
    "LoopbackTransport": "hosts",
    "PluginConformance": "plugin",
    "ProviderConformance": "provider",
    "RecordedTransport": "recorded",
    "RetryPolicyConformance": "retry",
    "StrategyConformance": "strategy",
    "VerifierConformance": "verifier",
    "host_for": "hosts",
    "json_exchange": "recorded",
}

# Without this pytest shows a bare "AssertionError" for promises that live outside a test file.
pytest.register_assert_rewrite(
    *(f"{__name__}.{home}" for home in sorted({*_HOMES.values(), "answers", "streaming"}))
)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)


__all__ = [
    "EmbeddingConformance",
    "Exchange",
    "LoopbackTransport",
    "PluginConformance",
    "ProviderConformance",
    "RecordedTransport",
    "RetryPolicyConformance",
    "StrategyConformance",
    "VerifierConformance",
    "host_for",
    "json_exchange",
]
