"""The Router: deployments in order, honest failover, embedding."""

from __future__ import annotations

import gc
import weakref

import anyio
import pytest
import scillm
from scillm import errors
from scillm.events import AttemptFailed, AttemptStarted, AttemptSucceeded
from scillm.plugins.groups import HOOKS, PROVIDERS
from scillm.plugins.hooks import Hooks
from scillm.plugins.registry import Registry
from support.faulty import CHAT_PATH, FaultyServer, Json, Sse, Stall, event

MESSAGES = [{"role": "user", "content": "hi"}]
KEY = "sk-router-0123456789"


def row(server, group="g", **more):
    return {
        "model_name": group,
        "litellm_params": {
            "model": "openai/m", "api_base": server.base_url, "api_key": KEY, **more,
        },
    }  # fmt: skip


def in_turn(*rows):
    """The rows with their place as order, so that they are asked as listed."""
    return [
        {**r, "litellm_params": {"order": n, **r["litellm_params"]}} for n, r in enumerate(rows)
    ]


@pytest.fixture
def two():
    with FaultyServer() as first, FaultyServer() as second:
        yield first, second


def failing(status):
    return Json({"error": {"message": f"status {status}"}}, status)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 408, 409, 429, 500, 503])
def test_a_deployment_that_fails_is_followed_by_the_next(two, status):
    """The second answers, and the answer tells what happened at the first."""
    first, second = two
    first.route(CHAT_PATH, failing(status))

    with scillm.Router(in_turn(row(first), row(second))) as router:
        answer = router.completion("g", MESSAGES)

    attempts = answer.scillm_meta["attempts"]
    assert [a["status_code"] for a in attempts] == [status, None]
    assert [a["outcome"] for a in attempts][1] == "ok"
    assert answer.additional_kwargs["router"]["model_group"] == "g"
    assert answer.additional_kwargs["router"]["attempts"] == 2
    assert answer.scillm_meta["requested_model"] == "g"


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_request_is_not_sent_elsewhere(two, status):
    """What one server calls wrong is not tried on all the others."""
    first, second = two
    first.route(CHAT_PATH, failing(status))

    with (
        scillm.Router(in_turn(row(first), row(second))) as router,
        pytest.raises(errors.BadRequestError),
    ):
        router.completion("g", MESSAGES)

    assert second.requests == []


def test_lower_order_is_asked_first(two):
    """`order` decides, not the place in the list."""
    first, second = two

    with scillm.Router([row(first, order=2), row(second, order=1)]) as router:
        router.completion("g", MESSAGES)

    assert (len(first.requests), len(second.requests)) == (0, 1)


def test_when_all_fail_the_last_error_carries_every_attempt(two):
    """Nothing about the way is lost."""
    first, second = two
    first.route(CHAT_PATH, failing(500))
    second.route(CHAT_PATH, failing(429))

    with (
        scillm.Router(in_turn(row(first), row(second))) as router,
        pytest.raises(errors.RateLimitError) as caught,
    ):
        router.completion("g", MESSAGES)

    assert [a.status_code for a in caught.value.attempts] == [500, 429]
    assert all(a.elapsed_s > 0 for a in caught.value.attempts)


def test_streams_fail_over_before_their_first_chunk(two):
    """An error in place of the first chunk moves on; the caller sees one clean stream."""
    first, second = two
    first.route(CHAT_PATH, Sse([event({"error": {"message": "overloaded", "code": 503}})]))

    with scillm.Router(in_turn(row(first), row(second))) as router:
        stream = router.completion("g", MESSAGES, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in stream)

    assert text == "echo:hi"
    assert [a["outcome"] for a in stream.completion.scillm_meta["attempts"]] == [
        "CapacityError",
        "ok",
    ]


def test_a_deployment_whose_plugin_is_missing_is_passed_over(two):
    """A missing provider package is that deployment's trouble only."""
    missing = {"model_name": "g", "litellm_params": {"model": "m", "custom_llm_provider": "nope"}}

    with scillm.Router(in_turn(missing, row(two[0]))) as router:
        answer = router.completion("g", MESSAGES)

    assert [a["outcome"] for a in answer.scillm_meta["attempts"]] == ["PluginNotFoundError", "ok"]


def test_an_unknown_group_lists_the_known_ones(two):
    """A typing mistake in the group's name is answered."""
    router = scillm.Router([row(two[0], group="chat/text")])

    with pytest.raises(errors.UnknownModelError, match="chat/text") as caught:
        router.completion("chat/txt", MESSAGES)

    assert caught.value.candidates == ("chat/text",)


def test_a_deployment_can_be_called_by_its_id(two):
    """model_info.id is a name too."""
    first, second = two
    rows = [row(first), {**row(second), "model_info": {"id": "mine"}}]

    with scillm.Router(rows) as router:
        answer = router.completion("mine", MESSAGES)

    assert answer.scillm_meta["endpoint"] == "mine"
    assert len(second.requests) == 1


def test_a_router_without_a_list_serves_ad_hoc_calls(faulty_server):
    """`Router().completion(model, api_base=…)` works like `completion`."""
    with scillm.Router() as router:
        answer = router.completion("openai/m", MESSAGES, api_base=faulty_server.base_url)

    assert answer.text == "echo:hi"
    assert "router" not in answer.additional_kwargs


@pytest.mark.parametrize("name", ["redis_url", "set_verbose", "anything_else"])
def test_constructor_arguments_without_effect_are_refused(name):
    """Nothing is accepted and then ignored."""
    with pytest.raises(errors.UsageError, match=name):
        scillm.Router([], **{name: 1})


def test_events_tell_the_whole_story_without_the_key(two):
    """A hook plugin hears every attempt of a call, in order, under one call id."""

    class Listener:
        def __init__(self):
            self.heard = []

        def scillm_event(self, event):
            self.heard.append(event)

    first, second = two
    first.route(CHAT_PATH, failing(503))
    listener = Listener()
    with scillm.Router(in_turn(row(first), row(second))) as router:
        router.registry.register(HOOKS, "listener", listener)
        router.completion("g", MESSAGES)

    kinds = [type(e) for e in listener.heard]
    assert kinds == [AttemptStarted, AttemptFailed, AttemptStarted, AttemptSucceeded]
    assert len({e.call_id for e in listener.heard}) == 1
    assert KEY not in repr(listener.heard)


def test_hooks_resolve_and_shape_what_is_sent(faulty_server):
    """Requested, resolved and served ids are three fields."""

    class Plugin:
        def scillm_resolve_model(self, model, endpoint):
            return {"short": "org/long-name"}.get(model)

        def scillm_shape_request(self, request):
            return {"seed": 7}

    with scillm.Router() as router:
        router.registry.register(HOOKS, "p", Plugin)
        answer = router.completion("openai/short", MESSAGES, api_base=faulty_server.base_url)

    assert faulty_server.requests[0].json["model"] == "org/long-name"
    assert faulty_server.requests[0].json["seed"] == 7
    assert answer.scillm_meta["requested_model"] == "openai/short"
    assert answer.scillm_meta["resolved_model"] == "org/long-name"


def test_providers_of_a_host_application_need_no_entry_point():
    """Embedding: a registered provider works in this Router only."""

    class Fixed:
        def __init__(self, endpoint, host):
            self.endpoint = endpoint

        async def complete(self, request, /):
            return scillm.Completion(model="fixed-1")

    router = scillm.Router(settings={})
    router.registry.register(PROVIDERS, "fixed", Fixed)

    assert router.completion("fixed/x", MESSAGES).scillm_meta["served_model"] == "fixed-1"
    with pytest.raises(errors.UnknownModelError):
        scillm.Router(settings={}).completion("fixed/x", MESSAGES)


def test_a_factory_with_the_wrong_signature_is_named():
    """A plugin author learns what a provider is built from."""

    class Wrong:
        async def complete(self, request, /):
            raise AssertionError

    router = scillm.Router(settings={})
    router.registry.register(PROVIDERS, "wrong", Wrong)

    with pytest.raises(errors.PluginLoadError, match=r"\(endpoint, host\)"):
        router.completion("wrong/x", MESSAGES)


def test_a_hundred_concurrent_calls_do_not_mix(faulty_server):
    """Every caller gets the answer to its own question."""

    async def one(number, answers):
        answer = await scillm.acompletion(
            "openai/m",
            [{"role": "user", "content": f"question {number}"}],
            api_base=faulty_server.base_url,
            extra_headers={"x-number": str(number)},
        )
        answers[number] = answer.text

    async def main():
        answers = {}
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number, answers)
        return answers

    answers = anyio.run(main)

    assert answers == {number: f"echo:question {number}" for number in range(100)}
    for request in faulty_server.requests:
        assert request.json["messages"][0]["content"].endswith(request.headers["x-number"])


def test_cancelling_a_call_closes_its_connection(faulty_server):
    """A caller that gives up leaves nothing open."""
    faulty_server.queue(CHAT_PATH, Stall(20, Json({})))

    async def main():
        with anyio.move_on_after(0.2):
            await scillm.acompletion("openai/m", MESSAGES, api_base=faulty_server.base_url)
        await anyio.to_thread.run_sync(
            faulty_server.wait_until, lambda: faulty_server.open_connections == 0
        )

    anyio.run(main)

    assert len(faulty_server.requests) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_core_runs_on_asyncio_and_trio(faulty_server, backend):
    """The event loop is the caller's choice."""

    async def main():
        async with scillm.Router() as router:
            return await router.acompletion("openai/m", MESSAGES, api_base=faulty_server.base_url)

    assert anyio.run(main, backend=backend).text == "echo:hi"
    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)


def test_an_event_loop_that_ends_leaves_no_connection_behind(faulty_server):
    """`anyio.run(acompletion …)` with no Router of one's own closes what it opened."""

    async def main():
        await scillm.acompletion("openai/m", MESSAGES, api_base=faulty_server.base_url)

    anyio.run(main)

    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)
    assert faulty_server.connections == 1


class Words(dict):
    """A message that can be seen to be forgotten."""


def test_an_answer_does_not_keep_its_question_alive(two):
    """A program that collects answers needs memory for answers only, looked at or not."""
    server = two[0]
    with scillm.Router([row(server)]) as router:
        question = [Words(role="user", content="hi")]
        asked = weakref.ref(question[0])
        answer = router.completion("g", question)
        del question
        gc.collect()

        assert asked() is None
        assert answer.scillm_meta["requested_model"] == "g"


class Kept:
    """A provider that holds something. Remembers what was built and what was closed."""

    built = 0
    closed = 0

    def __init__(self, endpoint, host):
        type(self).built += 1

    async def complete(self, request, /):
        return scillm.Completion(model=request.model)

    async def aclose(self):
        type(self).closed += 1


def test_the_provider_of_calls_that_name_their_own_is_kept_and_closed():
    """Calls to the same target share what it holds, and closing the Router lets go of it."""

    class Held(Kept):
        pass

    registry = Registry()
    registry.register(PROVIDERS, "held", Held)
    with scillm.Router(registry=registry) as router:
        for _ in range(3):
            router.completion("held/m", MESSAGES)

        assert (Held.built, Held.closed) == (1, 0)
    assert (Held.built, Held.closed) == (1, 1)


def test_calls_do_not_share_a_mocked_error():
    """Each call's error has the attempts of that call, whoever else was given the same mock."""
    given = errors.RateLimitError("no", status_code=429)
    raised = []
    with scillm.Router() as router:
        for _ in range(2):
            with pytest.raises(errors.RateLimitError, match="no") as one:
                router.completion("echo/m", MESSAGES, mock_response=given)
            raised.append(one.value)

    assert raised[0] is not raised[1]
    assert given.attempts == ()
    assert [len(error.attempts) for error in raised] == [1, 1]


def test_a_hook_that_stops_a_call_leaves_nothing_set_aside(two):
    """With strict plugins its error is raised; budget and load forget the call that never left."""

    class Broken:
        def scillm_event(self, event):
            raise ValueError("no more calls")

    registry = Registry()
    registry.register(HOOKS, "broken", Broken)
    hooks = Hooks(registry, strict=True)
    with scillm.Router([row(two[0])], registry=registry, hooks=hooks, budget={"requests": 5}) as r:
        with pytest.raises(ValueError, match="no more calls"):
            r.completion("g", MESSAGES)

        assert (r.spend().requests, r.spend().reserved_requests) == (0, 0)
        assert r._board.load.in_flight == [0]
    assert two[0].requests == []
