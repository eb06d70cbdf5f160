"""The Router under failure, against real servers: retries, rests, fallbacks, strategies."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time

import anyio
import pytest
import scillm
from scillm import errors
from scillm.fanout import each
from support.faulty import CHAT_PATH, FaultyServer, Gate, Json, Sse, Stall, completion_object, event

MESSAGES = [{"role": "user", "content": "hi"}]
FAST = {"retry_enabled": True, "retry_base_s": 0.01, "retry_max_s": 0.05}


def row(server, group="g", **more):
    return {
        "model_name": group,
        "litellm_params": {"model": "openai/m", "api_base": server.base_url, **more},
    }


def busy(retry_after=None, status=429):
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return Json({"error": {"message": "busy"}}, status, headers)


@pytest.fixture
def two():
    with FaultyServer() as first, FaultyServer() as second:
        yield first, second


# -- retries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_throttled_call_succeeds_and_tells_how(faulty_server, stream):
    """Two refusals, then an answer: callbacks and stamps tell the whole story."""
    faulty_server.queue(CHAT_PATH, busy(), busy(status=503))
    told, won = [], []

    with scillm.Router(settings={"retry_meta": True, "timeout_s": 10.0}) as router:
        answer = router.completion(
            "openai/m", MESSAGES, api_base=faulty_server.base_url, stream=stream,
            on_attempt=told.append, on_success=won.append, **FAST,
        )  # fmt: skip
        if stream:
            for _ in answer:
                pass
            answer = answer.completion

    assert answer.text == "echo:hi"
    assert [t["event"] for t in told] == ["429_retry", "retry"]
    assert [t["reason"] for t in told] == ["rate_limited", "capacity"]
    assert [t["attempt"] for t in told] == [t["attempt_no"] for t in told] == [1, 2]
    assert told[1]["cumulative_sleep_s"] == pytest.approx(told[0]["next_sleep_s"])
    assert {"retry_after", "elapsed_s", "remaining_time_s", "remaining_attempts",
            "attempt_start_monotonic", "model"} <= set(told[0])  # fmt: skip
    assert (won[0]["attempts"], won[0]["retries"]) == (3, 2)
    retries = answer.additional_kwargs["router"]["retries"]
    assert retries["attempts"] == 2
    assert retries["total_sleep_s"] == pytest.approx(sum(t["next_sleep_s"] for t in told))
    assert [a["status_code"] for a in answer.scillm_meta["attempts"]] == [429, 503, None]


@pytest.mark.parametrize(("announced", "waited_s"), [(0, 0.5), (0.1, 0.1)])
def test_only_a_pause_of_zero_is_made_longer(faulty_server, announced, waited_s):
    """`Retry-After: 0` becomes half a second; a tenth of a second stays one, but for the jitter."""
    faulty_server.queue(CHAT_PATH, busy(retry_after=announced))
    told, started = [], time.monotonic()

    scillm.completion(
        "openai/m", MESSAGES, api_base=faulty_server.base_url, on_attempt=told.append, **FAST
    )

    assert time.monotonic() - started >= waited_s
    assert waited_s <= told[0]["next_sleep_s"] <= 1.25 * waited_s


def test_the_announced_pause_is_waited(faulty_server):
    """Retry-After on a real reply: no request arrives before it is over."""
    faulty_server.queue(CHAT_PATH, busy(retry_after=0.8))
    started = time.monotonic()

    scillm.completion("openai/m", MESSAGES, api_base=faulty_server.base_url, **FAST)

    assert time.monotonic() - started >= 0.8
    assert len(faulty_server.requests) == 2


def test_a_pause_that_does_not_fit_gives_up_at_once(faulty_server):
    """The error comes back now, with the wait it would have taken, and on_giveup knows why."""
    faulty_server.route(CHAT_PATH, busy(retry_after=3600))
    lost = []
    started = time.monotonic()

    with pytest.raises(errors.RateLimitError) as caught:
        scillm.completion(
            "openai/m", MESSAGES, api_base=faulty_server.base_url, on_giveup=lost.append, **FAST
        )

    assert time.monotonic() - started < 5
    assert caught.value.retry_after == 3600.0
    assert lost[0]["why"] == "time_budget"
    assert lost[0]["event"] == "429_giveup"
    assert lost[0]["remaining_attempts"] == 7
    assert {"attempt_start_monotonic", "remaining_time_s", "cumulative_sleep_s", "reason"} <= set(
        lost[0]
    )
    assert len(faulty_server.requests) == 1


def test_giving_up_is_a_json_line_with_its_reason(faulty_server, capsys):
    """SCILLM_LOG_JSON: why it ended, what was left, and the keys of the first SciLLM."""
    faulty_server.route(CHAT_PATH, busy(retry_after=3600))
    settings = {"retry_enabled": True, "log_json": True}

    with scillm.Router(settings=settings) as router, pytest.raises(errors.RateLimitError):
        router.completion("openai/m", MESSAGES, api_base=faulty_server.base_url)

    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["attempts"], told["why"]) == ("429_giveup", 1, "time_budget")
    assert set(told) == {
        "event", "model", "attempts", "elapsed_s", "error", "why", "reason",
        "attempt_start_monotonic", "remaining_time_s", "remaining_attempts", "cumulative_sleep_s",
    }  # fmt: skip


def test_the_attempts_end_and_the_last_error_has_them_all(faulty_server):
    """num_retries=2 means three requests."""
    faulty_server.route(CHAT_PATH, busy(status=500))

    with pytest.raises(errors.InternalServerError) as caught:
        scillm.completion(
            "openai/m", MESSAGES, api_base=faulty_server.base_url, num_retries=2, retry_base_s=0.01
        )

    assert len(faulty_server.requests) == len(caught.value.attempts) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_cannot_help_is_asked_once(faulty_server, status):
    """Retrying is not for refusals."""
    faulty_server.route(CHAT_PATH, busy(status=status))

    with pytest.raises(errors.ProviderError):
        scillm.completion("openai/m", MESSAGES, api_base=faulty_server.base_url, **FAST)

    assert len(faulty_server.requests) == 1


def test_without_being_asked_nothing_is_retried(faulty_server):
    """Retries are opt-in, as documented."""
    faulty_server.route(CHAT_PATH, busy())

    with pytest.raises(errors.RateLimitError):
        scillm.completion("openai/m", MESSAGES, api_base=faulty_server.base_url)

    assert len(faulty_server.requests) == 1


def test_a_broken_callback_does_not_cost_the_answer(faulty_server, caplog):
    """What a watcher raises is logged."""
    faulty_server.queue(CHAT_PATH, busy())

    def broken(told):
        raise RuntimeError("watcher")

    answer = scillm.completion(
        "openai/m", MESSAGES, api_base=faulty_server.base_url, on_attempt=broken, **FAST
    )

    assert answer.text == "echo:hi"
    assert "a retry callback raised" in caplog.text


LOGGING = """
import sys, scillm
scillm.completion("openai/m", [{"role": "user", "content": "hi"}], api_base=sys.argv[1],
                  api_key="sk-secret-0123456789")
"""


def test_the_environment_switches_retries_and_json_lines_on(faulty_server):
    """SCILLM_RETRY_* and SCILLM_LOG_JSON: one line per retry on stderr, without the key."""
    faulty_server.queue(CHAT_PATH, busy(), busy())
    environment = {
        "SCILLM_RETRY_ENABLED": "1",
        "SCILLM_RETRY_BASE_S": "0.01",
        "SCILLM_LOG_JSON": "1",
    }

    done = subprocess.run(
        [sys.executable, "-c", LOGGING, faulty_server.base_url],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [line["attempt"] for line in lines] == [1, 2]
    assert set(lines[0]) == {
        "event", "model", "attempt", "sleep_s", "elapsed_s", "retry_after_s", "reason",
        "attempt_start_monotonic", "remaining_time_s", "remaining_attempts", "cumulative_sleep_s",
    }  # fmt: skip
    assert len(lines) == len(done.stderr.splitlines())
    assert done.stdout == ""
    assert "sk-secret" not in done.stderr


# -- rests and order ----------------------------------------------------------------------------


def test_a_throttled_deployment_rests_and_the_sibling_serves(two):
    """One 429, and the next calls do not ask it again until its pause is over."""
    first, second = two
    first.route(CHAT_PATH, busy(retry_after=60))

    with scillm.Router([row(first, order=1), row(second, order=2)]) as router:
        for _ in range(5):
            router.completion("g", MESSAGES)

    assert (len(first.requests), len(second.requests)) == (1, 5)


def test_failover_comes_before_waiting(two):
    """With a healthy sibling there is no sleep at all."""
    first, second = two
    first.route(CHAT_PATH, busy(retry_after=60))
    started = time.monotonic()

    with scillm.Router([row(first, order=1), row(second, order=2)], num_retries=3) as router:
        answer = router.completion("g", MESSAGES)

    assert time.monotonic() - started < 5
    assert answer.additional_kwargs["router"]["attempts"] == 2


def test_when_all_rest_the_call_waits_for_the_first_to_wake(two):
    """Retrying waits the shortest rest, then answers."""
    first, second = two
    first.queue(CHAT_PATH, busy(retry_after=30))
    second.queue(CHAT_PATH, busy(retry_after=0.7))
    started = time.monotonic()

    with scillm.Router([row(first, order=1), row(second, order=2)], **FAST) as router:
        answer = router.completion("g", MESSAGES)

    assert 0.7 <= time.monotonic() - started < 10
    assert (
        answer.scillm_meta["endpoint"] == router.completion("g", MESSAGES).scillm_meta["endpoint"]
    )
    assert len(first.requests) == 1


def test_when_all_rest_and_nothing_is_retried_the_wait_is_on_the_error(two):
    """A RateLimitError with status 429 and the shortest rest; nothing is sent."""
    for server in two:
        server.route(CHAT_PATH, busy(retry_after=50))
    with scillm.Router([row(server) for server in two]) as router:
        with pytest.raises(errors.RateLimitError):
            router.completion("g", MESSAGES)

        with pytest.raises(errors.RateLimitError, match="Every deployment of 'g' rests") as caught:
            router.completion("g", MESSAGES)

    assert caught.value.status_code == 429
    assert 40 < caught.value.retry_after <= 50
    assert sum(len(server.requests) for server in two) == 2


def test_a_deployment_can_be_asked_by_id_while_its_group_rests(two):
    """An explicit id goes past the rests."""
    first, _ = two
    rows = [{**row(first), "model_info": {"id": "mine"}}, row(two[1])]
    first.queue(CHAT_PATH, busy(retry_after=50))
    two[1].route(CHAT_PATH, busy(retry_after=50))
    with scillm.Router(rows) as router:
        with pytest.raises(errors.RateLimitError):
            router.completion("g", MESSAGES)

        assert router.completion("mine", MESSAGES).text == "echo:hi"


def test_a_used_up_minute_moves_calls_on(two):
    """rpm=1: the second call of the minute goes to the next order level."""
    first, second = two
    rows = [row(first, order=1, rpm=1), row(second, order=2)]

    with scillm.Router(rows, clock=lambda: 100.0) as router:
        for _ in range(3):
            router.completion("g", MESSAGES)

    assert (len(first.requests), len(second.requests)) == (1, 2)


# -- fallbacks ----------------------------------------------------------------------------------


def test_a_failed_group_falls_back_and_says_so(two):
    """The answer names the group that was asked for and the deployment that served."""
    first, second = two
    first.route(CHAT_PATH, busy(status=500))

    with scillm.Router([row(first, "a"), row(second, "b")], fallbacks=[{"a": ["b"]}]) as router:
        answer = router.completion("a", MESSAGES)

    assert answer.scillm_meta["requested_model"] == "a"
    assert answer.additional_kwargs["router"]["model_group"] == "b"
    assert answer.additional_kwargs["router"]["fallbacks"] == 1


def test_context_window_errors_take_their_own_way(two):
    """A prompt that is too long goes to the big model, other failures do not."""
    first, second = two
    too_long = Json({"error": {"message": "long", "code": "context_length_exceeded"}}, 400)
    first.queue(CHAT_PATH, too_long, busy(status=500))
    rows = [row(first, "small"), row(second, "big")]

    with scillm.Router(rows, context_window_fallbacks=[{"small": ["big"]}]) as router:
        assert router.completion("small", MESSAGES).text == "echo:hi"
        with pytest.raises(errors.InternalServerError):
            router.completion("small", MESSAGES)


def test_a_fallback_can_bring_other_messages_and_parameters(two):
    """Per call, with a dictionary."""
    first, second = two
    first.route(CHAT_PATH, busy(status=500))
    other = [{"role": "user", "content": "shorter"}]

    with scillm.Router([row(first, "a"), row(second, "b")]) as router:
        answer = router.completion(
            "a", MESSAGES, fallbacks=[{"model": "b", "messages": other, "temperature": 0}]
        )

    assert answer.text == "echo:shorter"
    assert second.requests[0].json["temperature"] == 0


def test_when_every_fallback_fails_the_most_recent_error_is_raised(two):
    """And it carries the attempts of all groups."""
    first, second = two
    first.route(CHAT_PATH, busy(status=500))
    second.route(CHAT_PATH, busy(status=503))

    with (
        scillm.Router([row(first, "a"), row(second, "b")], default_fallbacks=["b"]) as router,
        pytest.raises(errors.CapacityError) as caught,
    ):
        router.completion("a", MESSAGES)

    assert [a.status_code for a in caught.value.attempts] == [500, 503]


def test_fallbacks_can_be_switched_off_and_bounded(two):
    """disable_fallbacks and max_fallbacks do what they say."""
    first, second = two
    first.route(CHAT_PATH, busy(status=500))
    rows = [row(first, "a"), row(second, "b")]

    with scillm.Router(rows, fallbacks=[{"a": ["b"]}]) as router:
        for more in ({"disable_fallbacks": True}, {"max_fallbacks": 0}):
            with pytest.raises(errors.InternalServerError):
                router.completion("a", MESSAGES, **more)

    assert second.requests == []


def test_streams_fall_back_too(two):
    """A group that cannot open the stream is followed by the next."""
    first, second = two
    first.route(CHAT_PATH, Sse([event({"error": {"message": "x", "code": 503}})]))

    with scillm.Router([row(first, "a"), row(second, "b")], fallbacks=[{"a": ["b"]}]) as router:
        stream = router.completion("a", MESSAGES, stream=True)

        assert "".join(c.choices[0].delta.content or "" for c in stream) == "echo:hi"


# -- names and strategies -----------------------------------------------------------------------


def test_aliases_and_patterns_name_groups(faulty_server):
    """`model_group_alias`, `vendor/*` and the star in the deployment's own model."""
    rows = [row(faulty_server, "plain"), row(faulty_server, "vendor/*", model="openai/real-*")]

    with scillm.Router(rows, model_group_alias={"short": "plain"}) as router:
        assert router.completion("short", MESSAGES).scillm_meta["requested_model"] == "short"
        router.completion("vendor/x1", MESSAGES)

    assert faulty_server.requests[1].json["model"] == "real-x1"


def test_tags_without_a_deployment_are_an_error(faulty_server):
    """A tag nobody serves is not served by anybody else."""
    with scillm.Router([row(faulty_server, tags=["paid"])]) as router:
        assert router.completion("g", MESSAGES, tags=["paid"]).text == "echo:hi"
        with pytest.raises(errors.UnknownModelError, match="free"):
            router.completion("g", MESSAGES, tags=["free"])


def test_least_busy_avoids_the_one_that_is_held_up(two):
    """While one deployment is slow, the others get the calls."""
    first, second = two
    first.route(CHAT_PATH, Stall(1.0, Json({"choices": []})))

    async def main():
        async with (
            scillm.Router(
                [row(first), row(second)], routing_strategy="least-busy", draw=lambda: 0.0
            ) as router,
            anyio.create_task_group() as group,
        ):
            group.start_soon(router.acompletion, "g", MESSAGES)
            await anyio.sleep(0.2)
            for _ in range(5):
                await router.acompletion("g", MESSAGES)

    anyio.run(main)
    assert (len(first.requests), len(second.requests)) == (1, 5)


def test_latency_based_routing_goes_to_the_fast_one(two):
    """After both were tried once, the fast one is asked."""
    first, second = two
    first.route(CHAT_PATH, Stall(0.3, Json({"choices": []})))

    with scillm.Router(
        [row(first), row(second)], routing_strategy="latency-based-routing"
    ) as router:
        for _ in range(8):
            router.completion("g", MESSAGES)

    assert len(first.requests) == 1


def test_a_stream_counts_as_in_flight_until_it_is_closed(faulty_server):
    """least-busy sees open streams."""
    first = event({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    faulty_server.route(CHAT_PATH, Sse([first, Gate()]))
    with scillm.Router([row(faulty_server)], routing_strategy="least-busy") as router:
        stream = router.completion("g", MESSAGES, stream=True)
        busy_now = list(router._board.load.in_flight)
        stream.close()

        assert busy_now == [1]
        assert router._board.load.in_flight == [0]


# -- pacing -------------------------------------------------------------------------------------


class Refusing:
    """A server that refuses 30 % of the first tries at random, each with a short pause.

    Remembers when it announced which pause, and which requests came inside one.
    """

    def __init__(self, seed, share=0.3, pause_s=0.2):
        self.luck = random.Random(seed)
        self.share, self.pause_s = share, pause_s
        self.resting_until = 0.0
        self.inside = self.announced = 0
        self.lock = threading.Lock()

    def __call__(self, request):
        now = time.monotonic()
        with self.lock:
            if now < self.resting_until - GRACE_S:
                self.inside += 1
                return busy(retry_after=self.pause_s)
            if self.luck.random() < self.share:
                self.resting_until = now + self.pause_s
                self.announced += 1
                return busy(retry_after=self.pause_s)
        return Json(completion_object("ok"))


GRACE_S = 0.02
"""Clocks of two threads and a loopback trip."""


def test_callers_share_a_pause(faulty_server):
    """Many callers and one that is refused: the others hold back until the pause is over."""
    server = Refusing(seed=5, share=0.05, pause_s=0.3)
    faulty_server.route(CHAT_PATH, server)
    answers = []

    async def one(router, number):
        answers.append(
            await router.acompletion(
                "openai/m", MESSAGES, api_base=faulty_server.base_url,
                retry_enabled=True, retry_max_attempts=50, retry_base_s=0.05,
            )
        )  # fmt: skip

    async def main():
        async with scillm.Router(settings={"timeout_s": 20.0}) as router:
            await each(lambda n: one(router, n), range(200), limit=32)

    anyio.run(main)
    assert len(answers) == 200
    # Calls that were in the air already when the pause was announced cannot be called back.
    assert server.inside <= server.announced * 31
    assert len(faulty_server.requests) == 200 + server.announced + server.inside


def test_a_herd_stops_at_the_first_refusal(faulty_server):
    """200 calls, one 429 with a pause: only what was in the air already arrives before its end."""
    announced = []

    def first_refuses(request):
        if not announced:
            announced.append(time.monotonic())
            return busy(retry_after=1.0)
        arrived.append(time.monotonic())
        return Json(completion_object("ok"))

    arrived = []
    faulty_server.route(CHAT_PATH, first_refuses)

    async def main():
        async with scillm.Router(settings={"max_concurrency": 4}) as router:
            call = {"api_base": faulty_server.base_url, **FAST}
            await each(
                lambda _n: router.acompletion("openai/m", MESSAGES, **call), range(200), limit=200
            )

    anyio.run(main)
    early = [moment for moment in arrived if moment < announced[0] + 1.0 - GRACE_S]
    assert len(early) <= 3
    assert len(arrived) == 200


def test_a_rate_is_kept_across_calls(faulty_server):
    """SCILLM_RATE_LIMIT_QPS: n calls take at least (n - burst) / rate."""
    settings = {"rate_limit_qps": 20.0, "timeout_s": 20.0}
    started = time.monotonic()

    async def main():
        async with scillm.Router(settings=settings) as router:
            call = {"api_base": faulty_server.base_url}
            await each(
                lambda _n: router.acompletion("openai/m", MESSAGES, **call), range(40), limit=40
            )

    anyio.run(main)
    assert time.monotonic() - started >= (40 - 20) / 20 - 0.05


def test_concurrency_is_bounded_and_open_streams_count(faulty_server):
    """SCILLM_MAX_CONCURRENCY=1: the second call starts when the first stream is closed."""
    first = event({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    faulty_server.queue(CHAT_PATH, Sse([first, Gate()]))

    async def main():
        async with scillm.Router(settings={"max_concurrency": 1}) as router:
            call = {"api_base": faulty_server.base_url}
            stream = await router.acompletion("openai/m", MESSAGES, stream=True, **call)
            with anyio.move_on_after(0.3) as waited:
                await router.acompletion("openai/m", MESSAGES, **call)
            assert waited.cancelled_caught
            await stream.aclose()
            return await router.acompletion("openai/m", MESSAGES, **call)

    assert anyio.run(main).text == "echo:hi"
    assert len(faulty_server.requests) == 2


def test_a_pause_longer_than_the_budget_is_not_waited_for(faulty_server):
    """A caller that meets somebody else's long pause gives up at once."""
    faulty_server.route(CHAT_PATH, busy(retry_after=500))
    call = {"api_base": faulty_server.base_url, "retry_time_budget_s": 5, **FAST}

    with scillm.Router(settings={}) as router:
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(errors.RateLimitError) as caught:
                router.completion("openai/m", MESSAGES, **call)

            assert time.monotonic() - started < 3
            assert caught.value.retry_after > 400
    assert len(faulty_server.requests) == 1
