"""The router on real sockets: who is asked, who never is, and what comes of refusals."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import scillm
from scillm import portal
from scillm.errors import (
    AuthenticationError,
    NotFoundError,
    RateLimitError,
    ScillmError,
    SettingsError,
    StreamInterruptedError,
    UnknownModelError,
)
from scillm.http.choice import make_transport
from scillm_chutes.desk import Desk
from scillm_chutes.errors import (
    ColdModelError,
    IncapableModelError,
    KeyPausedError,
    ModelFullError,
    QuotaError,
)
from scillm_chutes.fake import FakeAccount, FakeChutes, FakeModel, Refusal
from scillm_chutes.fake.answers import text_for
from scillm_chutes.routers import RankedRouter, aauto_router_from_env, auto_router_from_env
from scillm_chutes.settings import loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


class Clock:
    """Virtual time: seconds since it was made; the Unix time of the world is 1 795 000 000 then."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_795_000_000.0 + self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeChutes]:
    """A fake in virtual time."""
    with FakeChutes(clock=clock.wall) as server:
        monkeypatch.setenv("CHUTES_API_BASE", server.api_base)
        monkeypatch.setenv("CHUTES_API_KEY", server.key)
        monkeypatch.setenv("SCILLM_CHUTES_QPS", "1000")
        yield server


@pytest.fixture
def desk(clock: Clock) -> Desk:
    return Desk(clock=clock.monotonic, wall=clock.wall)


def failure(router: RankedRouter, **arguments: Any) -> ScillmError:
    """The error of a call that must fail."""
    with pytest.raises(ScillmError) as caught:
        router.completion(router.group, HELLO, **arguments)
    return caught.value


def test_a_full_model_is_followed_by_the_next_at_once(fake: FakeChutes) -> None:
    """Capacity on A is answered by B within a second, and the answer says who served it."""
    router = auto_router_from_env()
    first = router.preferred
    fake.models[first].concurrency = 0
    began = time.monotonic()
    answer = router.completion(router.group, HELLO)
    took = time.monotonic() - began

    assert took < 1.0
    assert answer.model == fake.served[-1] != first
    assert [a["outcome"] for a in answer.scillm_meta["attempts"]] == ["ModelFullError", "ok"]


def test_a_full_model_is_left_alone_for_a_while(fake: FakeChutes) -> None:
    """The next calls do not try it first: the order has changed."""
    router = auto_router_from_env()
    first = router.preferred
    fake.models[first].concurrency = 0
    for _ in range(4):
        router.completion(router.group, HELLO)

    assert [seen.body["model"] for seen in fake.chats].count(first) == 1
    assert router.preferred != first


def test_failing_over_does_not_wait_for_the_pace(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the default pace of .8 calls a second, B still answers within a second of A's refusal."""
    monkeypatch.setenv("SCILLM_CHUTES_QPS", "0.8")
    router = auto_router_from_env()
    for _ in range(2):
        router.completion(router.group, HELLO)
    fake.models[router.preferred].concurrency = 0
    began = time.monotonic()
    router.completion(router.group, HELLO)

    assert time.monotonic() - began < 1.0


def test_a_ban_silences_the_key_everywhere(world: FakeChutes, desk: Desk, clock: Clock) -> None:
    """After an HTML 429 no coroutine sends anything with this key until the pause ends."""
    router = auto_router_from_env(desk=desk)
    world.account.ban(world.site.clock())
    assert isinstance(failure(router), KeyPausedError)

    async def call(found: list[str]) -> None:
        try:
            await router.acompletion(router.group, HELLO)
        except KeyPausedError as error:
            found.append("" if error.sent else "quiet")

    async def herd() -> list[str]:
        found: list[str] = []
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(call, found)
        return found

    quiet = portal.call(herd)
    clock.now += 61.0
    still = failure(router)
    clock.now += 10.0
    answer = router.completion(router.group, HELLO)

    assert quiet == ["quiet"] * 50
    assert isinstance(still, KeyPausedError)
    assert still.retry_after == pytest.approx(5.0, abs=0.1)
    assert answer.text
    assert world.account.calls_in_ban == 1


def test_the_second_ban_is_waited_for_twice_as_long(
    world: FakeChutes, desk: Desk, clock: Clock
) -> None:
    """The bans of the service double, and so do the pauses."""
    router = auto_router_from_env(desk=desk)
    pauses = []
    for _ in range(3):
        world.account.ban(world.site.clock())
        error = failure(router)
        assert isinstance(error, RateLimitError)
        pauses.append(error.retry_after)
        clock.now += (error.retry_after or 0.0) + 0.1

    assert pauses == pytest.approx([66.0, 132.0, 264.0])
    assert router.completion(router.group, HELLO).text


def test_another_account_answers_while_one_is_banned(
    clock: Clock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause holds for its key alone; the other key's calls go on."""
    accounts = [FakeAccount(), FakeAccount()]
    with FakeChutes(accounts=accounts, clock=clock.wall) as world:
        monkeypatch.setenv("SCILLM_CHUTES_QPS", "1000")
        for number, account in enumerate(accounts, 1):
            monkeypatch.setenv(f"CHUTES_API_BASE_{number}", world.api_base)
            monkeypatch.setenv(f"CHUTES_API_KEY_{number}", account.key)
        router = auto_router_from_env(desk=desk)
        accounts[0].ban(clock.wall())
        answers = [router.completion(router.group, HELLO).text for _ in range(6)]

    assert all(answers)
    assert accounts[0].calls <= 1
    assert accounts[1].billed == 6


@pytest.mark.parametrize("mode", ["error", "html", "empty", "truncated", "stale", "missing"])
def test_without_a_good_feed_calls_still_go_somewhere(
    world: FakeChutes, desk: Desk, mode: str
) -> None:
    """Utilization that is stale, broken or missing costs the ranking, not the answer."""
    if mode == "stale":
        world.site.feed_age_s = 3600.0
    elif mode == "missing":
        for model in world.models.values():
            model.in_feed = False
    else:
        world.site.feed_mode = mode
    router = auto_router_from_env(desk=desk)
    answer = router.completion(router.group, HELLO)

    assert answer.model == world.served[-1]


def test_a_failing_refresh_keeps_what_was_known(world: FakeChutes, desk: Desk) -> None:
    """When catalog and feed break later, the last good ones stay."""
    router = auto_router_from_env(desk=desk)
    before = router.model_list
    world.site.feed_mode = world.site.catalog_mode = "error"
    market = router.markets[0]
    portal.call(partial(market.refresh, scillm_transport(), force=True))

    assert set(market.problems) == {"catalog", "feed"}
    assert router.model_list == before
    assert router.completion(router.group, HELLO).text


def scillm_transport() -> Any:
    from scillm.http.choice import make_transport

    return make_transport({})


def test_a_failed_fetch_is_tried_again_soon(world: FakeChutes, desk: Desk, clock: Clock) -> None:
    """Without a catalog the next look asks again; with one, a failed refresh after 15 seconds."""
    world.site.catalog_mode = "error"
    with pytest.raises(UnknownModelError, match="no catalog"):
        auto_router_from_env(desk=desk)
    world.site.catalog_mode = ""
    market = auto_router_from_env(desk=desk).markets[0]
    world.site.feed_mode = "error"
    fetched = []
    for clock.now in (50.0, 60.0, 66.0):
        portal.call(market.refresh, make_transport(loaded()))
        fetched.append(sum(seen.path == "/chutes/utilization" for seen in world.seen))

    assert fetched == [2, 2, 3]


def test_a_refresh_changes_the_order_while_calls_go_on(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranking is renewed in the background; no call waits for it."""
    monkeypatch.setenv("SCILLM_UTIL_TTL_S", "0.05")
    router = auto_router_from_env()
    first = router.preferred
    fake.models[first].used, fake.models[first].refused_5m = 1.0, 0.9
    time.sleep(0.06)
    slowest = 0.0
    for _ in range(100):
        began = time.monotonic()
        router.completion(router.group, HELLO)
        slowest = max(slowest, time.monotonic() - began)
        if router.preferred != first:
            break
        time.sleep(0.02)

    assert router.preferred != first
    assert slowest < 1.0


def test_nothing_is_sent_to_a_model_that_cannot(fake: FakeChutes) -> None:
    """Tools and images go to models whose rows allow them, whatever the rank."""
    router = auto_router_from_env()
    tools = router.completion(router.group, HELLO, tools=[TOOL])
    seen = router.completion(
        router.group, [{"role": "user", "content": [{"type": "text", "text": "?"}, IMAGE]}]
    )

    assert fake.wrong == []
    assert tools.choices[0].finish_reason == "tool_calls"
    assert seen.model in ("cedar/Cedar-4.6V", "dogwood/Dogwood-K2-Instruct-0905")


def test_what_is_required_must_be_said_unless_the_user_allows_otherwise(fake: FakeChutes) -> None:
    """A model whose row is silent about tools is in a router for tools only if that is wanted."""
    silent = "dogwood/Dogwood-K2-Instruct-0905"
    strict = auto_router_from_env(kind="tools", max_candidates_per_base=20)
    lenient = auto_router_from_env(kind="tools", allow_unknown=True, max_candidates_per_base=20)
    plain = auto_router_from_env(max_candidates_per_base=20)

    def asked(router: RankedRouter) -> list[str]:
        return [row["litellm_params"]["model"] for row in router.model_list]

    assert silent not in asked(strict)
    assert silent in asked(lenient)
    assert silent in asked(plain)


def test_a_named_model_that_cannot_is_refused_before_sending(fake: FakeChutes) -> None:
    """The refusal says what is missing, and no body leaves."""
    auto_router_from_env()
    with pytest.raises(IncapableModelError, match="cannot do what this request needs: tools"):
        scillm.Router().completion("chutes/elm/Elm-8B", HELLO, tools=[TOOL])

    assert fake.chats == []


def test_idle_and_unknown_models_are_not_asked(fake: FakeChutes) -> None:
    """A model without instances, or outside the catalog, gets no body; the error helps on."""
    router = auto_router_from_env()
    with pytest.raises(ColdModelError, match="scillm chutes warmup gum/Gum-2-7B"):
        scillm.Router().completion("chutes/gum/Gum-2-7B", HELLO)
    with pytest.raises(UnknownModelError):
        scillm.Router().completion("chutes/someone/Private-1B", HELLO)

    assert fake.chats == []
    assert "gum/Gum-2-7B" not in str(router.model_list)


def test_a_renamed_model_is_found_again_once(fake: FakeChutes) -> None:
    """404 for an id makes the catalog be read again; the id that means the same is asked."""
    auto_router_from_env()
    old = fake.models.pop("acme/Alder-3-32B")
    fake.models["acme/Alder-3-32B-FP8"] = FakeModel(id="acme/Alder-3-32B-FP8", used=old.used)
    answer = scillm.Router().completion("chutes/acme/Alder-3-32B", HELLO)

    assert answer.model == "acme/Alder-3-32B-FP8"
    assert answer.scillm_meta["served_model"] == "acme/Alder-3-32B-FP8"
    assert len(fake.chats) == 2


def test_a_model_that_is_gone_is_reported_once(fake: FakeChutes) -> None:
    """Without another id of the same meaning the 404 is the answer; nothing is tried again."""
    auto_router_from_env()
    del fake.models["acme/Alder-3-32B"], fake.models["acme/Alder-3-32B-Base"]
    with pytest.raises(NotFoundError):
        scillm.Router().completion("chutes/acme/Alder-3-32B", HELLO)

    assert len(fake.chats) == 1


@pytest.mark.parametrize(
    ("trouble", "after_s"),
    [("daily quota", 86_400.0), ("window", 14_400.0), ("free quota", 86_400.0)],
)
def test_a_used_up_quota_stops_the_key_and_names_its_reset(
    world: FakeChutes, desk: Desk, trouble: str, after_s: float
) -> None:
    """The reset time is on the error; further calls send nothing."""
    router = auto_router_from_env(desk=desk)
    world.account.trouble = trouble
    error = failure(router)
    again = failure(router)

    assert isinstance(error, QuotaError)
    assert isinstance(again, QuotaError)
    assert error.resets_at is not None
    assert 0 < error.resets_at - world.site.clock() <= after_s
    assert len(world.chats) == 1


@pytest.mark.parametrize("fault", ["bare error", "no end"])
def test_a_stream_that_breaks_says_so(fake: FakeChutes, fault: str) -> None:
    """A bare JSON error in the middle, or an end without a finish, is never taken for an answer."""
    router = auto_router_from_env()
    fake.models[router.preferred].faults.append(fault)
    with pytest.raises(StreamInterruptedError) as caught:
        for _chunk in router.completion(router.group, HELLO, stream=True):
            pass

    assert caught.value.partial is not None


@pytest.mark.parametrize("fault", ["comments", "split text", "slow first byte"])
def test_an_odd_stream_is_read_whole(fake: FakeChutes, fault: str) -> None:
    """Comments, characters split over chunks and a slow start change nothing."""
    router = auto_router_from_env()
    fake.models[router.preferred].faults.append(fault)
    chunks = list(router.completion(router.group, HELLO, stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)

    assert text.strip() == text_for({"messages": HELLO}, fake.served[-1])
    assert text.startswith(f"Grüße from {fake.served[-1]} to question ")


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(status=500, detail="exhausted all available targets to no avail"),
        Refusal(status=503, detail="No instances available (yet) for chute_id='x'"),
        Refusal(status=503, detail="This chute is currently disabled."),
        Refusal(status=429, detail="model is under maintenance"),
        Refusal(status=504, title="504 Gateway Time-out"),
        "reset",
    ],
)
def test_a_model_in_trouble_is_passed_over(fake: FakeChutes, refusal: Refusal | str) -> None:
    """Whatever keeps one model from answering, the next one answers, billed once."""
    router = auto_router_from_env()
    fake.models[router.preferred].faults.append(refusal)
    answer = router.completion(router.group, HELLO)

    assert len(answer.scillm_meta["attempts"]) == 2
    assert fake.account.billed == 1


def test_a_cancelled_call_ends_upstream(fake: FakeChutes) -> None:
    """Who stops waiting closes the connection; the service sees it and stops too."""
    for model in fake.models.values():
        model.latency_s = 60.0

    async def impatient() -> None:
        router = await aauto_router_from_env()
        async with anyio.create_task_group() as group:
            group.start_soon(router.acompletion, router.group, HELLO)
            await until(lambda: any(model.busy for model in fake.models.values()))
            group.cancel_scope.cancel()
        await until(lambda: bool(fake.disconnects))
        await router.aclose()

    async def until(true: Callable[[], bool]) -> None:
        with anyio.fail_after(20.0):
            while not true():  # noqa: ASYNC110 - it happens in a thread of the fake
                await anyio.sleep(0.01)

    anyio.run(impatient)

    assert len(fake.disconnects) == 1
    assert fake.account.billed == 0


def test_pins_are_asked_and_nothing_else(fake: FakeChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pinned model is first while it is usable, its alternate follows, others never serve."""
    monkeypatch.setenv("CHUTES_TEXT_MODEL", "Fir-R1-0528")
    monkeypatch.setenv("CHUTES_TEXT_MODEL_ALT1", "elm/Elm-8B")
    router = auto_router_from_env()
    first = router.completion(router.group, HELLO).model
    fake.models["fir/Fir-R1-0528-TEE"].concurrency = 0
    second = router.completion(router.group, HELLO).model

    assert (first, second) == ("fir/Fir-R1-0528-TEE", "elm/Elm-8B")
    assert len(router.model_list) == 2


def test_without_a_key_one_sentence_says_what_to_set() -> None:
    """CHUTES_* unset gives one clear sentence, in every way to ask."""
    for ask in (
        auto_router_from_env,
        partial(scillm.Router().completion, "chutes/acme/Alder-3-32B", HELLO),
    ):
        with pytest.raises(SettingsError, match="No key for Chutes is set: put one into CHUTES_AP"):
            ask()


def test_no_model_of_a_kind_is_explained(fake: FakeChutes) -> None:
    """The error names the base URL and why every model is left out."""
    del fake.models["cedar/Cedar-4.6V"]
    with pytest.raises(
        UnknownModelError,
        match=r"/_llm/v1: 8 models, none usable \(cannot do vision; does not say whether",
    ):
        auto_router_from_env(kind="vlm")

    assert fake.chats == []


def test_a_wrong_key_is_told_apart_and_never_shown(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither errors, their attempts, logs nor the fake's record hold a key."""
    wrong = "cpk_" + "a" * 32 + "." + "b" * 32 + "." + "C" * 32
    monkeypatch.setenv("CHUTES_API_KEY", wrong)
    router = auto_router_from_env()
    error = failure(router)
    monkeypatch.setenv("CHUTES_API_KEY", fake.key)
    other = auto_router_from_env()
    other.completion(other.group, [{"role": "user", "content": f"my key is {fake.key}"}])
    fake.account.trouble = "tier"
    refused = failure(other)
    told = [repr(error), str(vars(error)), str(vars(refused)), caplog.text, str(fake.seen)]

    assert isinstance(error, AuthenticationError)
    assert not [text for text in told if wrong in text or fake.key in text]


def test_the_only_model_rests_instead_of_being_hammered(fake: FakeChutes) -> None:
    """A call to one full model fails with the time to wait; the next one sends nothing."""
    fake.models["elm/Elm-8B"].concurrency = 0
    errors = []
    for _ in range(3):
        with pytest.raises(ModelFullError) as caught:
            scillm.Router().completion("chutes/elm/Elm-8B", HELLO)
        errors.append(caught.value)

    assert len(fake.chats) == 1
    assert errors[1].retry_after == pytest.approx(2.0, abs=0.5)


def test_the_client_sends_what_a_good_client_sends(fake: FakeChutes) -> None:
    """A bearer token, JSON, no argument of an SDK: the fake has nothing to complain about."""
    router = auto_router_from_env(require_json=True, retry_enabled=True)
    router.completion(router.group, HELLO, response_format={"type": "json_object"}, timeout=5)
    list(router.completion(router.group, HELLO, stream=True, temperature=0.5))

    assert fake.wrong == []
    assert {seen.headers["authorization"].split()[0] for seen in fake.chats} == {"Bearer"}
