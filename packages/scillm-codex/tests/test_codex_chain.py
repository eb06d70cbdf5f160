"""The whole chain: client, sidecar, real Codex, our bridge, and a real tiny model of llama.cpp."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from openai import OpenAI
from pydantic import BaseModel
from scillm_codex.responses.app import bridge_of_models
from scillm_codex.sidecar.home import Upstream
from support.codex_cli import need_openai_js
from support.codex_service import CodexService
from support.codex_sidecar import codex_sidecar
from support.served import served
from support.tinymodel import GREEDY_TEXT, GREEDY_TOKENS, serve_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL = "openai_like/tiny"
USER: Any = [{"role": "user", "content": "hi"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "my_add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}


class Point(BaseModel):
    x: int


@pytest.fixture(scope="module")
def url(tiny_model_url: str) -> Iterator[str]:
    with served(bridge_of_models([MODEL], api_base=tiny_model_url)) as bridge:
        upstream = Upstream(base_url=f"{bridge}/v1")
        with codex_sidecar(None, upstream=upstream, model=MODEL) as base:
            yield base


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as made:
        yield made


def test_a_real_model_answers_through_codex(client: OpenAI) -> None:
    """The words and the token count are the model's own."""
    answer = client.chat.completions.create(model=MODEL, messages=USER)

    assert answer.choices[0].message.content == GREEDY_TEXT
    assert answer.usage is not None
    assert answer.usage.completion_tokens == GREEDY_TOKENS


def test_a_real_models_stream_comes_through(client: OpenAI) -> None:
    """Token by token, through both of our servers."""
    stream = client.chat.completions.create(model=MODEL, messages=USER, stream=True)
    pieces = [
        c.choices[0].delta.content for c in stream if c.choices and c.choices[0].delta.content
    ]

    assert "".join(pieces) == GREEDY_TEXT
    assert len(pieces) > 3


def test_a_schema_reaches_the_models_grammar(client: OpenAI) -> None:
    """llama.cpp's own Responses route drops the schema; through the bridge it holds."""
    parsed = client.chat.completions.parse(model=MODEL, messages=USER, response_format=Point)

    assert isinstance(parsed.choices[0].message.parsed, Point)


def test_a_real_model_calls_the_clients_tool(tmp_path: Path) -> None:
    """llama.cpp parses the model's call; it comes back with the client's tool and valid JSON."""
    with (
        serve_tiny_model(tmp_path, always_calls=True) as model,
        served(bridge_of_models([MODEL], api_base=model)) as bridge,
        codex_sidecar(None, upstream=Upstream(base_url=f"{bridge}/v1")) as url,
        OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
    ):
        answer = client.chat.completions.create(model=MODEL, messages=USER, tools=[TOOL])

    calls = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert calls is not None
    assert calls[0].type == "function"
    assert calls[0].function.name == "my_add"
    assert set(json.loads(calls[0].function.arguments)) == {"a"}


SCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "x", maxRetries: 0 });
const messages = [{ role: "user", content: "hi there" }];
const model = "fake-plain";
const out = {};
out.models = (await client.models.list()).data.map((m) => m.id)[0];
const whole = await client.chat.completions.create({ model, messages });
out.whole = whole.choices[0].message.content;
out.usage = whole.usage.total_tokens;
out.streamed = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true }))
  out.streamed += chunk.choices[0]?.delta?.content ?? "";
const helper = client.chat.completions.stream({ model, messages });
out.helper = await helper.finalContent();
const tools = [{ type: "function", function: { name: "my_add", parameters: { type: "object",
  properties: { a: { type: "integer" } } }, function: async ({ a }) => String(a + 41),
  parse: JSON.parse } }];
const runner = client.chat.completions.runTools({ model: "fake-tool", messages, tools });
out.runner = await runner.finalContent();
const format = { type: "json_schema", json_schema: { name: "p", strict: true, schema: {
  type: "object", properties: { x: { type: "integer" } }, required: ["x"],
  additionalProperties: false } } };
const parsed = await client.chat.completions.parse({ model, messages, response_format: format });
out.parsed = parsed.choices[0].message.parsed;
for (const bad of ["fake-404", "fake-401", "fake-ctx"]) {
  try { await client.chat.completions.create({ model: bad, messages }); out[bad] = "answered"; }
  catch (error) { out[bad] = [error.constructor.name, error.status, error.code]; }
}
const left = await client.chat.completions.create({ model: "fake-slow", messages, stream: true });
for await (const chunk of left) { left.controller.abort(); break; }
out.after = (await client.chat.completions.create({ model, messages })).choices[0].message.content;
const many = await Promise.all([...Array(10).keys()].map((i) => client.chat.completions.create(
  { model, messages: [{ role: "user", content: "n" + i }] })));
out.many = many.map((c) => c.choices[0].message.content);
console.log(JSON.stringify(out));
"""


def test_openais_javascript_sdk_works_unmodified() -> None:
    """Lists, answers, streams, tools, schemas, errors, early ends and calls side by side."""
    folder = need_openai_js()
    script = folder / "scillm-sidecar.mjs"
    script.write_text(SCRIPT)
    with CodexService().running_here() as service, codex_sidecar(service) as url:
        done = subprocess.run(
            ["node", str(script), url], capture_output=True, text=True, timeout=90, check=False
        )
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)

    assert out.pop("many") == [f"echo: n{number}" for number in range(10)]
    assert out == {
        "models": "fake-plain",
        "whole": "echo: hi there",
        "usage": 120,
        "streamed": "echo: hi there",
        "helper": "echo: hi there",
        "runner": "tools said: 42",
        "parsed": {"x": 1},
        "fake-404": ["NotFoundError", 404, "model_not_found"],
        "fake-401": ["AuthenticationError", 401, "invalid_api_key"],
        "fake-ctx": ["BadRequestError", 400, "context_length_exceeded"],
        "after": "echo: hi there",
    }
