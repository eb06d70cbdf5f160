"""The tiny model is a real model behind a real server."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.make_tiny_gguf import write_bigram
from support.tinymodel import GREEDY_TEXT, GREEDY_TOKENS, serve_tiny_model

SUPPORT = Path(__file__).with_name("support")
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


def ask(base_url: str, **params: Any) -> Any:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}
    reply = httpx.post(f"{base_url}/chat/completions", json=body | params, timeout=30.0)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_greedy_text_and_usage_are_known(tiny_model_url: str) -> None:
    """Tests can assert the model's words and its count of tokens."""
    answer = ask(tiny_model_url)

    assert answer["choices"][0]["message"]["content"] == GREEDY_TEXT
    assert GREEDY_TEXT == "Hello from a tiny real model."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == GREEDY_TOKENS == 11


def test_a_schema_is_obeyed_and_the_answer_ends(tiny_model_url: str) -> None:
    """Under a grammar the model says short, complete JSON."""
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "items": {"type": "array"}},
        "required": ["ok", "items"],
    }
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}

    choice = ask(tiny_model_url, response_format=shape, max_tokens=200)["choices"][0]

    assert choice["finish_reason"] == "stop"
    said = json.loads(choice["message"]["content"])
    assert isinstance(said["ok"], bool)
    assert isinstance(said["items"], list)


def test_a_required_tool_is_called(tiny_model_url: str) -> None:
    """Asked for a tool call, the model makes one with arguments that fit."""
    choice = ask(tiny_model_url, tools=[TOOL], tool_choice="required")["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    arguments = json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])
    assert {type(arguments["a"]), type(arguments["b"])} == {int}


def test_the_file_is_the_same_every_time(tmp_path: Path) -> None:
    """Two builds of the model differ in no byte."""
    paths = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    for path in paths:
        write_bigram(path)

    first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    assert first == second


@pytest.mark.usefixtures("tiny_model_url")
def test_a_caller_calls_whatever_it_is_asked(tmp_path: Path) -> None:
    """The other kind of model opens a tool call of its own accord, for tests of step limits."""
    with serve_tiny_model(tmp_path, always_calls=True) as base_url:
        choice = ask(base_url, tools=[TOOL])["choices"][0]

    assert choice["message"]["tool_calls"][0]["function"]["name"] == "add"


@pytest.mark.usefixtures("tiny_model_url")
def test_the_server_dies_with_its_parent(tmp_path: Path) -> None:
    """A test run that is killed leaves no server behind."""
    script = (
        "import pathlib, sys, time\n"
        f"sys.path.insert(0, {str(SUPPORT.parent)!r})\n"
        "from support.tinymodel import serve_tiny_model\n"
        f"with serve_tiny_model(pathlib.Path({str(tmp_path)!r})) as base_url:\n"
        "    print(base_url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        base_url = parent.stdout.readline().strip()
        alive = httpx.get(f"{base_url}/models").status_code
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(10)

    assert alive == 200
    assert _unreachable(base_url, within_s=10)


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 error"), ("", "1 skipped")])
def test_a_platform_without_the_server_skips_but_never_in_ci(
    tmp_path: Path, ci: str, outcome: str
) -> None:
    """Where llama.cpp does not load, real-model tests are skipped; in CI that is an error."""
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('no wheel for this machine')\n")
    (tmp_path / "test_it.py").write_text(
        "def test_it(tiny_model_url):\n    assert tiny_model_url\n"
    )
    root = SUPPORT.parents[1]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "conftest"]
    env = os.environ | {"CI": ci, "PYTHONPATH": os.pathsep.join(map(str, [tmp_path, root]))}

    done = subprocess.run(
        [*command, f"--rootdir={root}", f"-c{root / 'pyproject.toml'}", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=env,
        cwd=tmp_path,
    )

    assert outcome in done.stdout
    assert "no wheel for this machine" in done.stdout


def _unreachable(url: str, *, within_s: float) -> bool:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        try:
            httpx.get(f"{url}/models", timeout=1.0)
        except httpx.TransportError:
            return True
        time.sleep(0.02)
    return False
