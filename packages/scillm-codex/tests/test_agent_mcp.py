"""Tools of real MCP servers, over stdio and streamable HTTP, in both eras of the protocol."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import EngineError, UsageError
from scillm_codex.agent.opening import ToolPlan, with_tools
from scillm_codex.agent.records import Call, ToolAnswer
from scillm_codex.agent.toolbox import Toolbox, shortened
from scillm_codex.mcp.client import McpServer
from scillm_codex.mcp.names import McpTarget, offered_name, offered_names, read_target
from scillm_codex.mcp.results import answer_of, cause_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVER = str(Path(__file__).with_name("mcp_server.py"))
STDIO = (sys.executable, SERVER)
ERAS = {"auto": "2026-07-28", "legacy": "2025-11-25"}


class NoPlugins:
    """A registry in which nothing is installed."""

    def names(self, group: str, /) -> list[str]:
        return []

    def get(self, group: str, name: str, /) -> object:
        raise AssertionError(name)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of one MCP server over HTTP, shared by the tests of this module."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen(
        [*STDIO, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with socket.socket() as found:
                if found.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        child.kill()
        child.wait()


def used(*targets: McpTarget, work: Callable[[Toolbox], Any], most_chars: int = 16_000) -> Any:
    """What `work` gives with the tools of these servers."""
    plan = ToolPlan(mcp=targets, most_chars=most_chars)

    async def main() -> Any:
        transport: Any = None
        return await with_tools(plan, work, plugins=NoPlugins(), transport=transport)

    return anyio.run(main)


def call(name: str, **arguments: Any) -> Call:
    return Call(id="c", name=name, arguments=arguments)


def target_of(kind: str, mode: str, url: str, **more: Any) -> McpTarget:
    where: dict[str, Any] = {"url": url} if kind == "http" else {"command": STDIO}
    return McpTarget(name="t", mode=mode, **where, **more)


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("kind", ["stdio", "http"])
def test_tools_of_a_server_work(kind: str, mode: str, url: str, tmp_path: Path) -> None:
    """Tools are listed and called over either way and either protocol; failures are answers.

    A call is carried out once, exact results come as JSON, and nothing of ours is in the server's
    environment.
    """

    async def work(box: Toolbox) -> Any:
        assert {"t__add", "t__boom", "t__slow"} <= box.names
        given = [
            call("t__add", a=40, b=2),
            call("t__add", a="x", b=2),
            call("t__boom"),
            call("t__count", folder=str(tmp_path)),
            call("t__long_text", chars=30_000),
        ]
        return [await box.carry_out(one) for one in given]

    added, misfit, boom, counted, long = used(target_of(kind, mode, url), work=work)

    assert (added.ok, json.loads(added.text)) == (True, {"result": 42})
    assert (misfit.ok, "'x' is not of type 'integer'" in misfit.text) == (False, True)
    assert boom == ToolAnswer(ok=False, text="Error executing tool boom")
    assert json.loads(counted.text) == {"result": "counted"}
    assert (tmp_path / "calls").read_text() == "called\n"
    assert len(long.text) <= 16_000
    assert "characters were cut out here" in long.text


@pytest.mark.parametrize(("mode", "version"), ERAS.items())
def test_both_eras_of_the_protocol_are_spoken(mode: str, version: str, url: str) -> None:
    """The newest protocol is found out and spoken, and the handshake of the older ones too."""

    async def main() -> str:
        server = McpServer(target_of("http", mode, url))
        async with anyio.create_task_group() as group:
            await group.start(server.serve)
            found = server.protocol
            group.cancel_scope.cancel()
        return found

    assert anyio.run(main) == version


def test_a_slow_call_is_cancelled_and_its_server_kept(url: str) -> None:
    """A call has a time of its own, which progress begins anew; the others are not disturbed."""
    target = target_of("http", "auto", url, timeout_s=0.8)

    async def work(box: Toolbox) -> Any:
        return [
            await box.carry_out(one)
            for one in (
                call("t__slow", seconds=60),
                call("t__ticking", ticks=5),
                call("t__add", a=1, b=1),
            )
        ]

    began = time.monotonic()
    slow, ticking, added = used(target, work=work)

    assert (slow.ok, "for 0.8 s; the call was cancelled" in slow.text) == (False, True)
    assert json.loads(ticking.text) == {"result": "ticked"}
    assert json.loads(added.text) == {"result": 2}
    assert time.monotonic() - began < 40


@pytest.mark.parametrize("mode", ERAS)
def test_a_server_that_dies_answers_and_does_not_take_the_agent_with_it(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a server breaks in a call, that call and later ones say so, and the run goes on.

    Secrets of our environment are not in the server's.
    """
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-ours")

    async def work(box: Toolbox) -> Any:
        return [
            await box.carry_out(one)
            for one in (call("t__environment"), call("t__die"), call("t__add", a=1, b=1))
        ]

    seen, died, after = used(target_of("stdio", mode, ""), work=work)

    assert "PATH" in seen.text
    assert "OPENAI_API_KEY" not in seen.text
    assert not died.ok
    assert not after.ok
    assert "Connection closed" in f"{died.text}{after.text}"


def test_an_http_server_that_dies_does_not_take_the_agent_with_it() -> None:
    """A broken HTTP connection, which cancels the SDK's own tasks, is an answer like another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen(
        [*STDIO, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    async def work(box: Toolbox) -> Any:
        first = await box.carry_out(call("t__die"))
        return first, await box.carry_out(call("t__add", a=1, b=1))

    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with socket.socket() as found:
                if found.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        died, after = used(McpTarget(name="t", url=f"http://127.0.0.1:{port}/mcp"), work=work)
    finally:
        child.kill()
        child.wait()

    assert not died.ok
    assert "t" in died.text
    assert not after.ok


def test_no_server_is_left_behind() -> None:
    """When a run ends, so do the servers it started."""

    async def work(box: Toolbox) -> Any:
        return None

    target = McpTarget(name="t", command=(*STDIO,), env={"SCILLM_TEST_MARK": "left-behind"})
    used(target, work=work)
    marked = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
        except OSError:
            continue
        if b"SCILLM_TEST_MARK=left-behind" in environ:
            marked.append(process.name)

    assert marked == []


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (McpTarget(name="t", command=("/nonexistent/server",)), "No such file"),
        (
            McpTarget(name="t", command=(sys.executable, "-c", "raise SystemExit('no luck')")),
            "It said: no luck",
        ),
        (McpTarget(name="t", url="http://127.0.0.1:9/mcp"), "cannot be used"),
    ],
    ids=["missing", "ends", "refuses"],
)
def test_a_server_that_cannot_be_used_is_said_at_once(target: McpTarget, said: str) -> None:
    """A run does not begin without a server it was given; the reason names the server."""

    async def work(box: Toolbox) -> Any:
        raise AssertionError("there are no tools")

    with pytest.raises(EngineError, match="The MCP server 't'") as caught:
        used(target, work=work)

    assert said in caught.value.message


def test_two_servers_of_one_name_are_refused(url: str) -> None:
    """Tools that would come out under one name are not mixed up: the run is refused."""

    async def work(box: Toolbox) -> Any:
        return None

    target = McpTarget(name="t", url=url)
    with pytest.raises(UsageError, match="Two tools are called 't__add'"):
        used(target, target, work=work)


NAMES = st.text(min_size=1, max_size=80)


@given(server=NAMES, tool=NAMES)
def test_every_offered_name_is_one_a_model_may_be_given(server: str, tool: str) -> None:
    """Whatever a server calls its tool, the model sees a name that OpenAI's API takes."""
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", offered_name(server, tool))


@given(tools=st.lists(st.from_regex(r"[a-zA-Z0-9_-]{1,80}", fullmatch=True), unique=True))
def test_offered_names_lead_back_to_the_tool(tools: list[str]) -> None:
    """Different plain names stay different, also when they are too long, and none is lost."""
    names = offered_names("server", tools)

    assert list(names.values()) == tools


def test_names_that_would_be_the_same_are_refused() -> None:
    """Two tools that cannot be told apart are said to the user."""
    with pytest.raises(UsageError, match="would both be called 's__a_b'"):
        offered_names("s", ["a.b", "a/b"])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("python server.py --x", McpTarget(name="server", command=("python", "server.py", "--x"))),
        ("git=uvx mcp-git", McpTarget(name="git", command=("uvx", "mcp-git"))),
        ("npx -y @scope/thing", McpTarget(name="thing", command=("npx", "-y", "@scope/thing"))),
        (
            "http://127.0.0.1:1/mcp",
            McpTarget(name="127_0_0_1", url="http://127.0.0.1:1/mcp"),
        ),
        ("web=https://h/mcp?a=b", McpTarget(name="web", url="https://h/mcp?a=b")),
    ],
)
def test_a_server_is_written_as_a_command_or_an_address(text: str, target: McpTarget) -> None:
    """`[NAME=]COMMAND` and `[NAME=]URL` are understood; the name is found where none is given."""
    found = read_target(text)

    assert (found.name, tuple(found.command), found.url) == (
        target.name,
        tuple(target.command),
        target.url,
    )


@pytest.mark.parametrize("text", ["", "  ", "http:///mcp", "'unclosed"])
def test_what_is_no_server_is_refused(text: str) -> None:
    """A text that names no server is refused with what was wanted."""
    with pytest.raises(UsageError):
        read_target(text)


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        ({"structuredContent": {"a": 1}, "content": []}, ToolAnswer(text='{"a": 1}')),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ToolAnswer(text="a\nb"),
        ),
        (
            {"content": [{"type": "image", "mimeType": "image/png", "data": "AAAA"}]},
            ToolAnswer(text="[image, image/png, 3 bytes]"),
        ),
        (
            {"content": [{"type": "resource_link", "uri": "file:///x"}]},
            ToolAnswer(text="[resource file:///x]"),
        ),
        (
            {"content": [{"type": "resource", "resource": {"uri": "u", "text": "inner"}}]},
            ToolAnswer(text="inner"),
        ),
        (
            {"content": [{"type": "resource", "resource": {"uri": "u", "blob": "AA"}}]},
            ToolAnswer(text="[resource u, binary]"),
        ),
        ({"content": [{"type": "hologram"}]}, ToolAnswer(text="[hologram content]")),
        ({"content": []}, ToolAnswer(text="(the tool gave no output)")),
        (
            {"isError": True, "content": [], "structuredContent": {"a": 1}},
            ToolAnswer(ok=False, text="Error: the tool failed and did not say why."),
        ),
    ],
)
def test_results_become_text_a_model_can_read(result: Any, answer: ToolAnswer) -> None:
    """Exact content first, text as it is, and of anything else what and how much it was."""
    assert answer_of(result) == answer


@given(text=st.text(max_size=400), most=st.integers(200, 300))
def test_a_long_answer_keeps_its_ends(text: str, most: int) -> None:
    """An answer within its bound is untouched; a longer one keeps both ends and says so."""
    short = shortened(text, most)

    assert len(short) <= most
    if len(text) <= most:
        assert short == text
    else:
        assert short[:50] == text[:50]
        assert short[-50:] == text[-50:]
        assert f"of {len(text)} characters" in short


def test_environment_is_not_empty() -> None:
    """The check of a server's environment can fail: ours does hold variables."""
    assert "PATH" in os.environ


class Grouped(Exception):
    """An error that holds others, as exception groups do."""

    def __init__(self, *exceptions: Exception) -> None:
        super().__init__("a group")
        self.exceptions = exceptions


def test_the_cause_is_found_in_however_many_groups() -> None:
    """The first error inside is told, by its kind where it says nothing; without end there is."""
    deep: Exception = ValueError("inner")
    for _ in range(30):
        deep = Grouped(deep)

    assert cause_of(Grouped(Grouped(ValueError("inner")), KeyError())) == "ValueError: inner"
    assert cause_of(KeyError()) == "KeyError"
    assert cause_of(deep) == "Grouped: a group"
