"""What is said to a Router, a row, a call or a fallback acts, or is refused; nothing is dropped."""

from __future__ import annotations

import time
import warnings

import pytest
import scillm
from scillm import errors
from scillm.plugins.settings import load
from support.faulty import CHAT_PATH, FaultyServer, Json, Stall, completion_object

MESSAGES = [{"role": "user", "content": "hi"}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400}}


def row(server, group="g", **more):
    return {
        "model_name": group,
        "litellm_params": {"model": "openai/m", "api_base": server.base_url, **more},
    }


def broken():
    return Json({"error": {"message": "broken"}}, 500)


@pytest.fixture
def two():
    with FaultyServer() as first, FaultyServer() as second:
        yield first, second


# -- rows and constructors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        {"on_attempt": print},
        {"fallbacks": ["x"]},
        {"max_fallbacks": 1},
        {"disable_fallbacks": True},
        {"repair_rounds": 1, "response_format": {"type": "json_object"}},
        {"response_format": dict[str, int]},
    ],
)
def test_a_row_with_words_that_would_have_no_effect_is_refused(words):
    """A row cannot carry what belongs to a call or to the Router."""
    rows = [{"model_name": "g", "litellm_params": {"model": "echo/m", **words}}]

    with pytest.raises(errors.UsageError, match=r"model_list\[0\]"):
        scillm.Router(rows)


@pytest.mark.parametrize("model", ["", "  ", None, "openai/", "openai/ "])
def test_a_row_without_a_model_id_is_refused(model):
    """A variable that is not set shows when the Router is made, also behind a provider's name."""
    with pytest.raises(errors.UsageError, match="environment variable"):
        scillm.Router([{"model_name": "g", "litellm_params": {"model": model}}])


@pytest.mark.parametrize(
    "name", ["client_ttl", "default_litellm_params", "polling_interval", "guardrail_list"]
)
def test_litellms_other_arguments_are_refused_with_a_reason(name):
    """The error says in one line what to do instead, not which names there are."""
    with pytest.raises(errors.UsageError, match=name) as caught:
        scillm.Router(**{name: 1})

    assert "it knows" not in str(caught.value)


# -- calls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["order", "weight", "rpm", "cooldown_time", "preserve_order", "deterministic", "api_type"],
)
def test_an_sdks_words_never_reach_a_provider(faulty_server, name):
    """Arguments of rows, of the Router and of other SDKs are refused before anything is sent."""
    with pytest.raises(errors.UnsupportedParamError, match=name):
        scillm.completion("openai/m", MESSAGES, api_base=faulty_server.base_url, **{name: 1})

    assert faulty_server.requests == []


def test_a_callback_that_nobody_would_await_is_refused(faulty_server):
    """An async callback is an error before anything is sent, not a warning nobody sees."""

    async def told(_what):
        raise AssertionError("it was run")

    for name in ("on_attempt", "on_success", "on_giveup"):
        with pytest.raises(errors.UsageError, match=name):
            scillm.completion("openai/m", MESSAGES, api_base=faulty_server.base_url, **{name: told})

    assert faulty_server.requests == []


def test_max_retries_and_retry_after_of_the_first_documents_work(faulty_server):
    """`max_retries=3, retry_after=…` retries and waits at least that long in between."""
    faulty_server.queue(CHAT_PATH, broken())
    waits = []

    answer = scillm.completion(
        "openai/m", MESSAGES, api_base=faulty_server.base_url, max_retries=3, retry_after=0.2,
        retry_base_s=0.0, timeout=45, on_attempt=lambda told: waits.append(told["next_sleep_s"]),
    )  # fmt: skip

    assert answer.text == "echo:hi"
    assert waits == [0.2]


def test_retries_may_be_set_by_litellms_variables(faulty_server):
    """LITELLM_MAX_RETRIES, LITELLM_RETRY_AFTER and LITELLM_TIMEOUT count where a call is silent."""
    faulty_server.queue(CHAT_PATH, broken(), broken())
    settings = load(
        {"LITELLM_MAX_RETRIES": "2", "LITELLM_RETRY_AFTER": "0.1", "LITELLM_TIMEOUT": "45"}
    )
    started = time.monotonic()

    with scillm.Router(settings={**settings, "retry_base_s": 0.0}) as router:
        answer = router.completion("openai/m", MESSAGES, api_base=faulty_server.base_url)

    assert answer.text == "echo:hi"
    assert time.monotonic() - started >= 0.2
    assert settings["timeout_s"] == 45.0


def test_a_stream_has_a_timeout_of_its_own(faulty_server):
    """`stream_timeout` bounds the silence of streams, wherever it is given; a call's wins."""
    faulty_server.route(CHAT_PATH, Stall(1.5, Json(completion_object("late"))))
    with scillm.Router([row(faulty_server, stream_timeout=0.2)], timeout=30) as router:
        for own in ({}, {"timeout": 0.1}, {"stream_timeout": 0.1, "timeout": 20}):
            with pytest.raises(errors.APITimeoutError):
                router.completion("g", MESSAGES, stream=True, **own)
        whole = router.completion("g", MESSAGES)

    assert whole.text == "late"


def test_json_may_be_asked_for_by_its_mime_type(faulty_server):
    """`response_mime_type="application/json"` is response_format json_object."""
    faulty_server.queue(CHAT_PATH, Json(completion_object('```json\n{"ok": true}\n```')))

    answer = scillm.completion(
        "openai/m", MESSAGES, api_base=faulty_server.base_url,
        response_mime_type="application/json", auto_json_sanitize=True,
    )  # fmt: skip

    assert answer.text == '{"ok": true}'
    assert faulty_server.requests[0].json["response_format"] == {"type": "json_object"}
    assert "response_mime_type" not in faulty_server.requests[0].json


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({"response_mime_type": "text/plain"}, "response_mime_type must be"),
        ({"retry_after": -1, "retry_enabled": True}, "retry_after must be"),
        ({"stream_timeout": 0}, "stream_timeout must be"),
    ],
)
def test_words_that_cannot_be_used_are_refused_by_their_own_name(words, wanted):
    """The error names the argument as it was written."""
    with pytest.raises(errors.UsageError, match=wanted):
        scillm.completion("echo/m", MESSAGES, **words)


# -- fallbacks -------------------------------------------------------------------------------------


def test_all_that_a_fallback_changes_is_changed(two):
    """Headers, timeout and parameters of a fallback go with its request."""
    first, second = two
    first.queue(CHAT_PATH, broken())
    second.queue(CHAT_PATH, Stall(5.0, Json(completion_object("late"))))
    to = {"model": "b", "extra_headers": {"X-Way": "2"}, "timeout": 0.2, "temperature": 0.5}

    with (
        scillm.Router([row(first, "a"), row(second, "b")]) as router,
        pytest.raises(errors.APITimeoutError),
    ):
        router.completion("a", MESSAGES, fallbacks=[to])

    assert second.requests[0].headers["x-way"] == "2"
    assert second.requests[0].json["temperature"] == 0.5


@pytest.mark.parametrize("change", [{"num_retries": 3}, {"stream": True}, {"budget_usd": 1}])
def test_a_fallback_that_cannot_change_something_is_refused_before_anything_is_sent(
    faulty_server, change
):
    """Retries, streaming and budgets hold for a call with all its fallbacks."""
    with (
        scillm.Router([row(faulty_server, "a"), row(faulty_server, "b", user="b")]) as router,
        pytest.raises(errors.UsageError, match="cannot change"),
    ):
        router.completion("a", MESSAGES, fallbacks=[{"model": "b", **change}])
    with pytest.raises(errors.UsageError, match="cannot change"):
        scillm.Router([row(faulty_server, "a")], fallbacks=[{"a": [{"model": "b", **change}]}])

    assert faulty_server.requests == []


def test_a_fallback_cannot_smuggle_images_past_the_policy(faulty_server):
    """Messages that a fallback brings keep the image policy, too."""
    other = [{"role": "user", "content": [PICTURE]}]
    with (
        scillm.Router([row(faulty_server)], image_policy={"max_each_bytes": 100}) as router,
        pytest.raises(errors.ImageRejectedError),
    ):
        router.completion("g", MESSAGES, fallbacks=[{"model": "openai/x", "messages": other}])

    assert faulty_server.requests == []


def test_fallbacks_of_fallbacks_are_followed(two):
    """a falls back to b and b to c: c answers, each group is asked once, and cycles end."""
    first, second = two
    first.route(CHAT_PATH, broken())
    rows = [row(first, "a"), row(first, "b", user="b"), row(second, "c")]

    with scillm.Router(rows, fallbacks=[{"a": ["b"]}, {"b": ["a", "c"]}]) as router:
        answer = router.completion("a", MESSAGES)
    with (
        scillm.Router(rows[:2], fallbacks=[{"a": ["b"]}, {"b": ["a"]}]) as router,
        pytest.raises(errors.InternalServerError),
    ):
        router.completion("a", MESSAGES)

    assert answer.additional_kwargs["router"]["fallbacks"] == 2
    assert len(first.requests) == 4
    assert len(second.requests) == 1


# -- deterministic mode ----------------------------------------------------------------------------


def test_deterministic_mode_has_the_last_word(two):
    """What a row or a fallback says about sampling is overridden as well, with one warning."""
    first, second = two
    first.route(CHAT_PATH, broken())
    rows = [row(first, "a"), row(second, "b", temperature=0.9, presence_penalty=0.5)]
    to = [{"model": "b", "top_p": 0.1}]

    with (
        scillm.Router(rows, deterministic=True) as router,
        warnings.catch_warnings(record=True) as said,
    ):
        warnings.simplefilter("always")
        for _ in range(2):
            router.completion("a", MESSAGES, fallbacks=to)

    sent = second.requests[0].json
    assert (sent["temperature"], sent["top_p"], sent["presence_penalty"]) == (0, 1, 0)
    assert len([one for one in said if "Deterministic" in str(one.message)]) == 1


# -- budgets and defaults of the first documents ---------------------------------------------------


def test_a_routers_budget_can_be_set_later(faulty_server):
    """`router.set_budget(…)` bounds that Router alone, from now on, until it is taken away."""
    told = []
    target = {"model": "openai/m", "messages": MESSAGES, "api_base": faulty_server.base_url}
    with scillm.Router() as router:
        router.completion(**target)
        router.set_budget(max_requests=1, on_exhaust=lambda: told.append("used up"))
        router.completion(**target)
        with pytest.raises(errors.BudgetExceededError):
            router.completion(**target)
        router.set_budget()
        router.completion(**target)

    assert told == ["used up"]
    assert len(faulty_server.requests) == 3


def test_the_default_model_can_be_asked_for(monkeypatch):
    """`Router.resolve_default_model()` is the model of calls that name none."""
    monkeypatch.setenv("LITELLM_MODEL", "echo/of-litellm")
    assert scillm.Router.resolve_default_model() == "echo/of-litellm"

    monkeypatch.setenv("SCILLM_DEFAULT_MODEL", "echo/own")

    assert scillm.Router.resolve_default_model() == "echo/own"
