"""The Codex process behind the sidecar: restarted, renewed, and never left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from scillm.errors import APIConnectionError, EngineError
from scillm.records import ChatRequest
from scillm_codex.sidecar.app import Sidecar, prepared
from scillm_codex.sidecar.binary import Binary, find_binary, with_version
from scillm_codex.sidecar.child import Command
from scillm_codex.sidecar.codex import CodexServer
from scillm_codex.sidecar.keeper import Keeper, Renewal
from support.codex_cli import codex_root, need_codex
from support.codex_service import KEY, CodexService, call, message, outputs
from support.codex_sidecar import upstream_of
from support.leftovers import alive, descendants, running
from support.leftovers import gone_within as gone_within_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def service() -> Iterator[CodexService]:
    with CodexService().running_here() as running:
        yield running


@pytest.fixture(scope="module")
def binary() -> Binary:
    return with_version(find_binary(need_codex()))


def question(text: str = "hi", model: str = "fake-plain") -> ChatRequest:
    return ChatRequest(model=model, messages=[{"role": "user", "content": text}], timeout_s=60)


async def under_way(service: CodexService) -> None:
    """A question has reached the service, which runs in other threads."""
    with anyio.fail_after(10):
        while not service.running:  # noqa: ASYNC110
            await anyio.sleep(0.01)


def run(
    service: CodexService,
    binary: Binary,
    work: Callable[[Keeper, CodexServer], Awaitable[Any]],
    **renewal: Any,
) -> Any:
    """Do `work` with a keeper of its own."""

    async def main() -> Any:
        with codex_root() as root:
            sidecar = Sidecar(binary=binary, root=root, upstream=upstream_of(service))
            command, place = prepared(sidecar, binary)
            async with Keeper(command, renewal=Renewal(**renewal)) as keeper:
                return await work(keeper, CodexServer(keeper, place))

    return anyio.run(main)


def gone_within(pid: int, limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while alive(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_a_killed_codex_fails_what_runs_and_the_next_request_has_a_new_one(
    service: CodexService, binary: Binary
) -> None:
    """What was on its way is an error worth another try; the next call is answered."""

    async def work(keeper: Keeper, server: CodexServer) -> Any:
        failures: list[Exception] = []

        async def slow() -> None:
            try:
                await server.complete(question("x" * 300, "fake-slow"))
            except APIConnectionError as error:
                failures.append(error)

        async with anyio.create_task_group() as group:
            child = await keeper.ready()
            group.start_soon(slow)
            await under_way(service)
            os.kill(child.pid, signal.SIGKILL)
        answer = await server.complete(question())
        return failures, answer.text, keeper.starts, keeper.deaths

    failures, text, starts, deaths = run(service, binary, work)

    assert len(failures) == 1
    assert failures[0].retryable  # type: ignore[attr-defined]
    assert (text, starts, deaths) == ("echo: hi", 2, 1)


def test_an_old_process_is_replaced_without_hurting_a_request(
    service: CodexService, binary: Binary
) -> None:
    """A long answer ends in the old process while the new one takes the next questions."""

    async def work(keeper: Keeper, server: CodexServer) -> Any:
        answers: list[str] = []
        first = await keeper.ready()

        async def slow() -> None:
            answers.append((await server.complete(question("y" * 30, "fake-slow"))).text)

        async with anyio.create_task_group() as group:
            group.start_soon(slow)
            await under_way(service)
            for _ in range(3):
                await server.complete(question())
            assert alive(first.pid)
        await anyio.sleep(3)
        return answers, keeper.renewals, alive(first.pid)

    answers, renewals, still = run(service, binary, work, threads=2)

    assert answers == ["echo: " + "y" * 30]
    assert renewals >= 1
    assert not still


def test_leaving_ends_the_process(service: CodexService, binary: Binary) -> None:
    """After the block no process of the sidecar's is there."""

    async def work(keeper: Keeper, _server: CodexServer) -> int:
        return (await keeper.ready()).pid

    assert gone_within(run(service, binary, work), 5.0)


def test_a_binary_that_does_not_speak_says_what_it_said(tmp_path: Path) -> None:
    """A start that fails is one clear error, with the program's own last words."""
    liar = tmp_path / "codex"
    liar.write_text("#!/bin/sh\necho 'no such option: app-server' >&2\nexit 2\n")
    liar.chmod(0o755)
    command = Command(argv=[str(liar), "app-server"], env={"PATH": "/bin:/usr/bin"}, cwd=tmp_path)

    async def main() -> None:
        async with Keeper(command) as keeper:
            await keeper.ready()

    with pytest.raises(EngineError, match="no such option: app-server"):
        anyio.run(main)


def serve_process(
    service: CodexService, binary: Binary, root: Path, *options: str
) -> tuple[Any, str]:
    """`scillm codex serve` as a process of its own, and its base URL."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(root),
        "SCILLM_CODEX_BIN": str(binary.path),
        "SCILLM_CODEX_HOME": str(root / "codex"),
        "SCILLM_CODEX_UPSTREAM": service.base_url,
        "SCILLM_CODEX_UPSTREAM_KEY": KEY,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "scillm", "codex", "serve", "--port", "0", "-m", "fake-plain",
         *options],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "ready on" in line, process.stderr.read() if process.stderr else ""
    return process, line.rsplit(" ", 1)[1].strip()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_codex_is_left_when_the_server_ends(
    service: CodexService, binary: Binary, how: signal.Signals
) -> None:
    """Also `kill -9` of the server takes its Codex along, in the middle of an answer."""
    with codex_root() as root:
        process, url = serve_process(service, binary, root)
        try:
            body = {"model": "fake-slow", "stream": True,
                    "messages": [{"role": "user", "content": "x" * 400}]}  # fmt: skip
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as stream:
                next(stream.iter_bytes())
                codexes = descendants(process.pid)
                process.send_signal(how)
                process.wait(20)
        finally:
            process.kill()
            process.communicate()

    assert len(codexes) == 2  # Codex and its leash
    assert all(gone_within(pid, 5.0) for pid in codexes)


@pytest.mark.parametrize("killed", ["the sidecar", "codex", "the leash"])
@pytest.mark.parametrize("fallback", [False, True], ids=["app-server", "exec"])
def test_no_command_of_the_agent_outlives_who_is_killed(
    service: CodexService, binary: Binary, killed: str, *, fallback: bool
) -> None:
    """`kill -9` in the middle of a command, also one in a session of its own: nothing is left."""
    mark = f"{random.random()}"[2:]
    command = {"cmd": f"setsid sleep 301.{mark} & sleep 302.{mark}"}
    with codex_root() as root:
        work = root / "work"
        work.mkdir()
        options = ["--profile", "agent", "--cwd", str(work), *(["--exec"] if fallback else [])]
        process, url = serve_process(service, binary, root, *options)
        service.script = lambda body: [message("x")] if outputs(body) else [
            call("exec_command", command)
        ]  # fmt: skip
        body = {"model": "fake-x", "messages": [{"role": "user", "content": "go"}]}
        asking = threading.Thread(target=asked, args=(f"{url}/v1/chat/completions", body))
        try:
            asking.start()
            begun = within(20, lambda: len(running(f"301.{mark}")) >= 2)
            leash, codex = descendants(process.pid)[:2]
            who = {"the sidecar": process.pid, "codex": codex, "the leash": leash}[killed]
            os.kill(who, signal.SIGKILL)
            if killed == "the leash":
                process.terminate()
                process.wait(30)
            tools = gone_within_all(f"301.{mark}", 10.0)
        finally:
            service.script = None
            process.kill()
            process.communicate()
            asking.join(10)
        rest = gone_within_all(root, 10.0)

    assert begun
    assert tools
    assert rest


def asked(url: str, body: Any) -> None:
    with suppress(httpx.HTTPError):
        httpx.post(url, json=body, timeout=60)


def within(limit_s: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


USED: dict[str, set[str]] = {
    "ThreadStartParams": {
        "model", "cwd", "ephemeral", "approvalPolicy", "experimentalRawEvents", "sandbox",
        "permissions", "baseInstructions", "developerInstructions", "dynamicTools",
    },
    "ThreadInjectItemsParams": {"threadId", "items"},
    "TurnStartParams": {"threadId", "input", "effort", "outputSchema"},
    "TurnInterruptParams": {"threadId", "turnId"},
    "ThreadUnsubscribeParams": {"threadId"},
    "TurnCompletedNotification": {"threadId", "turn"},
    "AgentMessageDeltaNotification": {"itemId", "delta", "turnId"},
    "RawResponseItemCompletedNotification": {"item", "turnId"},
    "RawResponseCompletedNotification": {"usage", "turnId"},
    "ThreadTokenUsageUpdatedNotification": {"tokenUsage", "turnId"},
    "ModelListResponse": {"data"},
}  # fmt: skip


def test_codexs_own_contract_has_what_we_use(binary: Binary, tmp_path: Path) -> None:
    """The protocol that this Codex prints knows every message and field the sidecar relies on."""
    subprocess.run(
        [str(binary.path), "app-server", "generate-json-schema", "--experimental", "--out",
         str(tmp_path)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=True,
    )  # fmt: skip

    for name, fields in USED.items():
        schema = json.loads((tmp_path / "v2" / f"{name}.json").read_text())
        assert fields <= set(schema["properties"]), name


@pytest.mark.deep
def test_memory_stays_flat_over_a_thousand_requests(service: CodexService, binary: Binary) -> None:
    """Threads are let go: Codex is not larger after 1,000 requests than after 200."""

    async def work(keeper: Keeper, server: CodexServer) -> tuple[int, int]:
        async def many(count: int) -> int:
            limiter = anyio.CapacityLimiter(8)

            async def one() -> None:
                async with limiter:
                    await server.complete(question())

            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(one)
            await anyio.sleep(3)
            child = await keeper.ready()
            return child.rss_bytes() or 0

        return await many(200), await many(800)

    before, after = run(service, binary, work, threads=10_000)

    assert after < before * 1.2 + 20e6


@pytest.mark.deep
def test_clients_that_leave_at_random_leave_nothing_behind(
    service: CodexService, binary: Binary
) -> None:
    """100 clients, each gone at a random moment: no thread, turn or process stays."""
    with codex_root() as root:
        process, url = serve_process(service, binary, root)
        draw = random.Random(7)

        async def one(client: httpx.AsyncClient, limit_s: float) -> None:
            body = {"model": "fake-slow", "stream": True,
                    "messages": [{"role": "user", "content": "x" * 100}]}  # fmt: skip
            with anyio.move_on_after(limit_s):
                address = f"{url}/v1/chat/completions"
                async with client.stream("POST", address, json=body) as answer:
                    async for _piece in answer.aiter_bytes():
                        pass

        async def main() -> None:
            async with (
                httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=60) as client,
                anyio.create_task_group() as group,
            ):
                for _ in range(100):
                    group.start_soon(one, client, draw.uniform(0.0, 4.0))

        try:
            anyio.run(main)
            end = time.monotonic() + 10
            while service.running and time.monotonic() < end:
                time.sleep(0.05)
            numbers = httpx.get(f"{url}/metrics").text
            left = descendants(process.pid)
            last = {"model": "fake-plain", "messages": [{"role": "user", "content": "hi"}]}
            after = httpx.post(f"{url}/v1/chat/completions", timeout=30, json=last)
        finally:
            process.terminate()
            process.communicate(timeout=30)

    assert service.running == 0
    assert "scillm_codex_threads_open 0" in numbers
    assert len(left) == 2
    assert after.json()["choices"][0]["message"]["content"] == "echo: hi"
