"""The mini-agent with a scripted model behind a real HTTP server: loop, provider, traces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scillm import Router
from scillm.errors import (
    BadRequestError,
    EngineError,
    StoredRunError,
    UnsupportedParamError,
    UsageError,
)
from scillm.runs.chain import JournalDamagedError
from scillm_codex.agent.trace import replay
from support.faulty import (
    CHAT_PATH,
    FaultyServer,
    Gate,
    Json,
    Reply,
    completion_object,
    error_reply,
)
from support.tinymodel import (
    GREEDY_TEXT,
    GREEDY_TOKENS,
    TinyModelUnavailableError,
    serve_tiny_model,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
TASK = [{"role": "user", "content": "What is six times seven?"}]


def says(text: str | None, *calls: tuple[str, Mapping[str, Any]], usage: Any = USAGE) -> Json:
    """A model's answer, with calls of tools."""
    reply = completion_object(text or "", model="scripted", usage=usage)
    message = dict(reply["choices"][0]["message"])
    if calls:
        message["content"] = text
        message["tool_calls"] = [
            {
                "id": f"call_{n}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for n, (name, arguments) in enumerate(calls)
        ]
    reason = "tool_calls" if calls else "stop"
    reply["choices"] = [{**reply["choices"][0], "message": message, "finish_reason": reason}]
    return Json(reply)


@pytest.fixture
def ask(faulty_server: FaultyServer) -> Iterator[Any]:
    """Runs the agent on the scripted model."""
    with Router(retry_enabled=False) as router:

        def run(*script: Any, **params: Any) -> Any:
            faulty_server.queue(CHAT_PATH, *script)
            given = {"messages": TASK, "target_model": "openai_like/scripted", **params}
            return router.completion("mini-agent/loop", api_base=faulty_server.base_url, **given)

        yield run


def asked(server: FaultyServer) -> list[Any]:
    return [request.json for request in server.requests if request.path == CHAT_PATH]


def test_the_model_runs_a_program_and_answers_from_what_it_printed(
    ask: Any, faulty_server: FaultyServer
) -> None:
    """A program the model writes is run, the model sees its output, and its text is the answer."""
    answer = ask(says(None, ("exec_python", {"code": "print(6 * 7)"})), says("It is 42."))
    run = answer.additional_kwargs["mini_agent"]
    second = asked(faulty_server)[1]

    assert answer.text == "It is 42."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 30
    assert (run["stopped_reason"], run["iterations"]) == ("success", 2)
    assert second["messages"][-1] == {"role": "tool", "tool_call_id": "call_0", "content": "42"}
    assert [row["ok"] for row in run["parsed_tools"]] == [True]


def test_images_and_parameters_reach_the_model(ask: Any, faulty_server: FaultyServer) -> None:
    """Messages and parameters of the caller are handed on as they are."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What?"}, image]}]
    ask(says("A dot."), messages=messages, temperature=0.5, tool_backend="none")
    (body,) = asked(faulty_server)

    assert body["messages"] == messages
    assert body["temperature"] == 0.5
    assert "tools" not in body


def test_arguments_are_checked_before_a_tool_sees_them(
    ask: Any, faulty_server: FaultyServer
) -> None:
    """Arguments that do not fit the tool's schema run nothing; the model is told where they err."""
    ask(says(None, ("exec_python", {"cod": "1"})), says("Sorry."))
    told = asked(faulty_server)[1]["messages"][-1]["content"]

    assert told.startswith("Error: not run, because the arguments do not fit:")
    assert "'code' is a required property" in told


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"max_iterations": 2}, "max_iterations"),
        ({"max_total_tokens": 15}, "max_tokens"),
        ({"max_cost_usd": 1.0}, "unknown_cost"),
    ],
)
def test_a_run_ends_at_its_limits(ask: Any, params: Any, reason: str) -> None:
    """A model that never comes to an end is stopped, and the answer says by what."""
    call = says(None, ("exec_python", {"code": "print(1)"}))
    answer = ask(call, call, **params)
    run = answer.additional_kwargs["mini_agent"]

    assert run["stopped_reason"] == reason
    assert answer.choices[0].finish_reason == "length"
    assert answer.text == ""


def test_time_runs_out_while_the_model_thinks(ask: Any) -> None:
    """A run ends in its time although the model has not answered."""
    gate = Gate()
    answer = ask(Reply(body=[gate, b"{}"], framing="close"), max_seconds=0.3)
    gate.open()

    assert answer.additional_kwargs["mini_agent"]["stopped_reason"] == "max_seconds"


def test_time_runs_out_while_a_tool_works(ask: Any) -> None:
    """A program that never ends does not keep a run from its end, and leaves its call answered."""
    loops = says(None, ("exec_python", {"code": "while True: pass"}))
    answer = ask(loops, max_seconds=2.0)
    run = answer.additional_kwargs["mini_agent"]

    assert run["stopped_reason"] == "max_seconds"
    assert run["conversation"][-1]["role"] == "tool"


def test_a_failing_model_fails_the_call(ask: Any) -> None:
    """An upstream's error reaches the caller as what it is."""
    with pytest.raises(BadRequestError, match="no such thing"):
        ask(error_reply(400, "no such thing"))


def test_a_run_with_tool_calls_in_it_is_never_begun_anew(
    ask: Any, faulty_server: FaultyServer
) -> None:
    """When the model fails after a tool was called, no retry or fallback calls the tool again."""
    call = says(None, ("exec_python", {"code": "print(1)"}))
    with pytest.raises(EngineError, match="after 1 tool calls") as caught:
        ask(call, error_reply(401, "no longer"))

    assert (caught.value.retryable, caught.value.try_elsewhere) == (False, False)
    assert len(asked(faulty_server)) == 2


def test_another_model_answers_when_questions_are_used_up(
    ask: Any, faulty_server: FaultyServer
) -> None:
    """With an escalation model, that one is asked last, without tools."""
    answer = ask(
        says(None, ("exec_python", {"code": "print(42)"})),
        says("Then it is 42."),
        max_iterations=1,
        escalate_on_budget_exceeded=True,
        escalate_model="openai_like/wiser",
    )
    run = answer.additional_kwargs["mini_agent"]
    last = asked(faulty_server)[1]

    assert (answer.text, run["escalated"], run["used_model"]) == (
        "Then it is 42.",
        True,
        "openai_like/wiser",
    )
    assert last["model"] == "wiser"
    assert "tools" not in last


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"tools": [{"type": "function"}]}, "brings its own tools"),
        ({"tool_backend": "docker"}, "tool_backend is local, http or none"),
        ({"agent_tools": ["telepathy"]}, "There is no tool 'telepathy'"),
        ({"agent_tools": ["files"]}, "need a work folder"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"max_seconds": -1}, "max_seconds must be above 0"),
        ({"target_model": "mini-agent/loop"}, "cannot work with itself"),
        ({"mcp_servers": [{"command": ["x"]}]}, "An MCP server is a command line"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_asked(
    ask: Any, faulty_server: FaultyServer, params: Any, said: str
) -> None:
    """What cannot be is said at once, and no model is asked."""
    with pytest.raises((UsageError, UnsupportedParamError), match=said):
        ask(**params)

    assert not faulty_server.requests


def test_a_stored_run_replays_offline(
    ask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A trace holds the whole run: walked again with no model and no tool, all messages return."""
    monkeypatch.setenv("MINI_AGENT_STORE_TRACES", "1")
    monkeypatch.setenv("MINI_AGENT_STORE_PATH", str(tmp_path / "traces"))
    answer = ask(says(None, ("exec_python", {"code": "print(6 * 7)"}), ("nothing", {})), says("42"))
    run = answer.additional_kwargs["mini_agent"]
    walked = replay(Path(run["trace"]))

    assert walked.finished
    assert [dict(message) for message in walked.agent.messages] == run["conversation"]
    assert walked.agent.stopped is not None
    assert walked.agent.stopped.answer == "42"


def test_a_changed_trace_is_not_believed(
    ask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever edits a trace is found out; what is no trace is called so."""
    monkeypatch.setenv("MINI_AGENT_STORE_TRACES", "1")
    monkeypatch.setenv("MINI_AGENT_STORE_PATH", str(tmp_path))
    trace = Path(ask(says("42")).additional_kwargs["mini_agent"]["trace"])
    trace.write_text(trace.read_text().replace('"content":"42"', '"content":"43"'))

    with pytest.raises(JournalDamagedError):
        replay(trace)
    with pytest.raises(StoredRunError, match="There is no trace"):
        replay(tmp_path / "none.jsonl")


def mini_agent(
    server: FaultyServer, folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SCILLM_", "MINI_AGENT_"))}
    base = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-of-a-test"}
    return subprocess.run(
        [sys.executable, "-m", "scillm", "mini-agent", *arguments],
        env={**kept, "HOME": str(folder), **base},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_works_on_files_and_keeps_a_trace(
    faulty_server: FaultyServer, tmp_path: Path
) -> None:
    """`scillm mini-agent run` gives the answer, does what it was allowed, and its trace replays."""
    work, store = tmp_path / "work", tmp_path / "store"
    work.mkdir()
    faulty_server.queue(
        CHAT_PATH,
        says(None, ("write_file", {"path": "a/b.txt", "content": "hi"})),
        says(None, ("run_command", {"argv": ["cat", "a/b.txt"]}), ("list_files", {})),
        says("Written."),
    )
    arguments = ["-m", "openai/scripted", "--tool", "files", "--folder", str(work)]
    ran = mini_agent(
        faulty_server, tmp_path, "run", "Write hi.", *arguments,
        "--allow", "cat a/b.txt", "--store", str(store),
    )  # fmt: skip
    (trace,) = store.iterdir()
    walked = mini_agent(faulty_server, tmp_path, "replay", str(trace))
    seen = [m["content"] for m in asked(faulty_server)[2]["messages"] if m["role"] == "tool"]

    assert (ran.returncode, ran.stdout) == (0, "Written.\n"), ran.stderr
    assert (work / "a" / "b.txt").read_text() == "hi"
    assert seen == ["Wrote 2 bytes to a/b.txt.", "hi", "a/"]
    assert walked.returncode == 0, walked.stderr
    assert walked.stdout.endswith("assistant: Written.\n")


def test_the_command_says_when_there_is_no_answer(
    faulty_server: FaultyServer, tmp_path: Path
) -> None:
    """A run that meets a limit is no success: exit status 1, and why on standard error."""
    faulty_server.queue(CHAT_PATH, says(None, ("nothing", {})))
    ran = mini_agent(
        faulty_server, tmp_path, "run", "Go.", "-m", "openai/scripted", "--max-iterations", "1"
    )

    assert ran.returncode == 1
    assert "max_iterations" in ran.stderr


def test_a_run_that_an_error_ended_is_kept_and_called_unfinished(
    faulty_server: FaultyServer, tmp_path: Path
) -> None:
    """A trace shows how far a failed run came, and does not pass for a whole one."""
    faulty_server.queue(
        CHAT_PATH, says("Look:", ("nothing", {})), error_reply(400, "no such thing")
    )
    ran = mini_agent(
        faulty_server,
        tmp_path,
        "run",
        "Go.",
        "-m",
        "openai/scripted",
        "--store",
        str(tmp_path / "s"),
    )
    (trace,) = (tmp_path / "s").iterdir()
    walked = mini_agent(faulty_server, tmp_path, "replay", str(trace))

    assert ran.returncode == 1
    assert "no such thing" in ran.stderr
    assert walked.returncode == 1
    assert "assistant: Look:\n  calls nothing({})" in walked.stdout


def test_a_real_model_answers_through_the_agent(tiny_model_url: str) -> None:
    """llama.cpp with a tiny model, offered a tool, answers through the agent with usage."""
    with Router() as router:
        answer = router.completion(
            "mini-agent/loop",
            [{"role": "user", "content": "hi"}],
            target_model="openai_like/tiny",
            api_base=tiny_model_url,
            agent_tools=["python"],
            temperature=0,
        )

    assert answer.text == GREEDY_TEXT
    assert answer.usage.completion_tokens == GREEDY_TOKENS


def test_a_real_model_that_only_calls_tools_is_stopped(tmp_path: Path) -> None:
    """llama.cpp with a model that opens a tool call whatever it is told ends at the limit.

    Its calls, which no tool understands, all have their answers.
    """
    try:
        with serve_tiny_model(tmp_path, always_calls=True) as base, Router() as router:
            answer = router.completion(
                "mini-agent/loop",
                [{"role": "user", "content": "hi"}],
                target_model="openai_like/tiny",
                api_base=base,
                agent_tools=["python"],
                tool_choice="required",
                temperature=0,
                max_iterations=2,
            )
    except TinyModelUnavailableError as error:
        pytest.skip(str(error))
    run = answer.additional_kwargs["mini_agent"]
    made = [c["id"] for m in run["conversation"] for c in m.get("tool_calls") or ()]
    answered = [m["tool_call_id"] for m in run["conversation"] if m["role"] == "tool"]

    assert run["stopped_reason"] == "max_iterations"
    assert len(made) >= 2
    assert sorted(made) == sorted(answered)
