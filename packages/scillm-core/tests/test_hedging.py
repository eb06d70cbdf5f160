"""Hedging, against real servers: one extra request at most, the first answer wins."""

from __future__ import annotations

import threading
import time
from functools import partial

import anyio
import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.plugins.groups import HOOKS
from scillm.routing.hedging import Race
from support.faulty import CHAT_PATH, FaultyServer, Gate, Json, Sse, Stall, completion_object, event

MESSAGES = [{"role": "user", "content": "hi"}]
FAST_S, SLOW_S = 0.15, 3.0


def row(server, group="g", **more):
    return {
        "model_name": group,
        "litellm_params": {"model": "openai/m", "api_base": server.base_url, **more},
    }


@pytest.fixture
def two():
    with FaultyServer() as first, FaultyServer() as second:
        yield first, second


def slow(text="slow", wait_s=SLOW_S):
    return Stall(wait_s, Json(completion_object(text)))


class Told:
    """A plugin that remembers events."""

    def __init__(self):
        self.events = []

    def scillm_event(self, event):
        self.events.append(event)


def test_a_fast_answer_never_pays_for_a_second_request(two):
    """Nothing is hedged before its time, and the answer says so."""
    first, second = two

    with scillm.Router([row(first), row(second, order=2)], hedge_after_s=5.0) as router:
        answer = router.completion("g", MESSAGES)

    assert (len(first.requests), len(second.requests)) == (1, 0)
    assert answer.additional_kwargs["router"]["hedges"] == 0
    assert [a["hedge"] for a in answer.scillm_meta["attempts"]] == [False]


def test_a_slow_deployment_is_overtaken_by_its_sibling(two):
    """The second answers; the first sees its caller leave; both stand in the report as billed."""
    first, second = two
    first.route(CHAT_PATH, slow())
    started = time.monotonic()

    with scillm.Router([row(first), row(second, order=2)], hedge_after_s=FAST_S) as router:
        answer = router.completion("g", MESSAGES)
        elapsed_s = time.monotonic() - started
        first.wait_until(lambda: first.disconnects)

    assert FAST_S <= elapsed_s < SLOW_S
    assert answer.text == "echo:hi"
    assert (len(first.requests), len(second.requests)) == (1, 1)
    told = {a["outcome"]: a for a in answer.scillm_meta["attempts"]}
    assert set(told) == {"ok", "cancelled"}
    assert all(a["billed"] for a in told.values())
    assert (told["ok"]["hedge"], told["cancelled"]["hedge"]) == (True, False)
    assert answer.additional_kwargs["router"]["hedges"] == 1
    assert answer.additional_kwargs["router"]["deployment"] == told["ok"]["endpoint"]


def test_a_hedge_that_loses_is_cancelled_and_reported(two):
    """The first answers after all: the extra request is closed upstream, and was perhaps billed."""
    first, second = two
    first.route(CHAT_PATH, slow("first", 0.5))
    second.route(CHAT_PATH, slow("second", SLOW_S))

    with scillm.Router([row(first), row(second, order=2)], hedge_after_s=FAST_S) as router:
        answer = router.completion("g", MESSAGES)
        second.wait_until(lambda: second.disconnects)

    assert answer.text == "first"
    assert [(a["outcome"], a["hedge"], a["billed"]) for a in answer.scillm_meta["attempts"]] == [
        ("ok", False, True),
        ("cancelled", True, True),
    ]


def test_without_a_sibling_the_same_deployment_is_asked_again(faulty_server):
    """Also a call that names its own target can be hedged, per call."""
    faulty_server.queue(CHAT_PATH, slow())

    answer = scillm.completion(
        "openai/m", MESSAGES, api_base=faulty_server.base_url, hedge_after_s=FAST_S
    )

    assert answer.text == "echo:hi"
    assert len(faulty_server.requests) == 2
    assert sum(a["hedge"] for a in answer.scillm_meta["attempts"]) == 1


def test_a_call_is_hedged_once_however_many_deployments_are_slow(two):
    """At most one extra request: with everybody slow there are two, not three."""
    first, second = two
    for server in two:
        server.route(CHAT_PATH, slow(wait_s=0.8))

    with scillm.Router([row(first), row(second), row(first, x=1)], hedge_after_s=0.1) as router:
        router.completion("g", MESSAGES)

    assert len(first.requests) + len(second.requests) == 2


def test_a_failure_before_its_time_fails_over_and_is_no_hedge(two):
    """An error is answered by the next deployment at once; the hedge is still there for that."""
    first, second = two
    first.route(CHAT_PATH, Json({"error": {"message": "x"}}, 500))
    second.queue(CHAT_PATH, slow())

    with scillm.Router([row(first), row(second, order=2)], hedge_after_s=FAST_S) as router:
        answer = router.completion("g", MESSAGES)

    assert answer.text == "echo:hi"
    assert (len(first.requests), len(second.requests)) == (1, 2)
    assert answer.additional_kwargs["router"]["hedges"] == 1


def test_a_failed_hedge_does_not_cost_the_answer(two):
    """The extra request fails, the first one is waited for."""
    first, second = two
    first.route(CHAT_PATH, slow("late", 0.8))
    second.route(CHAT_PATH, Json({"error": {"message": "x"}}, 400))

    with scillm.Router([row(first), row(second, order=2)], hedge_after_s=FAST_S) as router:
        answer = router.completion("g", MESSAGES)

    assert answer.text == "late"
    assert [a["outcome"] for a in answer.scillm_meta["attempts"]] == ["BadRequestError", "ok"]


def test_when_both_fail_the_error_has_both_attempts(two):
    """And the deployment of the hedge is not asked a second time in the same round."""
    first, second = two
    first.route(CHAT_PATH, Stall(0.5, Json({"error": {"message": "x"}}, 500)))
    second.route(CHAT_PATH, Json({"error": {"message": "y"}}, 500))

    with (
        scillm.Router([row(first), row(second, order=2)], hedge_after_s=FAST_S) as router,
        pytest.raises(errors.InternalServerError) as caught,
    ):
        router.completion("g", MESSAGES)

    assert [a.hedge for a in caught.value.attempts] == [True, False]
    assert (len(first.requests), len(second.requests)) == (1, 1)


def test_a_refusal_of_the_first_ends_the_call_at_once(two):
    """400 would be answered elsewhere too: the hedge is cancelled, not waited for."""
    first, second = two
    first.route(CHAT_PATH, Stall(0.5, Json({"error": {"message": "x"}}, 400)))
    second.route(CHAT_PATH, slow())
    started = time.monotonic()

    with (
        scillm.Router([row(first), row(second, order=2)], hedge_after_s=FAST_S) as router,
        pytest.raises(errors.BadRequestError) as caught,
    ):
        router.completion("g", MESSAGES)

    assert time.monotonic() - started < SLOW_S
    assert [a.outcome for a in caught.value.attempts] == ["BadRequestError", "cancelled"]


def test_a_hedge_that_would_have_to_wait_is_not_sent(faulty_server):
    """One call at a time, and 0.5 calls per second: there is no room for an extra one."""
    faulty_server.route(CHAT_PATH, slow(wait_s=0.6))
    call = {"api_base": faulty_server.base_url, "hedge_after_s": 0.1}

    for settings in ({"max_concurrency": 1}, {"rate_limit_qps": 0.5}):
        with scillm.Router(settings=settings) as router:
            answer = router.completion("openai/m", MESSAGES, **call)

        assert answer.text == "slow"
        assert len(answer.scillm_meta["attempts"]) == 1


def test_a_hedge_is_not_sent_to_a_deployment_that_rests(two):
    """The sibling has just refused; its pause holds for hedges too, and so does its minute."""
    first, second = two
    second.queue(CHAT_PATH, Json({"error": {"message": "busy"}}, 429, {"retry-after": "60"}))
    rows = [row(first, rpm=1), {**row(second), "model_info": {"id": "second"}}]

    with scillm.Router(rows, hedge_after_s=0.1) as router:
        router._board.health.failed(
            "second", errors.RateLimitError("busy", status_code=429, retry_after=60.0),
            router._board.clock(), siblings=1,
        )  # fmt: skip
        first.route(CHAT_PATH, slow(wait_s=0.5))
        answer = router.completion("g", MESSAGES)

    assert answer.text == "slow"
    assert (len(first.requests), len(second.requests)) == (1, 0)


def test_a_stream_is_hedged_before_its_first_chunk_only(two):
    """The first chunk decides; afterwards a stall is a stall, and nothing extra is sent."""
    first, second = two
    first.route(CHAT_PATH, Stall(SLOW_S, Json(completion_object("slow"))))
    begin = event({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    end = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    gate = Gate()
    second.route(CHAT_PATH, Sse([begin, gate, end, b"data: [DONE]\n\n"]))

    with scillm.Router([row(first), row(second, order=2)], hedge_after_s=FAST_S) as router:
        stream = router.completion("g", MESSAGES, stream=True)
        first.wait_until(lambda: first.disconnects)
        threading.Timer(2 * FAST_S, gate.open).start()
        for _chunk in stream:
            pass

    assert stream.completion.text == "a"
    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert [a["outcome"] for a in stream.completion.scillm_meta["attempts"]] == ["ok", "cancelled"]
    assert router._board.load.in_flight == [0, 0]


def test_a_cancelled_call_leaves_neither_request_behind(two):
    """Both servers see the caller leave."""
    first, second = two
    for server in two:
        server.route(CHAT_PATH, slow())

    async def main():
        async with scillm.Router([row(first), row(second)], hedge_after_s=0.1) as router:
            async with anyio.create_task_group() as group:
                group.start_soon(router.acompletion, "g", MESSAGES)
                for server in two:
                    asked = partial(server.wait_until, lambda server=server: server.requests)
                    await anyio.to_thread.run_sync(asked)
                group.cancel_scope.cancel()
            return list(router._board.load.in_flight)

    assert anyio.run(main) == [0, 0]
    for server in two:
        server.wait_until(lambda server=server: server.disconnects)


def test_the_events_tell_of_the_hedge(two):
    """Hedged, a second start, the cancelled one: with numbers of their own."""
    first, second = two
    first.route(CHAT_PATH, slow())
    told = Told()

    with scillm.Router([row(first), row(second, order=2)], hedge_after_s=FAST_S) as router:
        router.registry.register(HOOKS, "told", told)
        router.completion("g", MESSAGES)

    assert sorted(type(event).__name__ for event in told.events) == [
        "AttemptCancelled", "AttemptStarted", "AttemptStarted", "AttemptSucceeded", "Hedged",
    ]  # fmt: skip
    numbers = {type(e).__name__: e.number for e in told.events if hasattr(e, "number")}
    assert (numbers["AttemptCancelled"], numbers["AttemptSucceeded"]) == (1, 2)


def test_a_deployment_that_is_always_overtaken_is_no_longer_preferred(two):
    """Latency-based routing learns from the requests that lost, too."""
    first, second = two
    first.route(CHAT_PATH, slow())

    with scillm.Router(
        [row(first), row(second)], hedge_after_s=FAST_S, draw=lambda: 0.0,
        routing_strategy="latency-based-routing",
    ) as router:  # fmt: skip
        for _ in range(4):
            router.completion("g", MESSAGES)

    assert len(first.requests) == 1


def test_both_requests_count_against_a_budget_and_a_hedge_never_overruns_it(two):
    """Two are spent where two may be; where one may be, the hedge stays behind."""
    first, second = two
    first.route(CHAT_PATH, slow("late", 0.6))
    rows = [row(first), row(second, order=2)]

    with scillm.Router(rows, hedge_after_s=0.1, budget={"requests": 5}) as router:
        assert router.completion("g", MESSAGES).text == "echo:hi"
        assert router.spend().requests == 2
    with scillm.Router(rows, hedge_after_s=0.1, budget={"requests": 1}) as router:
        assert router.completion("g", MESSAGES).text == "late"
        assert router.spend().requests == 1
    assert len(second.requests) == 1


@pytest.mark.parametrize("value", [0, -1, "2", True])
def test_an_impossible_delay_is_refused(value):
    """Per Router when it is made."""
    with pytest.raises(errors.UsageError, match="hedge_after_s"):
        scillm.Router(hedge_after_s=value)


# -- the race itself -------------------------------------------------------------------------------


@given(
    first_s=st.sampled_from([0.0, 0.004, 0.012, 0.02]),
    second_s=st.sampled_from([0.0, 0.004, 0.012]),
    first_fails=st.booleans(),
    second_fails=st.booleans(),
)
def test_a_race_ends_with_an_answer_whenever_there_is_one(
    first_s, second_s, first_fails, second_fails
):
    """Whatever the order: an answer if one of the sent requests gives one, and none is lost."""
    sent, kept, dropped = [], [], []

    def request(name, wait_s, fails):
        async def run():
            sent.append(name)
            await anyio.sleep(wait_s)
            if fails:
                raise errors.InternalServerError(name)
            kept.append(name)
            return name

        return run

    async def discard(answer):
        dropped.append(answer)

    async def main():
        race = Race(
            request("first", first_s, first_fails),
            lambda: request("second", second_s, second_fails),
            after_s=0.008,
            discard=discard,
        )
        try:
            return await race.run()
        except errors.InternalServerError as error:
            return error

    result = anyio.run(main)
    fails = {"first": first_fails, "second": second_fails}
    able = {name for name in fails if not fails[name]}
    if able & set(sent):
        assert result in able & set(sent)
        assert sorted(kept) == sorted([str(result), *dropped])
    else:
        assert result.message == "first"


@pytest.mark.parametrize("leaves", [False, True])
def test_an_answer_that_nobody_takes_is_closed(leaves):
    """Both answer in one turn of the loop, or the caller leaves in that turn: none is left open."""
    dropped = []
    go = anyio.Event()

    async def discard(answer):
        dropped.append(answer)

    async def main():
        async def request(name):
            with anyio.CancelScope(shield=True):
                await go.wait()
            return name

        async def race():
            second = partial(request, "second")
            winners.append(
                await Race(
                    partial(request, "first"), lambda: second, after_s=0.01, discard=discard
                ).run()
            )

        winners = []
        async with anyio.create_task_group() as group:
            group.start_soon(race)
            await anyio.sleep(0.05)
            if leaves:
                group.cancel_scope.cancel()
            go.set()
        return winners

    winners = anyio.run(main)
    assert sorted([*winners, *dropped]) == ["first", "second"]
    assert len(winners) == (0 if leaves else 1)


def test_two_streams_that_begin_together_leave_one_open(two):
    """The one that came too late is closed, and its place given back."""
    go = Gate()
    begin = event({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]})
    for server in two:
        server.route(CHAT_PATH, Sse([go, begin, b"data: [DONE]\n\n"]))

    with scillm.Router([row(two[0]), row(two[1])], hedge_after_s=0.1) as router:
        threading.Timer(0.5, go.open).start()
        stream = router.completion("g", MESSAGES, stream=True)
        assert len(list(stream)) == 1

    assert router._board.load.in_flight == [0, 0]
    assert len(stream.completion.scillm_meta["attempts"]) == 2


def test_a_bug_in_a_provider_is_raised_bare():
    """No exception group, no second request."""

    async def broken():
        raise ZeroDivisionError

    async def nothing(_answer):
        raise AssertionError

    async def main():
        await Race(broken, lambda: None, after_s=1.0, discard=nothing).run()

    with pytest.raises(ZeroDivisionError):
        anyio.run(main)
