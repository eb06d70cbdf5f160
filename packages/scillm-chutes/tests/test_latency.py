"""A call's time covers its wait: no turn is taken that comes too late for an answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm.http.choice import make_transport
from scillm_chutes.desk import Desk
from scillm_chutes.errors import KeyPausedError
from scillm_chutes.latency import Latencies
from scillm_chutes.provider import Chutes
from scillm_chutes.settings import loaded
from scillm_chutes.sites import site_of

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from scillm.records import HttpCall, HttpReply, HttpStream
    from scillm_chutes.fake import FakeChutes

HELLO = [{"role": "user", "content": "Hello"}]
MODEL = "chutes/elm/Elm-8B"


class Listening:
    """The usual transport. Remembers how long each POST was allowed to take."""

    def __init__(self) -> None:
        self.inner = make_transport(loaded())
        self.allowed_s: list[float] = []

    async def send(self, call: HttpCall, /) -> HttpReply:
        if call.method == "POST":
            self.allowed_s.append(call.timeout_s)
        return await self.inner.send(call)

    def stream(self, call: HttpCall, /) -> AbstractAsyncContextManager[HttpStream]:
        return self.inner.stream(call)


@given(st.lists(st.floats(0.01, 500.0), min_size=1, max_size=50))
def test_what_is_usual_lies_above_the_mean_and_within_reach(times: list[float]) -> None:
    """The estimate is never below the smoothed mean, nor beyond three times the slowest."""
    known = Latencies()
    for seconds in times:
        known.took("m", seconds)

    assert known.usual["m"].mean_s <= known.usual_s("m") <= 3.0 * max(times) + 1e-9
    assert known.usual_s("other") == 0.0


@given(usual=st.floats(0.0, 1000.0), left=st.floats(0.0, 1000.0))
def test_a_call_may_wait_half_of_its_time_at_least(usual: float, left: float) -> None:
    """However slow a model has been, a turn within half of the time is waited for."""
    known = Latencies()
    known.took("m", usual)

    assert left / 2.0 <= known.patience_s("m", left) <= left
    assert known.patience_s("other", left) == left


def test_steady_answers_are_expected_to_stay_so() -> None:
    """After forty answers of two seconds an answer is expected after two seconds."""
    known = Latencies()
    for _ in range(40):
        known.took("m", 2.0)

    assert known.usual_s("m") == pytest.approx(2.0, abs=0.01)


def test_a_turn_that_comes_too_late_is_not_taken(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent whose answer could not be there in time; the error says when to ask again."""
    monkeypatch.setenv("SCILLM_CHUTES_QPS", "0.1")
    desk, registry = Desk(clock=lambda: 0.0), scillm.Registry()
    registry.register("scillm.providers", "chutes", partial(Chutes, desk=desk))
    router = scillm.Router(registry=registry)
    for _ in range(3):
        router.completion(MODEL, HELLO)
    desk.market(site_of(fake.api_base)).latencies.took("elm/Elm-8B", 100.0)
    with pytest.raises(KeyPausedError, match="Nothing was sent") as caught:
        router.completion(MODEL, HELLO, timeout=19.0)

    assert caught.value.retry_after == pytest.approx(10.0)
    assert len(fake.chats) == 3


def test_waiting_for_a_turn_counts_for_the_timeout(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upstream is given what the wait has left of it, for words and for vectors."""
    monkeypatch.setenv("SCILLM_CHUTES_QPS", "0.5")
    listening = Listening()
    router = scillm.Router(transport=listening)
    for _ in range(4):
        router.completion(MODEL, HELLO, timeout=20)
    router.embedding("chutes/juniper/Juniper-Embed-0.6B", "x", timeout=20)

    assert listening.allowed_s[0] == pytest.approx(20.0, abs=0.5)
    assert all(5.0 < allowed_s < 19.9 for allowed_s in listening.allowed_s[3:])
    assert len(listening.allowed_s) == 5
