"""The mini-agent's server, asked by the openai SDK and by clients of the earlier one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import TypeAdapter
from scillm_codex.agent.legacy import BACKENDS, FIELDS
from support.faulty import CHAT_PATH, FaultyServer, Json, completion_object
from support.mini_agent import mini_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
MESSAGES: Any = [{"role": "user", "content": "Six times seven?"}]


def says(text: str | None, code: str | None = None) -> Json:
    reply = completion_object(text or "", model="scripted", usage=USAGE)
    message = dict(reply["choices"][0]["message"])
    if code is not None:
        function = {"name": "exec_python", "arguments": json.dumps({"code": code})}
        message["tool_calls"] = [{"id": "call_0", "type": "function", "function": function}]
    reply["choices"] = [{**reply["choices"][0], "message": message}]
    return Json(reply)


def tool_list(_request: Any) -> Json:
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    return Json([{"type": "function", "function": {"name": "double", "parameters": parameters}}])


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyServer]:
    """The scripted model, and a tool service, behind one HTTP server."""
    with FaultyServer() as server:
        server.route("/tools", tool_list)
        server.route("/invoke", Json({"ok": True, "result": "84"}))
        yield server


@pytest.fixture(scope="module")
def base(upstream: FaultyServer) -> Iterator[str]:
    """The mini-agent's server on the scripted model."""
    with mini_agent(upstream, tools=["python"], others=["other"], bases=[upstream.root_url]) as url:
        yield url


@pytest.fixture
def sdk(base: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_openai_sdk_gets_an_answer_with_usage(
    sdk: openai.OpenAI, upstream: FaultyServer
) -> None:
    """A chat call runs the agent, tools and all; the answer is one that OpenAI's types accept."""
    upstream.queue(CHAT_PATH, says(None, "print(6 * 7)"), says("It is 42."))
    raw = sdk.chat.completions.with_raw_response.create(
        model="mini-agent", messages=MESSAGES, temperature=0
    )
    answer = TypeAdapter(ChatCompletion).validate_python(json.loads(raw.content))

    assert answer.choices[0].message.content == "It is 42."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 30
    assert answer.model == "mini-agent"


def test_the_openai_sdk_gets_a_stream(sdk: openai.OpenAI, upstream: FaultyServer) -> None:
    """A streamed call gives the same answer in pieces, one finish and the usage."""
    upstream.queue(CHAT_PATH, says(None, "print(6 * 7)"), says("It is 42."))
    chunks = list(
        sdk.chat.completions.create(
            model="other", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]

    assert text == "It is 42."
    assert ends == ["stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 30


def test_models_and_health_are_told(sdk: openai.OpenAI, base: str) -> None:
    """The server lists what may be named, and says that its tools can be opened."""
    names = [model.id for model in sdk.models.list()]
    ready = httpx.get(f"{base}/ready", timeout=20)

    assert names == ["mini-agent", "other"]
    assert ready.status_code == 200
    assert ready.json()["tools"] == ["exec_python"]
    assert httpx.get(f"{base}/healthz").json()["ok"] is True
    assert "/agent/run" in httpx.get(f"{base}/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"model": "unheard-of"}, 404),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, 400),
        ({"n": 2}, 400),
        ({"messages": []}, 400),
    ],
)
def test_wrong_calls_are_refused_in_openais_words(base: str, more: Any, status: int) -> None:
    """A call that cannot be answered gets its status and an error object."""
    body = {"model": "mini-agent", "messages": MESSAGES, **more}
    reply = httpx.post(f"{base}/v1/chat/completions", json=body)

    assert reply.status_code == status
    assert reply.json()["error"]["message"]


def test_a_client_cannot_add_to_what_the_agent_may_touch(base: str, upstream: FaultyServer) -> None:
    """Parameters that would open tools in one process are only the model's words over HTTP."""
    upstream.queue(CHAT_PATH, says("ok"))
    more = {"commands": ["cat /etc/passwd"], "mcp_servers": ["sh -c true"], "work_folder": "/"}
    body = {"model": "mini-agent", "messages": MESSAGES, **more}
    reply = httpx.post(f"{base}/v1/chat/completions", json=body)
    offered = upstream.requests[-1].json["tools"]

    assert reply.status_code == 200
    assert [tool["function"]["name"] for tool in offered] == ["exec_python"]


def agent_run(base: str, **fields: Any) -> httpx.Response:
    return httpx.post(f"{base}/agent/run", json={"messages": MESSAGES, **fields}, timeout=30)


def test_the_older_route_tells_the_whole_run(base: str, upstream: FaultyServer) -> None:
    """`/agent/run` with its documented fields gives answer, messages, metrics and tool calls."""
    upstream.queue(CHAT_PATH, says(None, "print(6 * 7)"), says("42"))
    told = agent_run(
        base, model="scripted", tool_backend="local", use_tools=True, max_iterations=3,
        max_total_seconds=20, enable_repair=True,
    ).json()  # fmt: skip

    assert (told["ok"], told["final_answer"], told["stopped_reason"]) == (True, "42", "success")
    assert told["metrics"]["iterations"] == 2
    assert told["metrics"]["used_model"] == "scripted"
    assert told["last_tool_invocation"]["tool_name"] == "exec_python"
    assert told["last_tool_invocation"]["result"] == "42"
    assert [m["role"] for m in told["messages"]] == ["user", "assistant", "tool", "assistant"]


def test_without_use_tools_no_tool_is_offered(base: str, upstream: FaultyServer) -> None:
    """A run that asks for no tools is one question; it is not answered from a script of ours."""
    upstream.queue(CHAT_PATH, says("really asked"))
    told = agent_run(base).json()

    assert told["final_answer"] == "really asked"
    assert "tools" not in upstream.requests[-1].json


def test_a_code_block_is_run_by_its_own_language(base: str, upstream: FaultyServer) -> None:
    """With `auto_run_code_on_code_block` a fenced program is run and the model sees the output."""
    upstream.queue(CHAT_PATH, says("```python\nprint(6 * 7)\n```"), says("So it is 42."))
    told = agent_run(base, auto_run_code_on_code_block=True).json()

    assert told["final_answer"] == "So it is 42."
    assert told["last_tool_invocation"]["result"] == "42"


def test_a_tool_service_is_asked_once_per_call(base: str, upstream: FaultyServer) -> None:
    """Tools over plain HTTP are listed, called exactly once, and their result reaches the model."""
    call = says(None, "")
    message = call.obj["choices"][0]["message"]
    message["tool_calls"][0]["function"] = {"name": "double", "arguments": '{"n": 42}'}
    upstream.queue(CHAT_PATH, call, says("84"))
    told = agent_run(base, tool_backend="http", tool_http_base_url=upstream.root_url).json()
    invoked = [r.json for r in upstream.requests if r.path == "/invoke"]

    assert told["final_answer"] == "84"
    assert invoked == [{"name": "double", "arguments": {"n": 42}}]


@pytest.mark.parametrize("row", [{"function": {}}, 7, {"name": "f", "parameters": [1]}], ids=str)
def test_a_tool_that_is_none_is_not_left_out_silently(
    base: str, upstream: FaultyServer, row: Any
) -> None:
    """A tool service whose list cannot be read is an error that shows what came."""
    upstream.queue("/tools", Json([row]))
    reply = agent_run(base, tool_backend="http", tool_http_base_url=upstream.root_url)

    assert reply.status_code == 500
    assert "cannot be used" in reply.json()["error"]["message"]


def test_a_budget_is_told_by_its_older_name(base: str, upstream: FaultyServer) -> None:
    """A run out of time is not `ok`: its reason is the older word, and which budget it was."""
    upstream.queue(CHAT_PATH, says(None, "while True: pass"))
    told = agent_run(base, use_tools=True, max_total_seconds=0.7).json()

    assert (told["ok"], told["final_answer"]) == (False, None)
    assert (told["stopped_reason"], told["stopped_by"]) == ("budget", "max_seconds")


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_backend": "docker"},
        {"tool_backend": "http"},
        {"tool_backend": "http", "tool_http_base_url": "http://169.254.169.254"},
        {"model": "unheard-of"},
        {"max_iterations": 0},
        {"max_total_seconds": -1},
        {"use_tools": "yes"},
        {"use_toolz": True},
        {"messages": []},
        {"messages": ["hi"]},
        {"tool_http_headers": {"a": 1}},
    ],
    ids=str,
)
def test_wrong_older_calls_are_refused(base: str, fields: Any) -> None:
    """What `/agent/run` cannot do it says, with the field; it is not sent where clients please."""
    reply = agent_run(base, **fields)

    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


def test_what_is_no_object_is_refused(base: str) -> None:
    """A body that is JSON, but no object, is said to be none."""
    reply = httpx.post(f"{base}/agent/run", json=[1])

    assert reply.status_code == 400
    assert "must be a JSON object" in reply.json()["error"]["message"]


def test_every_older_field_is_known() -> None:
    """The fields that were documented are all still there."""
    documented = {
        "messages", "model", "tool_backend", "tool_http_base_url", "tool_http_headers",
        "use_tools", "auto_run_code_on_code_block", "max_iterations", "max_total_seconds",
        "escalate_on_budget_exceeded", "escalate_model", "enable_repair",
    }  # fmt: skip

    assert documented <= set(FIELDS)
    assert {"local", "http", "echo"} == set(BACKENDS)
