"""What the provider suites ask with: the endpoint, the host and the requests, all overridable."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from scillm.records import ChatRequest, Endpoint
from scillm.testing.hosts import host_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scillm.protocols import Host
    from scillm.records import Json, Message

SENTINEL_KEY = "sk-conformance-must-never-be-shown"
SENTINEL_HEADER = "Bearer conformance-header-must-never-be-shown"

FEW = settings(
    max_examples=25,
    deadline=None,
    # One provider serves all examples, and one suite serves many classes: both on purpose.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)

_contents = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=30)}),
        min_size=1,
        max_size=2,
    ),
)
_turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": _contents}
    ),
    max_size=3,
)
_questions = st.fixed_dictionaries({"role": st.just("user"), "content": _contents})
CONVERSATIONS: st.SearchStrategy[Sequence[Message]] = st.runner().flatmap(
    lambda suite: suite.conversations
)
"""What the running suite's `conversations` generates, so that a subclass can change it."""


class ProviderSuite:
    """Knobs and fixtures of the provider suites; override what your provider needs.

    `model` and `params` go into every request. `conversations` generates lists of messages; the
    default ends with a user's question, its contents are text in any script or lists of parts.
    `deterministic` says that the same request always
    gets the same text. `prompts` are two questions that deserve different answers. A cancelled
    call must have ended after `stops_within_s` seconds.
    """

    pytestmark = pytest.mark.anyio

    model: ClassVar[str] = "conformance"
    params: ClassVar[Mapping[str, Json]] = {}
    deterministic: ClassVar[bool] = False
    conversations: ClassVar[st.SearchStrategy[Sequence[Message]]] = st.builds(
        lambda turns, question: [*turns, question], _turns, _questions
    )
    prompts: ClassVar[tuple[str, str]] = ("What is copper?", "Who was Ada Lovelace?")
    stops_within_s: ClassVar[float] = 5.0

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """The event loops every promise is kept on."""
        name: str = request.param
        return name

    @pytest.fixture
    def api_base(self) -> str | None:
        """Base URL of a server for the provider under test, on this machine; None for no server."""
        return None

    @pytest.fixture
    def endpoint(self, api_base: str | None) -> Endpoint:
        """Where the provider under test is reached, with credentials that must never be shown."""
        return Endpoint(
            provider="conformance",
            api_base=api_base,
            api_key=SENTINEL_KEY,
            extra_headers={"x-conformance": SENTINEL_HEADER},
        )

    @pytest.fixture
    def host(self) -> Host:
        """What the provider under test is lent; its transport reaches this machine only."""
        return host_for()

    @pytest.fixture
    def failing_request(self) -> ChatRequest | None:
        """A request the provider must refuse with an error, or None when there is none."""
        return None

    @pytest.fixture
    def every_log_line(self, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
        """All log records of the test, debug ones as well."""
        caplog.set_level(logging.DEBUG)
        return caplog

    def make_request(self, messages: Sequence[Message]) -> ChatRequest:
        """The request that asks `messages`."""
        return ChatRequest(
            model=self.model,
            requested_model=self.model,
            messages=list(messages),
            params=copy.deepcopy(dict(self.params)),
        )

    def ask(self, prompt: str) -> ChatRequest:
        """The request of one user message."""
        return self.make_request([{"role": "user", "content": prompt}])
