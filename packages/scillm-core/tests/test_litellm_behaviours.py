"""Behaviours that users of LiteLLM's Router rely on and that no other test file shows.

`docs/guide/litellm_differences.md` lists all of them with the test that shows each.
"""

from __future__ import annotations

import copy
import json
import time
from functools import partial
from typing import Any

import anyio
import pytest
import scillm
from scillm import errors
from scillm.fanout import each
from scillm.resilience.health import Health
from scillm.runs.cache import make_cache
from support.faulty import CHAT_PATH, FaultyServer, Gate, Json, Sse, Stall, completion_object, event

MESSAGES = [{"role": "user", "content": "hi"}]


def row(server, group="g", **more):
    return {
        "model_name": group,
        "litellm_params": {"model": "openai/m", "api_base": server.base_url, **more},
    }


@pytest.fixture
def two():
    with FaultyServer() as first, FaultyServer() as second:
        yield first, second


# -- who rests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fails", "answers", "rests"), [(3, 0, False), (3, 7, False), (4, 1, True)]
)
def test_a_few_failures_rest_nobody(fails, answers, rests):
    """Three of three and three of ten do not, four of five do: more than half of at least five."""
    health = Health()
    for _ in range(answers):
        health.succeeded("a", 0.0)
    for _ in range(fails):
        health.failed("a", errors.InternalServerError("x", status_code=500), 0.0, siblings=1)

    assert (health.rest_s("a", 0.0) > 0) is rests


@pytest.mark.parametrize("status", [400, 402, 429])
def test_an_account_without_credit_rests_whatever_the_status(two, status):
    """`credit balance is too low` comes as 400 from some: the sibling serves from then on."""
    first, second = two
    first.route(CHAT_PATH, Json({"error": {"message": "Your credit balance is too low"}}, status))

    with scillm.Router([row(first, weight=1), row(second, weight=0)]) as router:
        for _ in range(3):
            router.completion("g", MESSAGES)

    assert (len(first.requests), len(second.requests)) == (1, 3)


def test_a_fallback_may_name_a_deployment_while_its_group_rests(two):
    """A deployment's id goes past the rests of its group."""
    first, second = two
    first.route(CHAT_PATH, Json({"error": {"message": "x"}}, 500))
    rows = [
        row(first, "a"),
        {**row(second, "b"), "model_info": {"id": "the-one"}},
        row(first, "b", order=2),
    ]

    with scillm.Router(rows, fallbacks=[{"a": ["the-one"]}]) as router:
        router._board.health.failed(
            "the-one", errors.RateLimitError("busy", status_code=429), router._board.clock(),
            siblings=1,
        )  # fmt: skip
        answer = router.completion("a", MESSAGES)

    assert answer.scillm_meta["endpoint"] == "the-one"


# -- how many at once ------------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "default", "most"), [(2, 5, 2), (None, 3, 3), (None, None, 12)])
def test_the_calls_in_the_air_are_bounded_per_deployment(faulty_server, own, default, most):
    """A row's max_parallel_requests, else the Router's default; neither is derived from rpm."""
    seen, now = [], []

    def answer(_request):
        now.append(1)
        seen.append(len(now))
        return Sse([gate_of[len(seen) - 1], end], framing="chunked")

    gate_of = [Gate() for _ in range(12)]
    end = (
        event({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]})
        + b"data: [DONE]\n\n"
    )
    faulty_server.route(CHAT_PATH, answer)
    limits = {} if own is None else {"max_parallel_requests": own}
    arguments = {} if default is None else {"default_max_parallel_requests": default}

    async def main():
        async with (
            scillm.Router([row(faulty_server, rpm=1000, **limits)], **arguments) as router,
            anyio.create_task_group() as group,
        ):

            async def one(_number):
                stream = await router.acompletion("g", MESSAGES, stream=True)
                async for _chunk in stream:
                    pass

            group.start_soon(lambda: each(one, range(12), limit=12))
            arrived = partial(faulty_server.wait_until, lambda: len(faulty_server.requests) >= most)
            await anyio.to_thread.run_sync(arrived)
            await anyio.sleep(0.2)  # for one too many
            began = len(seen)
            for gate in gate_of:
                gate.open()
            return began

    assert anyio.run(main) == most
    assert len(seen) == 12


# -- answers given beforehand ----------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_mock_response_touches_no_network_and_says_that_it_is_one(stream):
    """Any model name, `n` answers, streamed or not; marked, and without usage."""
    answer = scillm.completion("gpt-4", MESSAGES, mock_response="a fine day", n=2, stream=stream)
    if stream:
        assert len(list(answer)) == 8
        answer = answer.completion

    assert [choice.message.content for choice in answer.choices] == ["a fine day"] * 2
    assert [choice.finish_reason for choice in answer.choices] == ["stop", "stop"]
    assert answer.scillm_meta["mock"] is True
    assert answer.usage is None


def test_a_mock_can_be_a_whole_completion_or_an_error():
    """Tool calls and usage as given; an error is raised with the attempt on it."""
    whole = completion_object("x")

    assert scillm.completion("m", MESSAGES, mock_response=whole).to_dict()["id"] == whole["id"]
    with pytest.raises(errors.RateLimitError) as caught:
        scillm.completion("m", MESSAGES, mock_response=errors.RateLimitError("no", status_code=429))
    assert [attempt.outcome for attempt in caught.value.attempts] == ["RateLimitError"]


def test_a_mock_timeout_takes_its_time_and_fails():
    """After `timeout`, as a timeout."""
    began = time.monotonic()

    with pytest.raises(errors.APITimeoutError):
        scillm.completion("m", MESSAGES, mock_timeout=True, timeout=0.1)

    assert time.monotonic() - began >= 0.1


def test_a_row_can_be_a_mock_and_falls_over_like_a_real_one():
    """A model_list for tests: the first deployment is down, the second answers."""
    rows = [
        {"model_name": "g", "litellm_params": {"model": "a", "order": 1,
         "mock_response": errors.InternalServerError("down", status_code=500)}},
        {"model_name": "g", "litellm_params": {"model": "b", "order": 2, "mock_response": "up"}},
    ]  # fmt: skip

    with scillm.Router(rows) as router:
        answer = router.completion("g", MESSAGES)

    assert answer.text == "up"
    assert [a["outcome"] for a in answer.scillm_meta["attempts"]] == ["InternalServerError", "ok"]


def test_a_mock_is_never_kept_as_a_real_answer(faulty_server):
    """A cache that a test's Router has used does not serve the mock to the real one."""
    cache = make_cache("memory")

    for more in ({"mock_response": "mocked"}, {}):
        rows = [{**row(faulty_server, **more), "model_info": {"id": "x"}}]
        with scillm.Router(rows, cache=cache) as router:
            answer = router.completion("g", MESSAGES)

    assert answer.text == "echo:hi"


@pytest.mark.parametrize("mock", [{"mock_response": 3}, {"mock_timeout": "yes"}])
def test_a_mock_that_is_none_is_refused(mock):
    """In a call and in a row."""
    with pytest.raises(errors.UsageError, match="mock"):
        scillm.completion("m", MESSAGES, **mock)
    with pytest.raises(errors.UsageError, match="mock"):
        scillm.Router([{"model_name": "g", "litellm_params": {"model": "m", **mock}}])


# -- the model_list --------------------------------------------------------------------------------


def test_a_bad_row_can_be_left_out(faulty_server, caplog):
    """`ignore_invalid_deployments`: the log has the reason, the others serve."""
    rows = [{"model_name": "g", "litellm_params": {"model": ""}}, row(faulty_server)]

    with scillm.Router(rows, ignore_invalid_deployments=True) as router:
        router.completion("g", MESSAGES)

    assert len(faulty_server.requests) == 1
    assert "model_list[0]" in caplog.text
    with pytest.raises(errors.UsageError, match="No row of model_list"):
        scillm.Router(rows[:1], ignore_invalid_deployments=True)


def test_what_the_caller_passed_is_not_changed(two):
    """Rows, messages and parameters, also through a fallback with other messages."""
    first, second = two
    first.route(CHAT_PATH, Json({"error": {"message": "x"}}, 500))
    rows = [row(first, "a", temperature=0.5), row(second, "b")]
    call = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "fallbacks": [{"model": "b", "messages": MESSAGES, "temperature": 0}],
        "extra_headers": {"x-a": "1"},
    }
    before = copy.deepcopy((rows, call))

    with scillm.Router(rows) as router:
        router.completion("a", **call)

    assert (rows, call) == before
    assert json.loads(second.requests[0].body)["temperature"] == 0


def test_the_routers_timeout_holds_where_nothing_nearer_is_said(faulty_server):
    """Call beats row beats Router beats SCILLM_TIMEOUT_S."""
    faulty_server.route(CHAT_PATH, Stall(1.0, Json(completion_object("late"))))

    with scillm.Router([row(faulty_server)], timeout=0.2) as router:
        with pytest.raises(errors.APITimeoutError):
            router.completion("g", MESSAGES)
        assert router.completion("g", MESSAGES, timeout=5).text == "late"


def test_other_rows_bring_their_own_knobs_and_providers(two):
    """set_model_list: also a row of the same id at another address, and its num_retries."""
    first, second = two
    for server in two:
        server.route(CHAT_PATH, Json({"error": {"message": "x"}}, 500))

    with scillm.Router([{**row(first), "model_info": {"id": "x"}}]) as router:
        with pytest.raises(errors.InternalServerError):
            router.completion("g", MESSAGES)
        router.set_model_list(
            [{**row(second, num_retries=1, retry_base_s=0.01), "model_info": {"id": "x"}}]
        )
        with pytest.raises(errors.InternalServerError):
            router.completion("g", MESSAGES)

    assert (len(first.requests), len(second.requests)) == (1, 2)


# -- a stream that breaks --------------------------------------------------------------------------

ENABLED: dict[str, Any] = {"enable_mid_stream_fallback_continuation": True}


def said(text, **more):
    return event({"choices": [{"index": 0, "delta": {"content": text}, **more}]})


def broken_off(*pieces):
    return Sse(list(pieces), framing="close")


@pytest.mark.parametrize("sync", [True, False])
def test_a_broken_stream_goes_on_with_the_fallback_where_that_is_asked_for(two, sync):
    """One stream for the caller; the fallback sees the text so far; the seam is reported."""
    first, second = two
    first.route(CHAT_PATH, broken_off(said("Once upon")))
    second.route(CHAT_PATH, Sse([said(" a time", finish_reason="stop"), b"data: [DONE]\n\n"]))
    arguments: dict[str, Any] = {"fallbacks": [{"a": ["b"]}], **ENABLED}

    if sync:
        with scillm.Router([row(first, "a"), row(second, "b")], **arguments) as router:
            stream = router.completion("a", MESSAGES, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    else:

        async def main():
            async with scillm.Router([row(first, "a"), row(second, "b")], **arguments) as router:
                stream = await router.acompletion("a", MESSAGES, stream=True)
                parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
                return stream, "".join(parts)

        stream, text = anyio.run(main)

    answer = stream.completion
    assert text == answer.text == "Once upon a time"
    asked = json.loads(second.requests[0].body)["messages"]
    assert asked[0] == MESSAGES[0]
    assert asked[1] == {"role": "assistant", "content": "Once upon"}
    assert asked[2]["role"] == "user"
    seam = answer.scillm_meta["continued"]
    assert (seam["error"], seam["after_chars"]) == ("APIConnectionError", 9)
    assert answer.additional_kwargs["router"]["fallbacks"] == 1


def test_a_broken_stream_is_an_error_unless_asked_for(two):
    """By default nobody's words are put after another's, fallbacks or not."""
    first, second = two
    first.route(CHAT_PATH, broken_off(said("Once upon")))

    with scillm.Router([row(first, "a"), row(second, "b")], fallbacks=[{"a": ["b"]}]) as router:
        stream = router.completion("a", MESSAGES, stream=True)
        with pytest.raises(errors.StreamInterruptedError) as caught:
            list(stream)

    assert caught.value.partial is not None
    assert caught.value.partial.text == "Once upon"
    assert second.requests == []


@pytest.mark.parametrize("case", ["no fallback", "tool call", "two choices", "fails too", "twice"])
def test_a_stream_that_nobody_can_go_on_with_is_an_error(two, case):
    """No fallback, half a tool call, several choices, a fallback that fails, or breaks as well."""
    first, second = two
    pieces = [said("Once")]
    if case == "tool call":
        call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}
        pieces = [event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})]
    if case == "two choices":
        pieces.append(event({"choices": [{"index": 1, "delta": {"content": "x"}}]}))
    if case == "fails too":
        second.route(CHAT_PATH, Json({"error": {"message": "x"}}, 500))
    if case == "twice":
        second.route(CHAT_PATH, broken_off(said(" more")))
    first.route(CHAT_PATH, broken_off(*pieces))
    fallbacks: dict[str, Any] = {} if case == "no fallback" else {"fallbacks": [{"a": ["b"]}]}

    with scillm.Router([row(first, "a"), row(second, "b")], **fallbacks, **ENABLED) as router:
        stream = router.completion("a", MESSAGES, stream=True)
        with pytest.raises(errors.StreamInterruptedError) as caught:
            list(stream)

    asked = case in ("fails too", "twice")
    assert (len(first.requests), len(second.requests)) == (1, int(asked))
    if case == "twice":
        assert caught.value.partial is not None
        assert caught.value.partial.text == "Once more"
