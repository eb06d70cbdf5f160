"""Every answer of our three servers fits OpenAI's description of it, and the server's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from scillm.models import ChatMessage, Choice, Completion, Function, ToolCall, Usage
from scillm_codex.responses.app import responses_app
from support.codex_service import CodexService
from support.codex_sidecar import codex_sidecar
from support.faulty import CHAT_PATH, FaultyServer, Json, completion_object
from support.mini_agent import mini_agent
from support.openai_schemas import misfits, misfits_of_served
from support.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scillm.records import ChatRequest

USER = {"role": "user", "content": "hi there"}
CHAT = "/v1/chat/completions"
WHOLE, CHUNK = "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {}}},
    }
    for name in ("my_a", "my_b")
]
SHAPE = {
    "type": "json_schema",
    "json_schema": {
        "name": "x",
        "schema": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}


def checked(base: str, path: str, body: Any = None, *, name: str, row: str = "") -> tuple[int, Any]:
    """Status and answer of a call that was held against both descriptions."""
    method = "get" if body is None else "post"
    with httpx.Client(base_url=base, timeout=60) as client:
        described = client.get("/openapi.json").json()
        reply = client.request(method, path, json=body)
    document = reply.json()
    served_misfits = misfits_of_served(
        document, described, method=method, path=row or path, status=reply.status_code
    )
    assert served_misfits == []
    assert misfits(document, name if reply.status_code == 200 else "ErrorResponse") == []
    return reply.status_code, document


def events(base: str, path: str, body: Any) -> list[Any]:
    with httpx.Client(base_url=base, timeout=60) as client:
        reply = client.post(path, json={**body, "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    told = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in told if line != "[DONE]"]


@pytest.fixture(scope="module")
def sidecar() -> Iterator[str]:
    with CodexService().running_here() as service, codex_sidecar(service) as url:
        yield url


BODIES: dict[str, Any] = {
    "plain": {"model": "fake-plain"},
    "tools": {"model": "fake-tools", "tools": TOOLS},
    "thoughts": {"model": "fake-reason"},
    "schema": {"model": "fake-plain", "response_format": SHAPE},
    "several": {"model": "fake-plain", "n": 2, "stop": " there"},
}


@pytest.mark.parametrize("kind", BODIES)
def test_the_sidecars_answers_fit(sidecar: str, kind: str) -> None:
    """Plain, with tool calls, thoughts, a schema and several choices; whole and in pieces."""
    body = {"messages": [USER], **BODIES[kind]}
    status, _ = checked(sidecar, CHAT, body, name=WHOLE)
    chunks = events(sidecar, CHAT, {**body, "stream_options": {"include_usage": True}})

    assert status == 200
    assert [misfits(chunk, CHUNK) for chunk in chunks] == [[]] * len(chunks)
    # What an answer that was cut at a stop text had cost, Codex does not say.
    assert (chunks[-1]["usage"] is None) == (kind == "several")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "fake-404", "messages": [USER]}, 404),
        ({"model": "fake-401", "messages": [USER]}, 401),
        ({"model": "fake-429", "messages": [USER]}, 429),
        ({"model": "fake-500", "messages": [USER]}, 502),
        ({"model": "fake-503", "messages": [USER]}, 503),
        ({"model": "fake-ctx", "messages": [USER]}, 400),
        ({"model": "fake-plain", "messages": []}, 400),
        ({"model": "fake-plain", "messages": [USER], "n": 0}, 400),
        ([], 400),
    ],
    ids=str,
)
def test_the_sidecars_errors_fit(sidecar: str, body: Any, status: int) -> None:
    """Every refusal has OpenAI's form, and a status that the server describes."""
    assert checked(sidecar, CHAT, body, name=WHOLE)[0] == status


def test_the_lists_of_models_fit(sidecar: str) -> None:
    """The list, one model, and one that is unknown."""
    _, listed = checked(sidecar, "/v1/models", name="ListModelsResponse")
    row = "/v1/models/{id}"
    first = listed["data"][0]["id"]

    assert checked(sidecar, f"/v1/models/{first}", name="Model", row=row)[0] == 200
    assert checked(sidecar, "/v1/models/never", name="Model", row=row)[0] == 404


@pytest.fixture
def agent(faulty_server: FaultyServer) -> Iterator[str]:
    with mini_agent(faulty_server, tools=["python"]) as url:
        yield url


def says(text: str, code: str = "") -> Json:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    reply = completion_object(text, model="scripted", usage=usage)
    message = dict(reply["choices"][0]["message"])
    if code:
        function = {"name": "exec_python", "arguments": json.dumps({"code": code})}
        message["tool_calls"] = [{"id": "call_0", "type": "function", "function": function}]
    return Json({**reply, "choices": [{**reply["choices"][0], "message": message}]})


def test_the_mini_agents_answers_fit(agent: str, faulty_server: FaultyServer) -> None:
    """An answer after a tool, its pieces, a wrong call, and the older route."""
    body = {"model": "mini-agent", "messages": [USER]}
    faulty_server.queue(CHAT_PATH, says("Let me see.", "print(6 * 7)"), says("42"))
    good = checked(agent, CHAT, body, name=WHOLE)
    faulty_server.queue(CHAT_PATH, says("Let me see.", "print(6 * 7)"), says("42"))
    chunks = events(agent, CHAT, {**body, "stream_options": {"include_usage": True}})
    refused = checked(agent, CHAT, {**body, "n": 2}, name=WHOLE)
    unknown = checked(agent, CHAT, {**body, "model": "x"}, name=WHOLE)
    with httpx.Client(base_url=agent, timeout=60) as client:
        described = client.get("/openapi.json").json()
        faulty_server.queue(CHAT_PATH, says("42"))
        run = client.post("/agent/run", json={"messages": [USER]})

    assert (good[0], refused[0], unknown[0], run.status_code) == (200, 400, 404, 200)
    assert [misfits(chunk, CHUNK) for chunk in chunks] == [[]] * len(chunks)
    assert chunks[-1]["usage"]["total_tokens"] == 30
    assert (
        misfits_of_served(run.json(), described, method="post", path="/agent/run", status=200) == []
    )


async def calling(request: ChatRequest) -> Completion:
    """Thinks, says something, and calls every tool it is offered."""
    calls = [
        ToolCall(id=f"call_{n}", type="function",
                 function=Function(name=tool["function"]["name"], arguments='{"input": "x"}'))
        for n, tool in enumerate(request.params.get("tools", ()))
    ]  # fmt: skip
    message = ChatMessage(content="Well.", reasoning_content="Hm.", tool_calls=calls or None)
    return Completion(
        choices=[Choice(message=message, finish_reason="tool_calls" if calls else "stop")],
        usage=Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7),
    )


def test_the_bridges_responses_fit() -> None:
    """Thoughts, text, plain and free-form tool calls; whole, and every event of the stream."""
    tools = [
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
        {"type": "custom", "name": "free", "description": "d"},
    ]
    path = "/v1/responses"
    body = {"model": "m", "input": "hi", "tools": tools}
    with served(responses_app(calling, models=["m"])) as url:
        good = checked(url, path, body, name="Response")
        refused = checked(url, path, {"model": "m"}, name="Response")
        unknown = checked(url, path, {"model": "x", "input": "hi"}, name="Response")
        told = events(url, path, body)

    assert (good[0], refused[0], unknown[0]) == (200, 400, 404)
    assert {event["type"]: misfits(event, "ResponseStreamEvent") for event in told} == {
        event["type"]: [] for event in told
    }
    kinds = [item["type"] for item in good[1]["output"]]
    assert kinds == ["reasoning", "message", "function_call", "custom_tool_call"]


def test_the_check_can_fail() -> None:
    """An answer that lacks what OpenAI requires is no answer."""
    whole = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    assert misfits(whole, WHOLE) == []
    assert misfits({**whole, "created": "now"}, WHOLE) != []
    assert misfits({"error": {"message": "x"}}, "ErrorResponse") != []
    assert misfits({"type": "response.completed"}, "ResponseStreamEvent") != []
