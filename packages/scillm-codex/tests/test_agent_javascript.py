"""The mini-agent's server, asked by OpenAI's JavaScript SDK as it comes from npm."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from support.codex_cli import need_openai_js
from support.faulty import CHAT_PATH, FaultyServer, Json, completion_object
from support.mini_agent import mini_agent

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
SCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "x", maxRetries: 0 });
const ask = (content) => ({ model: "mini-agent", messages: [{ role: "user", content }] });
const out = {};
out.models = (await client.models.list()).data.map((m) => m.id);
const whole = await client.chat.completions.create(ask("six times seven?"));
out.whole = [whole.choices[0].message.content, whole.choices[0].finish_reason];
out.usage = whole.usage.total_tokens;
out.streamed = "";
for await (const chunk of await client.chat.completions.create({ ...ask("and streamed?"),
    stream: true, stream_options: { include_usage: true } })) {
  out.streamed += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.usage) out.streamedUsage = chunk.usage.total_tokens;
}
out.helper = await client.chat.completions.stream(ask("hello")).finalContent();
const tools = [{ type: "function", function: { name: "x", parameters: { type: "object" } } }];
for (const [name, more] of [["model", { model: "other" }], ["tools", { tools }]]) {
  try { out[name] = await client.chat.completions.create({ ...ask("hello"), ...more }); }
  catch (error) { out[name] = [error.constructor.name, error.status]; }
}
const left = await client.chat.completions.create({ ...ask("hello"), stream: true });
for await (const chunk of left) { left.controller.abort(); break; }
const many = await Promise.all([...Array(10).keys()].map((i) =>
  client.chat.completions.create(ask("n" + i))));
out.many = many.map((c) => c.choices[0].message.content);
console.log(JSON.stringify(out));
"""


def runs(code: str) -> Json:
    reply = completion_object("", model="scripted", usage=USAGE)
    function = {"name": "exec_python", "arguments": json.dumps({"code": code})}
    message = {
        **reply["choices"][0]["message"],
        "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
    }
    choice = {**reply["choices"][0], "message": message, "finish_reason": "tool_calls"}
    return Json({**reply, "choices": [choice]})


def says(text: str) -> Json:
    return Json(completion_object(text, model="scripted", usage=USAGE))


def test_openais_javascript_sdk_works_unmodified(faulty_server: FaultyServer) -> None:
    """Lists, answers worked out with tools, streams, errors, early ends and calls side by side."""
    folder = need_openai_js()
    script = folder / "scillm-mini-agent.mjs"
    script.write_text(SCRIPT)
    two_runs: list[Any] = [runs("print(6 * 7)"), says("It is 42."), runs("print(42)"), says("42!")]
    faulty_server.queue(CHAT_PATH, *two_runs)
    with mini_agent(faulty_server, tools=["python"]) as url:
        done = subprocess.run(
            ["node", str(script), url], capture_output=True, text=True, timeout=90, check=False
        )
    seen = [request.json["messages"][-1] for request in faulty_server.requests[:4]]

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "models": ["mini-agent"],
        "whole": ["It is 42.", "stop"],
        "usage": 30,
        "streamed": "42!",
        "streamedUsage": 30,
        "helper": "echo:hello",
        "model": ["NotFoundError", 404],
        "tools": ["BadRequestError", 400],
        "many": [f"echo:n{number}" for number in range(10)],
    }
    assert [message["content"] for message in seen if message["role"] == "tool"] == ["42", "42"]
