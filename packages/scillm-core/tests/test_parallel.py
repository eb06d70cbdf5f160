"""Many calls at once: every historical way of reading the results works, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import warnings

import anyio
import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.routing.deterministic import made_deterministic
from scillm.routing.parallel import RouterParallelRequest, is_empty, read_request
from support.faulty import CHAT_PATH, Json, Stall, completion_object


def request(server, text="hi", **more):
    messages = [{"role": "user", "content": text}]
    return {"model": "openai/m", "messages": messages, "api_base": server.base_url, **more}


def gather(requests, router=None, **more):
    async def main():
        async with router or scillm.Router() as one:
            return await one.parallel_acompletions(requests, **more)

    return anyio.run(main)


def test_results_read_by_attribute_and_by_key(faulty_server):
    """index/request/response/error/content, ["choices"], ["scillm_router"] and .meta."""
    requests = [request(faulty_server, f"q{n}") for n in range(10)]

    results = gather(requests, max_concurrency=3)

    assert [r.index for r in results] == list(range(10))
    assert [r.content for r in results] == [f"echo:q{n}" for n in range(10)]
    first = results[0]
    assert first["choices"][0]["message"]["content"] == "echo:q0"
    assert first["scillm_router"]["error_type"] == first.meta["error_type"] == "ok"
    assert first.get("usage").total_tokens > 0
    assert first.get("nothing", 7) == 7
    assert set(dict(first)) >= {"choices", "scillm_router", "usage", "id", "model"}
    assert (first.error, first.exception) == (None, None)
    assert first.meta["provider"] == "openai"
    assert first.meta["timing_ms"] > 0
    assert faulty_server.connections <= 3


def test_every_argument_of_a_request_reaches_the_server(faulty_server):
    """Top level and nested kwargs both count; tools, formats and headers are not dropped."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    requests = [
        request(faulty_server, tools=tools, kwargs={"seed": 7, "extra_headers": {"x-n": "1"}}),
        RouterParallelRequest(
            model="openai/m",
            messages=[{"role": "user", "content": "b"}],
            temperature=0.5,
            stream=True,
            kwargs={"api_base": faulty_server.base_url},
        ),
    ]

    results = gather(requests, max_concurrency=1)

    sent = [r.json for r in faulty_server.requests]
    assert sent[0]["tools"] == tools
    assert sent[0]["seed"] == 7
    assert faulty_server.requests[0].headers["x-n"] == "1"
    assert (sent[1]["temperature"], sent[1]["stream"]) == (0.5, True)
    assert results[1].content == "echo:b"
    assert results[1].response.choices[0].finish_reason == "stop"


def test_a_failure_stays_in_its_slot_with_its_error(faulty_server):
    """The other results are unharmed; the error is the error itself."""
    faulty_server.queue(CHAT_PATH, Json({"error": {"message": "no"}}, 500))

    bad, good = gather([request(faulty_server), request(faulty_server)], max_concurrency=1)

    assert isinstance(bad.error, errors.InternalServerError)
    assert bad.content is None
    assert bad["choices"] == [{"message": {"content": ""}}]
    assert bad.meta["error_type"] == "provider_error"
    assert "no" in bad.meta["exception"]
    assert "usage" not in bad
    with pytest.raises(KeyError):
        bad["usage"]
    assert good.content == "echo:hi"


def test_the_first_error_can_end_the_batch(faulty_server):
    """return_exceptions=False raises the error itself and cancels the rest."""
    faulty_server.queue(CHAT_PATH, Json({"error": {"message": "no"}}, 401))
    faulty_server.route(CHAT_PATH, Stall(20, Json({})))
    requests = [request(faulty_server) for _ in range(4)]

    with pytest.raises(errors.AuthenticationError):
        gather(requests, max_concurrency=4, return_exceptions=False)

    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)


def test_completion_order_when_it_is_asked_for(faulty_server):
    """preserve_order=False hands out what finishes first; as_completed too, while others run."""
    faulty_server.queue(CHAT_PATH, Stall(0.5, Json(completion_object("slow"))))
    requests = [request(faulty_server, "a"), request(faulty_server, "b", timeout=10)]

    async def main():
        async with scillm.Router() as router:
            both = await router.parallel_acompletions(requests, preserve_order=False)
            faulty_server.queue(CHAT_PATH, Stall(0.5, Json(completion_object("slow"))))
            streamed = [r async for r in router.parallel_as_completed(requests)]
        return both, streamed

    both, streamed = anyio.run(main)

    assert both[1].content == streamed[1].content == "slow"
    assert {r.index for r in both} == {r.index for r in streamed} == {0, 1}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_wait_for_the_next_result_that_is_cancelled_loses_none(faulty_server, backend):
    """Asking for results with a timeout, again and again, gives every one of them, and an end."""
    slow = Stall(0.15, Json(completion_object("late")))
    faulty_server.queue(CHAT_PATH, *[slow] * 6)

    async def main():
        found = []
        async with scillm.Router() as router:
            stream = router.parallel_as_completed([request(faulty_server)] * 6, concurrency=2)
            with anyio.fail_after(20):
                while True:
                    with anyio.move_on_after(0.02):
                        try:
                            found.append((await anext(stream)).index)
                        except StopAsyncIteration:
                            return found

    assert sorted(anyio.run(main, backend=backend)) == list(range(6))


def test_leaving_as_completed_early_cancels_the_rest(faulty_server):
    """A broken-off iteration leaves no request behind."""
    faulty_server.queue(CHAT_PATH, Json(completion_object("first")))
    faulty_server.route(CHAT_PATH, Stall(20, Json({})))

    async def main():
        router = scillm.Router()
        results = router.parallel_as_completed([request(faulty_server)] * 4, concurrency=4)
        async for _ in results:
            break
        await results.aclose()
        assert [r async for r in results] == []

    anyio.run(main)
    faulty_server.wait_until(lambda: faulty_server.open_connections <= 1)


def test_empty_and_invalid_answers_are_told_apart(faulty_server):
    """empty_content, invalid_json and json_valid are computed, not guessed."""
    tool = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    with_tool = completion_object("")
    with_tool["choices"][0]["message"]["tool_calls"] = [tool]
    for answer in (completion_object(" "), with_tool, completion_object("{oops"),
                   completion_object('{"a": 1}')):  # fmt: skip
        faulty_server.queue(CHAT_PATH, Json(answer))
    plain = request(faulty_server)
    wants_json = request(faulty_server, response_format={"type": "json_object"})

    results = gather([plain, plain, wants_json, wants_json], max_concurrency=1)

    assert [r.meta["error_type"] for r in results] == ["empty_content", "ok", "invalid_json", "ok"]
    assert [r.meta["json_valid"] for r in results] == [None, None, False, True]
    assert results[1].response.choices[0].message.tool_calls[0].function.name == "f"
    assert is_empty(None)


def test_checked_json_says_so_in_its_meta(faulty_server):
    """schema_mode, fallback_used and json_valid come from what was done, not from the request."""
    refusal = Json({"error": {"message": "json_schema is not supported"}}, 400)
    faulty_server.queue(CHAT_PATH, refusal, Json(completion_object('{"a": 1}')))
    schema = {"name": "s", "schema": {"type": "object", "required": ["a"]}}
    checked = request(faulty_server, response_mode="schema_first", json_schema=schema)

    one, plain = gather([checked, request(faulty_server)], max_concurrency=1)

    assert (one.meta["schema_mode"], one.meta["fallback_used"]) == (True, True)
    assert one.meta["json_valid"] is True
    assert (plain.meta["schema_mode"], plain.meta["fallback_used"]) == (False, False)


def test_a_timeout_is_called_that(faulty_server):
    """error_type says timeout."""
    faulty_server.route(CHAT_PATH, Stall(5, Json({})))

    (result,) = gather([request(faulty_server, timeout=0.2)])

    assert result.meta["error_type"] == "timeout"


@dataclasses.dataclass
class Row:
    model: str
    messages: list
    kwargs: dict | None = None


class Loose:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def test_requests_may_be_any_kind_of_record():
    """Mappings, attrs, dataclasses and plain objects; None means not given."""
    messages = [{"role": "user", "content": "x"}]
    for made in (Row("m", messages, {"seed": 1}), Loose(model="m", messages=messages, seed=1)):
        assert read_request(0, made) == {"model": "m", "messages": messages, "seed": 1}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"messages": [1]}, r"requests\[1\] has no model"),
        ({"model": "m"}, r"requests\[1\] has no messages"),
        (7, r"requests\[1\] has no model and no messages"),
        ({"model": "m", "messages": [1], "kwargs": 3}, r"requests\[1\]\.kwargs"),
    ],
)
def test_a_bad_request_is_named_by_index_before_anything_is_sent(faulty_server, bad, said):
    """Nothing is sent when one request cannot be."""
    with pytest.raises(errors.UsageError, match=said):
        gather([request(faulty_server), bad])

    assert faulty_server.requests == []


def test_an_empty_batch_is_empty():
    """No requests, no results."""
    assert gather([]) == []


def test_deterministic_mode_fixes_sampling_and_width(faulty_server):
    """temperature 0, top_p 1, given penalties 0, one at a time, one warning."""
    router = scillm.Router(deterministic=True)
    requests = [request(faulty_server, temperature=0.9, presence_penalty=1) for _ in range(4)]

    with pytest.warns(UserWarning, match="temperature, presence_penalty"):
        results = gather(requests, router, max_concurrency=4)

    assert faulty_server.connections == 1
    for sent in (r.json for r in faulty_server.requests):
        assert (sent["temperature"], sent["top_p"], sent["presence_penalty"]) == (0, 1, 0)
        assert "frequency_penalty" not in sent
    assert all(r.meta["deterministic"] is True for r in results)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        router.completion(**request(faulty_server, temperature=0.9))


@given(
    st.dictionaries(
        st.sampled_from(["temperature", "top_p", "presence_penalty", "x"]), st.integers()
    )
)
def test_made_deterministic_names_exactly_what_it_changes(params):
    """The warning is neither silent nor wrong."""
    fixed, changed = made_deterministic(params)

    assert set(changed) == {name for name, value in params.items() if fixed[name] != value}
    assert fixed["temperature"] == 0
    assert fixed["top_p"] == 1
    assert json.dumps(fixed)


@pytest.mark.parametrize("width", [0, -1, True, "4"])
def test_an_impossible_width_is_refused(width):
    """Unbounded is not on offer."""
    with pytest.raises(errors.UsageError, match="max_concurrency"):
        gather([{"model": "echo/x", "messages": [{}]}], max_concurrency=width, concurrency=width)
