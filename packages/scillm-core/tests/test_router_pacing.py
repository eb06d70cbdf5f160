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


# -- one key, several deployments ------------------------------------------------------------------


def rows(server, *keys):
    return [
        {
            "model_name": "g",
            "litellm_params": {
                "model": f"openai/m{n}", "api_base": server.base_url, "api_key": key,
                "order": n,
            },
            "model_info": {"id": f"row-{n}"},
        }
        for n, key in enumerate(keys, start=1)
    ]  # fmt: skip


def ask_many(router, names, count):
    async def main():
        began = time.monotonic()
        await each(
            lambda n: router.acompletion(names[n % len(names)], MESSAGES), range(count), limit=count
        )
        return time.monotonic() - began

    return anyio.run(main)


@pytest.mark.parametrize(
    "arguments", [{"settings": {"rate_limit_qps": 10.0}}, {"settings": {}, "key_rpm": 600}]
)
def test_a_rate_is_that_of_a_key(faulty_server, arguments):
    """50 calls at 10/s to two deployments: 4 s with one key, 1.5 s where each has its own."""
    one, other = "sk-one-11111", "sk-two-22222"

    with scillm.Router(rows(faulty_server, one, one), **arguments) as router:
        shared_s = ask_many(router, ["row-1", "row-2"], 50)
    with scillm.Router(rows(faulty_server, one, other), **arguments) as router:
        apart_s = ask_many(router, ["row-1", "row-2"], 50)

    assert shared_s >= (50 - 10) / 10 - 0.05
    assert (25 - 10) / 10 - 0.05 <= apart_s < 3.9


def test_calls_that_name_their_own_target_share_the_rate_of_their_key(faulty_server):
    """Two models at one address with one key, no model_list."""
    call = {"api_base": faulty_server.base_url, "api_key": "sk-one-11111"}

    async def main():
        async with scillm.Router(settings={"rate_limit_qps": 20.0}) as router:
            began = time.monotonic()
            await each(
                lambda n: router.acompletion(f"openai/m{n % 2}", MESSAGES, **call),
                range(40),
                limit=40,
            )
            return time.monotonic() - began

    assert anyio.run(main) >= (40 - 20) / 20 - 0.05


def busy(wait_s):
    return Json({"error": {"message": "busy"}}, 429, {"retry-after": str(wait_s)})


@pytest.mark.parametrize("where", ["setting", "argument"])
def test_a_429_of_the_key_rests_every_deployment_that_has_it(faulty_server, where):
    """The next call goes to the other key at once; with one key it waits until the pause ends."""
    scope = {"rate_limit_scope": "key"}
    more = {"settings": scope} if where == "setting" else {"settings": {}, **scope}
    one, other = "sk-one-11111", "sk-two-22222"

    with scillm.Router(rows(faulty_server, one, one, other), **more, **FAST) as router:
        faulty_server.queue(CHAT_PATH, busy(4))
        began = time.monotonic()
        first = router.completion("g", MESSAGES)
        elsewhere_s = time.monotonic() - began
        resting = router.resting()
        router.completion("row-2", MESSAGES)
        rested_s = time.monotonic() - began

    assert first.scillm_meta["endpoint"] == "row-3"
    assert elsewhere_s < 3.5
    assert rested_s >= 4
    assert one not in str(resting)
    assert f"{faulty_server.base_url} key-" in str(resting)


def test_a_429_rests_the_deployment_alone_unless_it_is_said_to_be_the_keys(faulty_server):
    """Most upstreams limit the models of a key separately."""
    key = "sk-one-11111"

    with scillm.Router(rows(faulty_server, key, key), settings={}, **FAST) as router:
        faulty_server.queue(CHAT_PATH, busy(5))
        began = time.monotonic()
        answer = router.completion("g", MESSAGES)

    assert answer.scillm_meta["endpoint"] == "row-2"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "arguments",
    [{"key_rpm": 0}, {"key_tpm": "many"}, {"key_rpm": True}, {"rate_limit_scope": "vendor"},
     {"settings": {"rate_limit_scope": "Key"}}],
)  # fmt: skip
def test_limits_of_a_key_that_cannot_be_meant_are_refused(arguments):
    """When the Router is made, with what was wanted and what came."""
    with pytest.raises(errors.UsageError, match=r"must be .* but is"):
        scillm.Router(**arguments)


def test_tokens_of_a_key_hold_for_its_deployments(faulty_server):
    """What an answer used is paid off before the next call with that key starts."""
    reply = completion_object("a")
    faulty_server.route(CHAT_PATH, Json({**reply, "usage": {"prompt_tokens": 100,
        "completion_tokens": 50, "total_tokens": 150}}))  # fmt: skip
    key = "sk-one-11111"

    with scillm.Router(rows(faulty_server, key, key), settings={}, key_tpm=6000) as router:
        began = time.monotonic()
        for name in ("row-1", "row-2", "row-1"):
            router.completion(name, MESSAGES)

    assert time.monotonic() - began >= (300 - 100) / 100 - 0.05


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


def test_redis_knows_a_key_by_its_hash_only(faulty_server, port):
    """Rates of a key are shared between processes too, and its name tells nobody the key."""
    key = "sk-one-11111"

    async def main():
        async with paced(port) as one, paced(port) as other:
            began = time.monotonic()
            await each(
                lambda n: (one, other)[n % 2].acompletion(
                    f"openai/m{n % 2}", MESSAGES, api_base=faulty_server.base_url, api_key=key
                ),
                range(40),
                limit=40,
            )
            return time.monotonic() - began

    assert anyio.run(main) >= (40 - 20) / 20 - 0.05
    with redis.Redis(port=port) as client:
        names = b"\n".join(client.keys("*"))
    assert names.count(b"account-") == 1
    assert key.encode() not in names


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
