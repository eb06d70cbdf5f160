"""The Responses bridge with its real clients: the Codex CLI itself, and OpenAI's SDK."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import openai
import pytest
from openai import OpenAI
from scillm.errors import RateLimitError
from scillm.models import (
    ChatMessage,
    Choice,
    ChunkChoice,
    Completion,
    CompletionChunk,
    Delta,
    Function,
    ToolCall,
    Usage,
)
from scillm.serve.chat_app import ChatLimits
from scillm_codex.responses.app import bridge_of_models, codex_config, responses_app
from scillm_codex.sidecar.binary import find_binary
from support.codex_cli import codex_root, need_codex
from support.served import served
from support.tinymodel import GREEDY_TEXT, GREEDY_TOKENS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scillm.records import ChatRequest

USAGE = Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
MODEL = "openai_like/tiny"


def completion(message: ChatMessage, reason: str = "stop") -> Completion:
    return Completion(
        id="c", model="m", choices=[Choice(message=message, finish_reason=reason)], usage=USAGE
    )


class Scripted:
    """A chat-only model: calls a tool named like `wanted`, then tells what it said."""

    def __init__(self, wanted: str, arguments: dict[str, Any]) -> None:
        self.wanted = wanted
        self.arguments = arguments
        self.asked: list[ChatRequest] = []

    async def complete(self, request: ChatRequest, /) -> Completion:
        self.asked.append(request)
        last = request.messages[-1]
        if last["role"] == "tool":
            return completion(ChatMessage(content=f"it said: {last['content']}"))
        names = [tool["function"]["name"] for tool in request.params.get("tools", [])]
        name = next(name for name in names if self.wanted in name)
        function = Function(name=name, arguments=json.dumps(self.arguments))
        call = ToolCall(id="call_1", type="function", function=function)
        return completion(ChatMessage(content=None, tool_calls=[call]), "tool_calls")


@contextmanager
def codex_home(url: str, model: str) -> Iterator[dict[str, str]]:
    """The environment of a user's own Codex whose config leads to the bridge."""
    with codex_root() as root:
        (root / "config.toml").write_text(codex_config(url, model))
        yield {"PATH": os.environ["PATH"], "HOME": str(root), "CODEX_HOME": str(root)}


def run_codex(env: dict[str, str], prompt: str) -> list[dict[str, Any]]:
    """The events of the real CLI."""
    binary = find_binary(need_codex()).path
    done = subprocess.run(
        [str(binary), "exec", "--json", "--skip-git-repo-check", "--ephemeral", prompt],
        env=env,
        cwd=env["HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def items(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [
        event["item"]
        for event in events
        if event["type"] == "item.completed" and event["item"]["type"] == kind
    ]


def test_the_real_codex_calls_a_tool_and_answers_on_a_chat_only_model() -> None:
    """Codex runs the command the chat model asked for, and shows the model's final words."""
    model = Scripted("exec_command", {"cmd": "echo from-the-tool"})
    with (
        served(responses_app(model, models=["scripted"])) as url,
        codex_home(url, "scripted") as env,
    ):
        events = run_codex(env, "use the tool")

    commands = items(events, "command_execution")
    assert [command["aggregated_output"] for command in commands] == ["from-the-tool\n"]
    assert "from-the-tool" in items(events, "agent_message")[-1]["text"]
    assert events[-1]["usage"]["output_tokens"] == 8
    assert model.asked[0].messages[0]["role"] == "system"


def test_a_tool_in_a_namespace_finds_its_way_back() -> None:
    """Codex's namespaced tools are plain functions to the model and namespaced again for Codex."""
    model = Scripted("multi_agent", {"targets": []})
    with (
        served(responses_app(model, models=["scripted"])) as url,
        codex_home(url, "scripted") as env,
    ):
        events = run_codex(env, "use the agents")

    said = items(events, "agent_message")[-1]["text"]
    assert said.startswith("it said:")
    assert "unsupported call" not in said


def test_the_real_codex_runs_on_a_real_tiny_model(tiny_model_url: str) -> None:
    """Codex, the bridge, llama.cpp: a chat-only server answers Codex."""
    app = bridge_of_models([MODEL], api_base=tiny_model_url)
    with served(app) as url, codex_home(url, MODEL) as env:
        events = run_codex(env, "hello")

    assert items(events, "agent_message")[-1]["text"] == GREEDY_TEXT
    assert events[-1]["usage"]["output_tokens"] == GREEDY_TOKENS


def test_the_sdks_responses_calls_work(tiny_model_url: str) -> None:
    """create and stream give the same text and the tokens the model counted."""
    app = bridge_of_models([MODEL], api_base=tiny_model_url)
    with served(app) as url, OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        whole = client.responses.create(model=MODEL, input="hi")
        with client.responses.stream(model=MODEL, input="hi") as stream:
            deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
            final = stream.get_final_response()

    assert whole.output_text == final.output_text == "".join(deltas) == GREEDY_TEXT
    assert whole.usage is not None
    assert whole.usage.output_tokens == GREEDY_TOKENS


async def limited(_request: ChatRequest) -> Completion:
    raise RateLimitError("slow down", status_code=429, retry_after=3)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_refuses_keeps_its_status(*, stream: bool) -> None:
    """An error before the first piece is the answer's status, with Retry-After."""
    with (
        served(responses_app(limited, models=["m"])) as url,
        OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.responses.create(model="m", input="hi", stream=stream)

    assert caught.value.response.headers["retry-after"] == "3"


def test_an_unknown_model_is_not_found() -> None:
    """Only the bridge's own models are answered."""
    with (
        served(responses_app(limited, models=["m"])) as url,
        OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
        pytest.raises(openai.NotFoundError) as caught,
    ):
        client.responses.create(model="other", input="hi")

    assert caught.value.code == "model_not_found"


def test_a_key_is_asked_for() -> None:
    """With a token nobody else is answered."""
    with (
        served(responses_app(limited, models=["m"], token="sidecar-secret")) as url,
        OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.responses.create(model="m", input="hi")


class Broken:
    """A model whose stream begins well and then goes wrong in its own way."""

    def __init__(self, how: str) -> None:
        self.how = how

    async def complete(self, request: ChatRequest, /) -> Completion:
        if self.how == "silent":
            await anyio.sleep_forever()
        return completion(ChatMessage(content="whole"), reason="")

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, /
    ) -> AsyncIterator[AsyncIterator[CompletionChunk]]:
        yield self.chunks()

    async def chunks(self) -> AsyncIterator[CompletionChunk]:
        yield CompletionChunk(id="c", model="m", choices=[ChunkChoice(delta=Delta(content="Be"))])
        if self.how == "silent":
            await anyio.sleep_forever()
        if self.how == "raises":
            raise RuntimeError("with a secret inside")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("ends", "The answer ended before it was finished."),
        ("silent", "Nothing came for 0.5 s"),
        ("raises", "The server failed in a way it does not know"),
    ],
)
def test_a_stream_that_breaks_off_is_a_failed_response(how: str, said: str) -> None:
    """It is never told as completed, never waited for without end, and tells nothing inner."""
    app = responses_app(Broken(how), models=["m"], limits=ChatLimits(max_seconds=0.5))
    with served(app) as url, OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        events = list(client.responses.create(model="m", input="hi", stream=True))

    last: Any = events[-1]
    assert last.type == "response.failed"
    assert said in last.response.error.message
    assert "secret" not in last.response.error.message
    assert "response.completed" not in [event.type for event in events]


def test_a_whole_answer_that_does_not_come_is_a_timeout() -> None:
    """A model that hangs is stopped at the server's limit."""
    app = responses_app(Broken("silent"), models=["m"], limits=ChatLimits(max_seconds=0.5))
    with (
        served(app) as url,
        OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.responses.create(model="m", input="hi")

    assert caught.value.status_code == 504


def test_a_whole_answer_without_a_reason_is_complete_in_both_forms() -> None:
    """A function that answers has finished, also where it gives no finish reason."""

    async def answer(_request: ChatRequest) -> Completion:
        return Completion(choices=[Choice(message=ChatMessage(content="whole"))])

    with (
        served(responses_app(answer, models=["m"])) as url,
        OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
    ):
        whole = client.responses.create(model="m", input="hi")
        events = list(client.responses.create(model="m", input="hi", stream=True))

    assert (whole.status, whole.output_text) == ("completed", "whole")
    assert events[-1].type == "response.completed"
