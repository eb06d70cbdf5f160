"""`scillm chat`: one question to one model."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest
from support.redis_server import free_port
from support.scillm_process import Installation

if TYPE_CHECKING:
    from pathlib import Path

# Answers as the model's name says. `gate`: the first piece at once, the rest once a file is there.
ACTOR = """
import os
import sys
from contextlib import asynccontextmanager

import anyio

from scillm.errors import APIConnectionError
from scillm.models import ChatMessage, Choice, ChunkChoice, Completion, CompletionChunk, Delta


def chunk(text, reason=None):
    return CompletionChunk(choices=[ChunkChoice(delta=Delta(content=text), finish_reason=reason)])


class Provider:
    def __init__(self, endpoint, host):
        print("noise of a plugin")
        self.endpoint = endpoint

    async def complete(self, request):
        if request.model == "sleeps":
            print("asleep", flush=True)
            await anyio.sleep(600)
        if request.model == "key":
            return self._answer(f"key {self.endpoint.api_key!r} for {self.endpoint.api_base}")
        if request.model == "timeout":
            return self._answer(f"{request.timeout_s}")
        if request.model == "messages":
            return self._answer(repr([dict(message) for message in request.messages]))
        if request.model == "cut":
            return self._answer("Once upon", "length")
        if request.model == "calls":
            return self._answer(None, "tool_calls")
        if request.model == "refuses":
            message = ChatMessage(refusal="I would rather not.")
            return Completion(choices=[Choice(message=message, finish_reason="stop")])
        return self._answer("\\x1b[31mred\\x1b[0m")

    def _answer(self, text, reason="stop"):
        return Completion(choices=[Choice(message=ChatMessage(content=text), finish_reason=reason)])

    @asynccontextmanager
    async def stream(self, request):
        yield self._chunks(request)

    async def _chunks(self, request):
        yield chunk("first")
        if request.model == "breaks":
            raise APIConnectionError("The line went dead.")
        while not os.path.exists(request.model):
            await anyio.sleep(0.01)
        yield chunk(" second", "stop")
"""


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def add_actor(here: Installation) -> None:
    here.add(
        "scillm-actor",
        points={"scillm.providers": {"actor": "actor_module:Provider"}},
        modules={"actor_module": ACTOR},
    )


def test_the_answer_is_all_of_stdout(here: Installation) -> None:
    """A pipe gets the text of the answer and a newline."""
    done = here.run("chat", "-m", "echo/any", "Grüße,  zweimal")

    assert (done.code, done.out, done.err) == (0, "Grüße,  zweimal\n", "")


@pytest.mark.parametrize("text", [["-"], []])
def test_a_piped_question_is_read_from_stdin(here: Installation, text: list[str]) -> None:
    """`-`, or no text beside a pipe, reads the question from standard input."""
    done = here.run("chat", "-m", "echo/any", *text, stdin="line one\nline two")

    assert (done.code, done.out) == (0, "line one\nline two\n")


def test_a_piped_question_that_is_no_text_is_wrong_usage(here: Installation) -> None:
    """Bytes that are not UTF-8 are refused by position, not sent as something else."""
    (here.folder / "question").write_bytes(b"caf\xe9")

    with (here.folder / "question").open() as question:
        process = here.start("chat", "-m", "echo/any", stdin=question)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (2, "")
    assert "0xe9 at 3" in err


def test_json_is_the_completion_with_its_side_information(here: Installation) -> None:
    """`--json` prints the OpenAI-shaped answer and, under `scillm`, where it came from."""
    done = here.run("chat", "-m", "echo/any", "--json", "ö")

    answer = json.loads(done.out)
    assert answer["choices"][0]["message"]["content"] == "ö"
    assert answer["scillm"]["requested_model"] == "echo/any"
    assert answer["scillm"]["provider"] == "echo"
    assert '"ö"' in done.out


def test_the_default_model_comes_from_the_settings(here: Installation) -> None:
    """Without -m, SCILLM_DEFAULT_MODEL says whom to ask."""
    done = here.run("chat", "hello", env={"SCILLM_DEFAULT_MODEL": "echo/any"})

    assert (done.code, done.out) == (0, "hello\n")


def test_without_a_model_both_ways_to_name_one_are_told(here: Installation) -> None:
    """No model anywhere is wrong usage; the message names -m and the variable."""
    done = here.run("chat", "hello")

    assert (done.code, done.out) == (2, "")
    assert "-m MODEL" in done.err
    assert "SCILLM_DEFAULT_MODEL" in done.err


@pytest.mark.parametrize(
    "args",
    [
        ("-m", "echo/any"),
        ("-m", "echo/any", "  "),
        ("-m", "nobody/any", "hello"),
        ("-m", "echo/any", "--timeout", "0", "hello"),
        ("-m", "echo/any", "--timeout", "soon", "hello"),
        ("-m", "echo/any", "--api-key-env", "NOT_SET", "hello"),
    ],
)
def test_what_cannot_be_sent_is_wrong_usage(here: Installation, args: tuple[str, ...]) -> None:
    """An empty question, an unknown provider, a wrong timeout, a missing key: exit code 2."""
    done = here.run("chat", *args)

    assert (done.code, done.out) == (2, "")
    assert "Error: " in done.err
    assert "Traceback" not in done.err


def test_an_upstream_that_is_not_there_is_a_failure(here: Installation) -> None:
    """A refused connection is exit code 1, with one message and no traceback."""
    base = f"http://127.0.0.1:{free_port()}/v1"

    done = here.run("chat", "-m", "any", "--api-base", base, "hello")

    assert (done.code, done.out) == (1, "")
    assert base in done.err
    assert "Traceback" not in done.err


def test_the_key_is_read_from_the_named_variable(here: Installation) -> None:
    """--api-key-env and --api-base reach the provider."""
    add_actor(here)

    done = here.run(
        *("chat", "-m", "actor/key", "--api-key-env", "MY_KEY", "--api-base", "http://h/v1", "x"),
        env={"MY_KEY": "sk-5"},
    )

    assert done.out == "key 'sk-5' for http://h/v1\n"


def test_system_message_and_timeout_reach_the_provider(here: Installation) -> None:
    """--system goes before the question, --timeout is in seconds."""
    add_actor(here)

    said = here.run("chat", "-m", "actor/messages", "--system", "Be brief.", "Why?")
    timed = here.run("chat", "-m", "actor/timeout", "--timeout", "2.5", "Why?")

    system = {"role": "system", "content": "Be brief."}
    assert said.out == f"{[system, {'role': 'user', 'content': 'Why?'}]}\n"
    assert timed.out == "2.5\n"


def test_what_a_plugin_prints_is_not_part_of_the_answer(here: Installation) -> None:
    """A provider that prints does so on stderr; stdout stays one JSON document."""
    add_actor(here)

    done = here.run("chat", "-m", "actor/any", "--json", "x")

    assert json.loads(done.out)["choices"][0]["finish_reason"] == "stop"
    assert done.err == "noise of a plugin\n"


@pytest.mark.parametrize(
    ("model", "out", "told"),
    [
        ("cut", "Once upon\n", "is not complete (finish_reason is 'length')"),
        ("calls", "\n", "has no text (finish_reason is 'tool_calls')"),
        ("refuses", "\n", "The model refused: I would rather not."),
    ],
)
def test_an_answer_that_is_not_whole_is_told(
    here: Installation, model: str, out: str, told: str
) -> None:
    """An answer that is cut, has no text or is refused says so on stderr."""
    add_actor(here)

    done = here.run("chat", "-m", f"actor/{model}", "x")

    assert (done.code, done.out) == (0, out)
    assert told in done.err


def test_a_stream_is_printed_as_it_arrives(here: Installation) -> None:
    """With --stream the first piece is readable while the rest does not exist yet."""
    add_actor(here)
    gate = here.folder / "gate"

    with here.start("chat", "-m", f"actor/{gate}", "--stream", "x") as process:
        assert process.stdout is not None
        first = process.stdout.read(5)
        gate.touch()
        rest = process.stdout.read()

    assert (first, rest, process.returncode) == ("first", " second\n", 0)


def test_a_json_stream_is_one_chunk_per_line(here: Installation) -> None:
    """--stream --json prints every chunk as a line of JSON."""
    done = here.run("chat", "-m", "echo/any", "--stream", "--json", "a b")

    chunks = [json.loads(line) for line in done.out.splitlines()]
    texts = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert "".join(text or "" for text in texts) == "a b"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_broken_stream_is_a_failure(here: Installation, options: list[str]) -> None:
    """A stream that breaks keeps what came, says so, and ends with 1."""
    add_actor(here)

    done = here.run("chat", "-m", "actor/breaks", "--stream", *options, "x")

    assert done.code == 1
    assert "first" in done.out
    assert done.out.endswith("\n")
    assert "The line went dead." in done.err


def test_ctrl_c_ends_a_waiting_chat_with_130(here: Installation) -> None:
    """Ctrl-C ends the wait at once, with the exit code shells expect and no traceback."""
    add_actor(here)

    with here.start("chat", "-m", "actor/sleeps", "x") as process:
        assert process.stderr is not None
        until(process.stderr.readline, "asleep\n")
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert time.monotonic() - started < 15


def until(read: object, wanted: str) -> None:
    assert callable(read)
    while (line := read()) != wanted:
        assert line, f"the process ended before it said {wanted!r}"
