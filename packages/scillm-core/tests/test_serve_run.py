"""Running a server: what it says, where it listens, how it ends - as a real process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from scillm.errors import UsageError
from scillm.serve.run import bound, serve, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import os, sys
import anyio
from scillm.models import ChatMessage, Choice, Completion
from scillm.serve.chat_app import chat_app
from scillm.serve.run import serve

async def answer(request):
    print("begun", file=sys.stderr, flush=True)
    try:
        await anyio.sleep(float(request.messages[0]["content"]))
    finally:
        print("ended", file=sys.stderr, flush=True)
    return Completion(model="m", choices=[Choice(message=ChatMessage(content="ok"))])

serve(chat_app(answer, models=["m"]), port=int(sys.argv[1]), name="test server", grace_s=1)
print("left", flush=True)
"""


class Program:
    """A server process. Remembers its base URL, read from its ready line."""

    def __init__(self, process: subprocess.Popen[str], line: str) -> None:
        self.process = process
        self.line = line
        self.url = line.rpartition(" ")[2].strip()

    def ask(self, seconds: float) -> threading.Thread:
        """Ask in a thread; answers are collected in `answers`."""

        def post() -> None:
            body = {"model": "m", "messages": [{"role": "user", "content": str(seconds)}]}
            try:
                answer = httpx.post(
                    f"{self.url}/v1/chat/completions", json=body, timeout=30, trust_env=False
                )
                self.answers.append(answer.status_code)
            except httpx.TransportError as error:
                self.answers.append(type(error).__name__)

        self.answers: list[int | str] = []
        thread = threading.Thread(target=post)
        thread.start()
        assert self.process.stderr is not None
        assert self.process.stderr.readline() == "begun\n"
        return thread


@contextmanager
def program(tmp_path: Path, *, port: int = 0) -> Iterator[Program]:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    guard = threading.Timer(60, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        yield Program(process, process.stdout.readline())
    finally:
        guard.cancel()
        process.kill()
        process.communicate()


def test_a_server_says_where_it_is_once_it_answers(tmp_path: Path) -> None:
    """Port 0: one line names the port that was taken, and the server answers there at once."""
    with program(tmp_path) as server:
        answer = httpx.get(f"{server.url}/healthz", trust_env=False)

    assert re.fullmatch(r"test server ready on http://127\.0\.0\.1:\d+\n", server.line)
    assert answer.json()["ok"] is True


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_calls_under_way_finish(tmp_path: Path, sent: signal.Signals) -> None:
    """The answer is still given, then the program goes on after `serve`, with exit code 0."""
    with program(tmp_path) as server:
        thread = server.ask(0.4)
        server.process.send_signal(sent)
        thread.join()
        out, err = server.process.communicate(timeout=20)

    assert server.answers == [200]
    assert (out, err, server.process.returncode) == ("left\n", "ended\n", 0)


def test_the_end_is_bounded(tmp_path: Path) -> None:
    """A call that goes on longer than the grace is cancelled; the process ends all the same."""
    with program(tmp_path) as server:
        thread = server.ask(60)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        out, err = server.process.communicate(timeout=20)
        thread.join()

    assert time.monotonic() - began < 10
    assert "left" in out
    assert "ended" in err
    assert server.answers != [200]


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Ctrl-C twice does not wait for the grace of others."""
    with program(tmp_path) as server:
        thread = server.ask(60)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
        server.process.communicate(timeout=20)
        thread.join()

    assert server.process.returncode is not None


def test_a_taken_port_is_named() -> None:
    """The usual mistake, starting twice, has a clear sentence."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port} cannot be bound"):
            bound("127.0.0.1", port, token=None)


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    """The system would take 99999 for 34463 and serve there."""
    with pytest.raises(UsageError, match=f"from 0 to 65535, but is {port}"):
        bound("127.0.0.1", port, token=None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.invalid"])
def test_a_server_without_a_token_stays_on_this_machine(host: str) -> None:
    """Binding other addresses needs a token; the error says so before anything listens."""

    async def app(*_: object) -> None:
        raise AssertionError

    with pytest.raises(UsageError, match="it has no token"):
        serve(app, host=host)


def test_a_listening_socket_is_not_inherited() -> None:
    """Programs that the server starts do not keep its port open."""
    listener = bound("127.0.0.1", 0, token=None)
    url = url_of(listener)
    inherited = os.get_inheritable(listener.fileno())
    listener.close()

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    assert not inherited


def test_an_app_that_cannot_start_is_a_clear_error(caplog: pytest.LogCaptureFixture) -> None:
    """A lifespan that fails ends `serve` with an error, not with a bare exit."""

    async def app(scope: dict[str, str], receive: object, send: object) -> None:
        raise RuntimeError(f"no {scope['type']}")

    with pytest.raises(UsageError, match="could not start"):
        serve(app, say=print)

    assert "no lifespan" in caplog.text
