"""`completion` against a real HTTP server on loopback, well-behaved and otherwise."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import scillm
from scillm import errors
from support.faulty import (
    CHAT_PATH,
    FaultyServer,
    Html,
    Json,
    RefuseAfterAccept,
    Reply,
    ResetMidBody,
    Stall,
    Truncated,
    WrongLength,
    completion_object,
)

KEY = "sk-loopback-0123456789"
MESSAGES = [{"role": "user", "content": "hello wörld"}]


def ask(server, **more):
    return scillm.completion(
        **{
            "model": "openai/m",
            "api_base": server.base_url,
            "api_key": KEY,
            "messages": MESSAGES,
            **more,
        }
    )


def body_of(server):
    return server.requests[-1].json


def test_a_real_exchange_is_openai_shaped():
    """One request with the bare id and the key; one answer by attribute and by key."""
    with FaultyServer(api_key=KEY) as server:
        answer = ask(server)

        assert answer.choices[0].message.content == "echo:hello wörld"
        assert answer["choices"][0]["message"]["content"] == "echo:hello wörld"
        assert answer.usage.total_tokens == answer["usage"]["total_tokens"] > 0
        assert body_of(server) == {"model": "m", "messages": MESSAGES}
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert answer.scillm_meta["requested_model"] == "openai/m"
        assert answer.scillm_meta["resolved_model"] == "m"
        assert answer.scillm_meta["served_model"] == answer.model
        assert [a["outcome"] for a in answer.scillm_meta["attempts"]] == ["ok"]


def test_openai_like_takes_ids_with_slashes_and_no_key(faulty_server):
    """A local server needs no key, and `org/model` stays whole."""
    ask(faulty_server, model="org/model", api_key=None, custom_llm_provider="openai_like")

    assert body_of(faulty_server)["model"] == "org/model"
    assert "authorization" not in faulty_server.requests[0].headers


def test_parameters_tools_and_multimodal_content_pass_untouched(faulty_server):
    """What the caller gives is what the server gets, and the caller's objects do not change."""
    content = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    given = {
        "messages": [{"role": "user", "content": content}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "response_format": {"type": "json_object"},
        "temperature": 0.5,
        "chat_template_kwargs": {"enable_thinking": False},
        "extra_body": {"odd": None},
    }
    before = copy.deepcopy(given)
    faulty_server.queue(CHAT_PATH, Reply(200, {}, WHOLE))

    ask(faulty_server, **given)

    sent = body_of(faulty_server)
    assert given == before
    assert {key: sent[key] for key in ("messages", "tools", "response_format", "temperature")} == {
        key: given[key] for key in ("messages", "tools", "response_format", "temperature")
    }
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}
    assert sent["odd"] is None


def test_extra_headers_go_out_and_win(faulty_server):
    """Gateways that want another header than the bearer get it."""
    ask(faulty_server, extra_headers={"X-Api-Key": "abcd", "Authorization": "Basic zzz"})

    headers = faulty_server.requests[0].headers
    assert headers["x-api-key"] == "abcd"
    assert headers["authorization"] == "Basic zzz"


def test_an_unknown_sdk_argument_sends_nothing(faulty_server):
    """A refused argument never reaches the wire."""
    with pytest.raises(errors.UnsupportedParamError, match="retry_harder"):
        ask(faulty_server, retry_harder=True)

    assert faulty_server.requests == []


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan")])
def test_a_parameter_that_is_no_json_is_named(faulty_server, value):
    """The error names the parameter, and nothing is sent."""
    with pytest.raises(errors.UnsupportedParamError, match="'stop'") as caught:
        ask(faulty_server, stop=value)

    assert caught.value.param == "stop"
    assert faulty_server.requests == []


@pytest.mark.parametrize("key", ["'sk-quoted'", "CHUTES_API_KEY=abc", "sk-with newline\n", "sk-ü"])
def test_a_key_that_cannot_be_right_is_refused_unseen(faulty_server, key):
    """A quoted, padded or pasted key is caught here, and not printed."""
    with pytest.raises(errors.UsageError, match="api_key") as caught:
        ask(faulty_server, api_key=key)

    assert key not in str(caught.value)
    assert faulty_server.requests == []


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (422, errors.UnprocessableEntityError),
        (429, errors.RateLimitError),
        (500, errors.InternalServerError),
        (503, errors.CapacityError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_error_statuses_map_to_the_tree_with_their_facts(faulty_server, status, cls, stream):
    """Status, wait, body, provider, model and attempts are on the error; the key is not."""
    complaint = {"error": {"message": f"no, {KEY} is bad", "type": "t"}}
    faulty_server.queue(CHAT_PATH, Json(complaint, status, {"retry-after": "7"}))

    with pytest.raises(cls) as caught:
        ask(faulty_server, stream=stream)

    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is cls
    assert (error.status_code, error.retry_after) == (status, 7.0)
    assert (error.provider, error.model) == ("openai", "m")
    assert "is bad" in error.body
    assert [a.status_code for a in error.attempts] == [status]
    assert KEY not in f"{error}{error!r}{error.__dict__}"


WHOLE = json.dumps(completion_object("whole")).encode()


@pytest.mark.parametrize(
    ("behaviour", "cls", "said"),
    [
        (Html(status=502), errors.InternalServerError, "an HTML page"),
        (Html(status=200), errors.MalformedReplyError, "an HTML page"),
        (Truncated(completion_object("x")), errors.MalformedReplyError, "JSON"),
        (Json({"hello": 1}), errors.MalformedReplyError, "choices"),
        (Json({"error": {"code": 429, "message": "slow"}}), errors.RateLimitError, "slow"),
        (Reply(200, {}, b"\xff\xfe"), errors.MalformedReplyError, "JSON"),
        (Reply(200, {}, b""), errors.MalformedReplyError, "JSON"),
        (Reply(307, {"location": "/elsewhere"}, b""), errors.ProviderError, "/elsewhere"),
        (WrongLength(WHOLE), errors.APIConnectionError, "broke"),
        (ResetMidBody(WHOLE), errors.APIConnectionError, "broke"),
        (RefuseAfterAccept(), errors.APIConnectionError, "broke"),
        (Stall(5, Json({})), errors.APITimeoutError, "0.3 s"),
        (Stall(5, Json({"choices": [], "pad": "x" * 99}), 20), errors.APITimeoutError, "0.3 s"),
    ],
)  # fmt: skip
def test_every_kind_of_bad_reply_is_its_own_error(faulty_server, behaviour, cls, said):
    """HTML, cut JSON, wrong lengths, resets and silences are told apart, with the place."""
    faulty_server.queue(CHAT_PATH, behaviour)

    with pytest.raises(cls, match=said) as caught:
        ask(faulty_server, timeout=0.3 if isinstance(behaviour, Stall) else 10)

    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is cls
    assert (error.provider, error.model) == ("openai", "m")
    assert KEY not in f"{error}{error.__dict__}"


def test_a_refused_connection_is_a_connection_error():
    """Nobody listens: the error names the address and is retryable."""
    with FaultyServer() as server:
        base = server.base_url

    with pytest.raises(errors.APIConnectionError, match="No connection could be made") as caught:
        scillm.completion("m", MESSAGES, api_base=base)

    assert caught.value.retryable
    assert caught.value.status_code is None


def test_a_compressed_reply_is_read(faulty_server):
    """gzip is asked for and understood."""
    faulty_server.queue(CHAT_PATH, Reply(200, {}, WHOLE, gzip=True))

    assert ask(faulty_server).text == "whole"


def test_connections_are_reused_one_after_the_other(faulty_server):
    """Ten calls in sequence need one connection."""
    for _ in range(10):
        ask(faulty_server)

    assert faulty_server.connections == 1


def test_a_connection_the_server_closed_is_not_used_again(faulty_server):
    """A server that closes after each reply costs a connection per call, and no error."""
    faulty_server.route(CHAT_PATH, Reply(200, {}, WHOLE, keep_alive=False))

    for _ in range(3):
        assert ask(faulty_server).choices

    assert faulty_server.connections == 3


@pytest.mark.parametrize("base", ["ftp://x/v1", "localhost:80", "http://", "http://[::1"])
def test_a_base_that_is_no_url_is_refused(base):
    """The message names api_base."""
    with pytest.raises(errors.UsageError, match=r"api_base|URL"):
        scillm.completion("m", MESSAGES, api_base=base)


def test_the_key_of_the_settings_goes_to_its_own_host_only(faulty_server):
    """OPENAI_API_KEY is never sent to a server that was named by api_base."""
    settings = {
        "openai_api_base": faulty_server.base_url,
        "openai_api_key": KEY,
        "timeout_s": 10.0,
    }
    with FaultyServer() as other, scillm.Router(settings=settings) as router:
        router.completion("openai/m", MESSAGES)
        router.completion("openai/m", MESSAGES, api_base=other.base_url)

        assert faulty_server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert "authorization" not in other.requests[0].headers


def test_openai_like_without_a_base_says_what_is_missing():
    """The error tells which argument to pass."""
    with pytest.raises(errors.UsageError, match="api_base="):
        scillm.completion("m", MESSAGES, custom_llm_provider="openai_like")


def test_without_a_model_the_setting_is_named():
    """No model anywhere: the error names argument and variable."""
    with pytest.raises(errors.UsageError, match="SCILLM_DEFAULT_MODEL"):
        scillm.Router(settings={}).completion(messages=MESSAGES)
