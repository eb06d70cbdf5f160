"""What the Router's pace knows: headers of answers, and the Redis it shares with others."""

from __future__ import annotations

import time

import anyio
import pytest
import redis
import scillm
from scillm import errors
from scillm.fanout import each
from scillm.plugins.groups import HOOKS
from scillm.providers.replyhead import side_of, with_side
from scillm.resilience.limits import Rates
from scillm.resilience.shared_redis import RedisPacing
from scillm.routing.options import router_arguments
from support.faulty import CHAT_PATH, Json, Sse, completion_object, event
from support.redis_server import free_port, redis_server

MESSAGES = [{"role": "user", "content": "hi"}]
FAST = {"retry_enabled": True, "retry_base_s": 0.01, "retry_max_s": 0.05}
LEFT_S = 0.7
USED_UP = {
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": f"{int(LEFT_S * 1000)}ms",
    "x-request-id": "req-1",
}


class Told:
    """A plugin that remembers events of the shared pace."""

    def __init__(self):
        self.events = []

    def scillm_event(self, event):
        if type(event).__name__ == "SharedPaceChanged":
            self.events.append(event.shared)


# -- headers of answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_what_an_answer_says_is_left_holds_for_the_next_call(faulty_server, stream):
    """`remaining: 0, reset: 0.7 s` on a success: the next call that may wait starts after that."""
    chunk = event({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]})
    faulty_server.queue(
        CHAT_PATH,
        Sse([chunk, b"data: [DONE]\n\n"], headers=USED_UP)
        if stream
        else Json(completion_object("a"), headers=USED_UP),
    )
    call = {"api_base": faulty_server.base_url, **FAST}

    with scillm.Router(settings={}) as router:
        answer = router.completion("openai/m", MESSAGES, stream=stream, **call)
        if stream:
            for _chunk in answer:
                pass
        began = time.monotonic()
        router.completion("openai/m", MESSAGES, **call)

    assert time.monotonic() - began >= LEFT_S - 0.25


def test_a_call_that_does_not_retry_does_not_wait_for_headers(faulty_server):
    """Without retries and rates nothing paces a call, so it neither waits nor fails here."""
    faulty_server.route(CHAT_PATH, Json(completion_object("a"), headers=USED_UP))
    began = time.monotonic()

    with scillm.Router(settings={}) as router:
        for _ in range(2):
            router.completion("openai/m", MESSAGES, api_base=faulty_server.base_url)

    assert time.monotonic() - began < LEFT_S


@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_brings_the_requests_id_and_the_rate_limit_headers(faulty_server, stream):
    """Where LiteLLM has them: `_hidden_params["additional_headers"]` and `_response_ms`."""
    chunk = event({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]})
    faulty_server.route(
        CHAT_PATH,
        Sse([chunk, b"data: [DONE]\n\n"], headers=USED_UP)
        if stream
        else Json(completion_object("a"), headers=USED_UP),
    )

    answer = scillm.completion("openai/m", MESSAGES, api_base=faulty_server.base_url, stream=stream)
    if stream:
        for _chunk in answer:
            pass
        answer = answer.completion

    hidden = answer._hidden_params
    assert hidden["request_id"] == "req-1"
    assert hidden["additional_headers"]["x-ratelimit-remaining-requests"] == "0"
    assert "x-request-id" not in hidden["additional_headers"]
    assert hidden["_response_ms"] > 0
    assert len(hidden["call_id"]) == 16


def test_headers_without_a_word_about_limits_add_nothing():
    """Most replies: the answer stays the very same object."""
    answer = scillm.Completion(id="x")

    assert side_of({"content-type": "application/json", "date": "now"}) == {}
    assert with_side(answer, {}) is answer
    assert with_side(answer, {"request_id": "r"}).scillm_meta == {"request_id": "r"}


# -- the Router's Redis ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        ({"redis_url": "rediss://h:1/2"}, "rediss://h:1/2"),
        ({"redis_host": "h"}, "redis://h:6379/0"),
        (
            {"redis_host": "h", "redis_port": "7", "redis_password": "p@:/ß", "redis_db": 3},
            "redis://:p%40%3A%2F%C3%9F@h:7/3",
        ),
        ({}, None),
    ],
)
def test_redis_is_named_as_in_litellm(arguments, url):
    """One URL, or host, port, password and db."""
    assert router_arguments(arguments).redis_url == url
    assert "redis://" not in repr(router_arguments(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {"redis_url": "localhost"},
        {"redis_url": "redis://h", "redis_host": "h"},
        {"redis_password": "p"},
        {"redis_host": "h", "redis_port": "x"},
        {"redis_host": ""},
    ],
)
def test_a_redis_that_cannot_be_meant_is_refused(arguments):
    """When the Router is made, and without the password."""
    with pytest.raises(errors.UsageError, match="redis"):
        scillm.Router(**arguments)


@pytest.fixture
def port(tmp_path):
    number = free_port()
    with redis_server(tmp_path, number):
        yield number


def paced(port, **more):
    return scillm.Router(
        settings={"rate_limit_qps": 20.0, "max_concurrency": 50},
        redis_url=f"redis://127.0.0.1:{port}",
        **more,
    )


def test_two_routers_share_one_rate_and_one_pause(faulty_server, port):
    """As two processes would: 40 calls at 20/s take a second although each alone needs none."""
    call = {"api_base": faulty_server.base_url}

    async def main():
        async with paced(port) as one, paced(port) as other:
            began = time.monotonic()
            await each(
                lambda n: (one, other)[n % 2].acompletion("openai/m", MESSAGES, **call),
                range(40),
                limit=40,
            )
            took_s = time.monotonic() - began
            faulty_server.queue(
                CHAT_PATH, Json({"error": {"message": "busy"}}, 429, {"retry-after": "0.8"})
            )
            with pytest.raises(errors.RateLimitError):
                await one.acompletion("openai/m", MESSAGES, **call)
            began = time.monotonic()
            await other.acompletion("openai/m", MESSAGES, **call)
            return took_s, time.monotonic() - began

    took_s, paused_s = anyio.run(main)
    assert took_s >= (40 - 20) / 20 - 0.05
    assert paused_s >= 0.7


def test_when_redis_dies_calls_go_on_at_this_process_own_rate(faulty_server, tmp_path, caplog):
    """SIGKILL in the middle: every call is answered, the rate holds, and it is said once."""
    call = {"api_base": faulty_server.base_url, "retry_enabled": True}
    number, told = free_port(), Told()

    async def main():
        async with paced(number) as router:
            router.registry.register(HOOKS, "told", told)
            with redis_server(tmp_path, number):
                await router.acompletion("openai/m", MESSAGES, **call)
            began = time.monotonic()
            await each(
                lambda _n: router.acompletion("openai/m", MESSAGES, **call), range(40), limit=40
            )
            return time.monotonic() - began

    assert anyio.run(main) >= (40 - 20) / 20 - 0.05
    assert len(faulty_server.requests) == 41
    assert told.events == [False]
    assert caplog.text.count("The shared pace is lost") == 1


def test_when_redis_is_back_the_pace_is_shared_again(tmp_path):
    """After a while it is tried again, by one call, and its return is told once."""
    number, told = free_port(), []

    async def main():
        url = f"redis://127.0.0.1:{number}"
        async with RedisPacing(url, again_s=0.2, on_change=told.append) as pacing:
            line = pacing.limiter(Rates(rpm=6000), "back")
            async with line.slot(tokens=1):
                pass
            with redis_server(tmp_path, number):
                await anyio.sleep(0.3)
                for _ in range(3):
                    async with line.slot(tokens=1):
                        pass
                with redis.Redis(port=number) as client:
                    return client.keys("scillm:pace:*")

    assert anyio.run(main) == [b"scillm:pace:back"]
    assert told[1:] == [None]
    assert "ConnectionError" in told[0]


def test_trio_is_told_before_anything_is_sent(port):
    """redis-py runs on asyncio only."""

    async def main():
        async with paced(port) as router:
            with pytest.raises(errors.UsageError, match="asyncio only"):
                await router.acompletion("echo/m", MESSAGES)

    anyio.run(main, backend="trio")


def test_a_loop_that_ends_closes_its_connections_to_redis(faulty_server, port):
    """Also of a Router that nobody closed: no warning about an unclosed client."""
    router = paced(port)

    async def main():
        await router.acompletion("openai/m", MESSAGES, api_base=faulty_server.base_url)

    anyio.run(main)
    with redis.Redis(port=port) as client:
        assert len(client.client_list()) == 1
