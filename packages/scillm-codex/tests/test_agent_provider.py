"""The provider `mini-agent`: what the core's conformance suite asks of every provider, streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from scillm import Router
from scillm.plugins.registry import Registry
from scillm.records import ChatRequest, Endpoint
from scillm.testing import ProviderConformance
from scillm.testing.hosts import host_for
from scillm_codex.agent.provider import MiniAgent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.protocols import Host
    from support.faulty import FaultyServer


class TestMiniAgent(ProviderConformance):
    """On asyncio and trio; the model in it is a strict chat server on a real socket."""

    model = "loop"
    params: ClassVar[Mapping[str, Any]] = {
        "target_model": "openai_like/conformance",
        "agent_tools": [],
    }
    deterministic = True

    @pytest.fixture
    def api_base(self, faulty_server: Any) -> str:
        return str(faulty_server.base_url)

    @pytest.fixture
    def host(self) -> Host:
        return host_for(plugins=Registry())

    @pytest.fixture
    def provider(self, endpoint: Endpoint, host: Host) -> MiniAgent:
        return MiniAgent(endpoint, host)

    @pytest.fixture
    def failing_request(self) -> ChatRequest:
        return ChatRequest(model="loop", messages=[], params=dict(self.params))


def test_a_streamed_run_brings_its_record(faulty_server: FaultyServer) -> None:
    """`stream=True` gives the finished answer in pieces, with why it ended, usage and the run."""
    with Router(retry_enabled=False) as router:
        stream = router.completion(
            "mini-agent/loop",
            [{"role": "user", "content": "hi"}],
            target_model="openai_like/scripted",
            api_base=faulty_server.base_url,
            tool_backend="none",
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    last = chunks[-1]

    assert text == "echo:hi"
    assert ends == ["stop"]
    assert last.usage is not None
    assert last.usage.total_tokens == 2
    assert last.extra["mini_agent"]["stopped_reason"] == "success"
