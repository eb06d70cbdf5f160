"""SciLLM against a real model behind a real server: llama.cpp with a tiny model of known words."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import scillm
from support.tinymodel import GREEDY_TEXT, GREEDY_TOKENS

MESSAGES = [{"role": "user", "content": "hi"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "ok": {"type": "boolean"},
        "score": {"type": "number"},
        "items": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["ok", "score", "items"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


@pytest.fixture
def target(tiny_model_url: str) -> dict[str, Any]:
    return {
        "model": "openai/tiny",
        "api_base": tiny_model_url,
        "api_key": "x",
        "temperature": 0,
        "timeout": 30.0,
    }


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def test_an_answer_reads_by_attribute_and_by_key(target: dict[str, Any]) -> None:
    """`resp.choices[0].message.content` and `resp["choices"][0]["message"]["content"]` agree."""
    reply = scillm.completion(messages=MESSAGES, **target)

    assert reply.choices[0].message.content == GREEDY_TEXT
    assert reply["choices"][0]["message"]["content"] == GREEDY_TEXT
    assert reply.text == GREEDY_TEXT
    assert reply.choices[0].finish_reason == "stop"


def test_usage_is_the_servers_own_count(target: dict[str, Any]) -> None:
    """Tokens are what the server counted."""
    usage = scillm.completion(messages=MESSAGES, **target).usage

    assert usage is not None
    assert usage.completion_tokens == GREEDY_TOKENS
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_the_openai_client_and_scillm_agree(tiny_model_url: str, target: dict[str, Any]) -> None:
    """Code that moves from the openai client reads the same fields with the same values."""
    with openai.OpenAI(base_url=tiny_model_url, api_key="x", max_retries=0) as client:
        theirs = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hi"}], temperature=0
        ).to_dict()

    ours = scillm.completion(messages=MESSAGES, **target).to_dict()

    measured = ("id", "created", "timings", "usage")
    assert {key: ours[key] for key in ours if key not in measured} == {
        key: theirs[key] for key in theirs if key not in measured
    }
    assert ours.keys() == theirs.keys()


def test_what_the_server_adds_is_kept(target: dict[str, Any]) -> None:
    """Fields that OpenAI's API does not know, such as llama.cpp's timings, can be read."""
    reply = scillm.completion(messages=MESSAGES, **target)

    assert reply.timings["predicted_n"] == GREEDY_TOKENS
    assert reply["timings"]["predicted_n"] == GREEDY_TOKENS


def test_the_token_limit_ends_an_answer(target: dict[str, Any]) -> None:
    """An answer cut by `max_tokens` says so."""
    reply = scillm.completion(messages=MESSAGES, max_tokens=4, **target)

    assert reply.choices[0].finish_reason == "length"
    assert GREEDY_TEXT.startswith(reply.text)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 4


def test_a_stream_joins_to_the_answer(target: dict[str, Any]) -> None:
    """Chunks arrive in pieces, join to the same text, and end with a reason."""
    chunks = list(scillm.completion(messages=MESSAGES, stream=True, **target))

    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == GREEDY_TEXT
    assert len([text for text in texts if text]) > 5
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


def test_a_stream_knows_its_usage_and_its_whole_answer(target: dict[str, Any]) -> None:
    """With include_usage the count comes last, and the stream can give the whole completion."""
    stream = scillm.completion(
        messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **target
    )

    chunks = list(stream)

    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == GREEDY_TOKENS
    assert stream.completion.text == GREEDY_TEXT
    assert stream.completion.usage == chunks[-1].usage


def test_a_stream_that_is_left_early_harms_no_later_call(target: dict[str, Any]) -> None:
    """Breaking out of a stream gives the connection up; the next call works."""
    with scillm.completion(messages=MESSAGES, stream=True, **target) as stream:
        first = next(stream)

    assert first.choices[0].finish_reason is None
    assert scillm.completion(messages=MESSAGES, **target).text == GREEDY_TEXT


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_async_calls_and_streams_work_on_every_event_loop(target: dict[str, Any]) -> None:
    """`acompletion` answers, whole and in chunks, under asyncio and under trio."""
    reply = await scillm.acompletion(messages=MESSAGES, **target)
    stream = await scillm.acompletion(messages=MESSAGES, stream=True, **target)
    texts = [c.choices[0].delta.content or "" async for c in stream if c.choices]

    assert reply.text == GREEDY_TEXT
    assert "".join(texts) == GREEDY_TEXT


def test_threads_may_call_at_the_same_time(target: dict[str, Any]) -> None:
    """Synchronous calls from many threads all get their answers."""
    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(scillm.completion, messages=MESSAGES, **target) for _ in range(12)]
        texts = [call.result(timeout=60).text for call in calls]

    assert texts == [GREEDY_TEXT] * 12


def test_a_json_schema_is_obeyed(target: dict[str, Any]) -> None:
    """`response_format` reaches the server, whose grammar makes the answer fit."""
    reply = scillm.completion(
        messages=MESSAGES,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        max_tokens=300,
        **target,
    )

    said = json.loads(reply.text)
    assert set(said) == {"ok", "score", "items"}
    assert isinstance(said["ok"], bool)
    assert isinstance(said["score"], (int, float))
    assert all(isinstance(item, int) for item in said["items"])
    assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_answered(target: dict[str, Any], *, stream: bool) -> None:
    """A tool call arrives whole, and the answer given back as a message is understood."""
    asked = scillm.completion(
        messages=MESSAGES, tools=[TOOL], tool_choice="required", stream=stream, **target
    )
    if isinstance(asked, scillm.CompletionStream):
        list(asked)
        asked = asked.completion

    assert asked.choices[0].finish_reason == "tool_calls"
    (call,) = asked.choices[0].message.tool_calls or []
    assert call.function is not None
    assert call.function.name == "add"
    arguments = json.loads(call.function.arguments)
    assert {type(arguments["a"]), type(arguments["b"])} == {int}
    result = {"role": "tool", "tool_call_id": call.id, "content": "42"}
    final = scillm.completion(
        messages=[*MESSAGES, asked.choices[0].message, result],  # type: ignore[list-item]
        tools=[TOOL],
        **target,
    )
    assert final.text == GREEDY_TEXT


def test_a_prompt_that_is_too_long_is_told_apart(target: dict[str, Any]) -> None:
    """The server's own refusal becomes the error that names the reason."""
    long = [{"role": "user", "content": "a b c d " * 40_000}]

    with pytest.raises(scillm.ContextWindowExceededError) as caught:
        scillm.completion(messages=long, **target)
    assert caught.value.status_code == 400
    assert not caught.value.retryable


def test_a_router_moves_on_from_a_dead_deployment(target: dict[str, Any]) -> None:
    """Where the first deployment refuses connections, the second one answers."""
    dead = {"model": "openai/tiny", "api_base": f"http://127.0.0.1:{closed_port()}/v1"}
    alive = {key: target[key] for key in ("model", "api_base", "api_key")}
    router = scillm.Router(
        model_list=[
            {"model_name": "chat", "litellm_params": dead | {"api_key": "x", "order": 1}},
            {"model_name": "chat", "litellm_params": alive | {"order": 2}},
        ]
    )

    reply = router.completion(model="chat", messages=MESSAGES, temperature=0)

    assert reply.text == GREEDY_TEXT
    attempts = reply.scillm_meta["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["APIConnectionError", "ok"]
