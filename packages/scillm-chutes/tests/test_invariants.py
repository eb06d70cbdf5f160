"""What a router never does, whatever the service does: a machine of both, on real sockets."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scillm import portal
from scillm.errors import ScillmError
from scillm.http.choice import make_transport
from scillm.routing.router import Router
from scillm_chutes.desk import Desk
from scillm_chutes.fake import FakeChutes, FakeModel, default_models
from scillm_chutes.routers import auto_router_from_env
from scillm_chutes.settings import loaded

if TYPE_CHECKING:
    import pytest

IDS = [model.id for model in default_models() if model.in_catalog]
(VECTORS,) = (model.id for model in default_models() if model.template == "tei")
HELLO = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
IMAGE = {
    "role": "user",
    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}],
}
ASKS: dict[str, dict[str, Any]] = {
    "plain": {"messages": [HELLO]},
    "tools": {"messages": [HELLO], "tools": [TOOL]},
    "image": {"messages": [IMAGE]},
    "json": {"messages": [HELLO], "response_format": {"type": "json_object"}},
}
DURING_A_BAN = "asked during a ban or over the limit"


class Service(RuleBasedStateMachine):
    """Models fill, sleep, vanish; the edge bans; the feed breaks; time passes; calls are made."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.fake = FakeChutes(clock=self.wall)
        self.fake.account.limit_per_min = self.fake.account.burst = 1e9
        self.fake.__enter__()
        self.gone: dict[str, FakeModel] = {}
        self.completed = 0
        self.failovers = 0

    def wall(self) -> float:
        return 1_795_000_000.0 + self.now

    @initialize()
    def begin(self) -> None:
        environ = {
            "CHUTES_API_BASE": self.fake.api_base,
            "CHUTES_API_KEY": self.fake.key,
            "SCILLM_CHUTES_QPS": "100000",
            "SCILLM_CHUTES_CACHE_DIR": os.environ["SCILLM_CHUTES_CACHE_DIR"],
        }
        desk = Desk(clock=lambda: self.now, wall=self.wall)
        self.router = auto_router_from_env(desk=desk, environ=environ, max_candidates_per_base=20)
        self.vectors = auto_router_from_env(kind="embedding", desk=desk, environ=environ)
        self.plain = Router(registry=self.router.registry, settings=loaded(environ))

    def look(self) -> None:
        async def refresh() -> None:
            transport: Any = make_transport({})
            for market in (*self.router.markets, *self.vectors.markets):
                await market.refresh(transport, force=True)
            await transport.aclose()

        portal.call(refresh)

    def feed_is_good(self) -> bool:
        return self.fake.site.feed_mode == "" and self.fake.site.feed_age_s == 0.0

    @rule(name=st.sampled_from([*IDS, VECTORS]), room=st.sampled_from([0, 8]))
    def fill_or_empty(self, name: str, room: int) -> None:
        if name in self.fake.models:
            self.fake.models[name].concurrency = room

    @rule(name=st.sampled_from(IDS))
    def leave_room_at_one(self, name: str) -> None:
        for model in self.fake.models.values():
            model.concurrency = 8 if model.id == name else 0

    @precondition(feed_is_good)
    @rule(name=st.sampled_from([*IDS, VECTORS]), state=st.sampled_from(["hot", "cold", "disabled"]))
    def switch(self, name: str, state: str) -> None:
        model = self.fake.models.get(name)
        # What the feed does not list cannot be known to be idle; such a model stays hot.
        if model is not None and model.in_feed:
            model.state, model.instances = state, max(1, model.instances)
            self.look()

    @rule(name=st.sampled_from(IDS))
    def come_or_go(self, name: str) -> None:
        if name in self.gone:
            self.fake.models[name] = self.gone.pop(name)
        elif len(self.fake.models) > 4:
            self.gone[name] = self.fake.models.pop(name)
        self.look()

    @rule(mode=st.sampled_from(["", "error", "html", "empty", "truncated", "old"]))
    def break_or_mend_the_feed(self, mode: str) -> None:
        for model in [*self.fake.models.values(), *self.gone.values()]:
            model.state, model.instances = "hot", max(1, model.instances)
        self.look()
        self.fake.site.feed_mode = "" if mode == "old" else mode
        self.fake.site.feed_age_s = 4000.0 if mode == "old" else 0.0
        self.look()

    @rule()
    def ban(self) -> None:
        self.fake.account.ban(self.wall())

    @rule(seconds=st.sampled_from([0.5, 3.0, 30.0, 70.0, 600.0, 9000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.look()

    @rule(ask=st.sampled_from(sorted(ASKS)), stream=st.booleans())
    def call(self, ask: str, stream: bool) -> None:
        before = len(self.fake.served)
        try:
            if stream:
                chunks = list(self.router.completion(self.router.group, stream=True, **ASKS[ask]))
                served = chunks[0].model
            else:
                answer = self.router.completion(self.router.group, **ASKS[ask])
                served = answer.scillm_meta["served_model"]
                self.failovers += len(answer.scillm_meta["attempts"]) - 1
        except ScillmError:
            assert len(self.fake.served) == before
            return
        self.completed += 1
        assert self.fake.served[before:] == [served]

    @rule()
    def ask_for_vectors(self) -> None:
        before = len(self.fake.served)
        try:
            answer = self.vectors.embedding(self.vectors.group, ["a", "b"])
        except ScillmError:
            assert len(self.fake.served) == before
            return
        self.completed += 1
        assert self.fake.served[before:] == [answer.model] == [VECTORS]

    @rule(ask=st.sampled_from(sorted(ASKS)))
    def call_each_by_name(self, ask: str) -> None:
        for name in IDS:
            try:
                answer = self.plain.completion(
                    name, custom_llm_provider="chutes", api_base=self.fake.api_base, **ASKS[ask]
                )
            except ScillmError:
                continue
            self.completed += 1
            assert answer.model == self.fake.served[-1] == name

    @invariant()
    def nothing_wrong_was_sent(self) -> None:
        assert [wrong for wrong in self.fake.wrong if wrong != DURING_A_BAN] == []

    @invariant()
    def a_ban_is_found_out_once(self) -> None:
        assert self.fake.account.calls_in_ban <= self.fake.account.bans

    @invariant()
    def nothing_is_billed_twice(self) -> None:
        assert self.fake.account.billed == self.completed

    @invariant()
    def somebody_answers_if_somebody_can(self) -> None:
        """Asked afresh: a hot model with room that does not rest, and a key that is not banned."""
        if not hasattr(self, "router") or self.wall() < self.fake.account.banned_until:
            return
        market = self.router.markets[0]
        able = [
            row["litellm_params"]["model"]
            for row in self.router.model_list
            if (model := self.fake.models.get(row["litellm_params"]["model"])) is not None
            and model.state == "hot"
            and model.concurrency
            and market.rest_s(model.id)[0] == 0.0
        ]
        provider = self.router.provider(_endpoint(self.fake))
        if not able or getattr(provider, "gate").pause_s() > 0:  # noqa: B009
            return
        self.completed += 1
        assert self.router.completion(self.router.group, [HELLO]).model in able

    def teardown(self) -> None:
        if hasattr(self, "router"):
            self.router.close()
            self.vectors.close()
            self.plain.close()
        self.fake.close()


def _endpoint(fake: FakeChutes) -> Any:
    from scillm.records import Endpoint

    return Endpoint(provider="chutes", api_base=fake.api_base, api_key=fake.key)


def test_the_invariants_of_a_good_client_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a body in vain that could be known to be; one probe a ban; nothing billed twice."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("SCILLM_CHUTES_CACHE_DIR", folder)
        run = partial(
            run_state_machine_as_test,
            settings=settings(
                max_examples=15,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )
        run(Service)
