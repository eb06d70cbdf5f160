"""MCP servers that do not keep to the protocol: each is bounded in time, memory and noise."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scillm.errors import EngineError
from scillm.plugins.registry import Registry
from scillm_codex.agent.opening import ToolPlan, with_tools
from scillm_codex.agent.records import Call
from scillm_codex.mcp.names import McpTarget
from support.leftovers import running

if TYPE_CHECKING:
    from scillm_codex.agent.records import ToolAnswer
    from scillm_codex.agent.toolbox import Toolbox

LIAR = str(Path(__file__).with_name("mcp_liar.py"))


def answers(mode: str, mark: Path, *, timeout_s: float = 5.0) -> list[ToolAnswer]:
    """What two calls to a server of this mode bring."""

    async def work(box: Toolbox) -> list[ToolAnswer]:
        calls = [Call(id=str(n), name="t__work", arguments={}) for n in range(2)]
        return [await box.carry_out(call) for call in calls]

    async def main() -> list[ToolAnswer]:
        command = (sys.executable, LIAR, mode, str(mark))
        target = McpTarget(name="t", command=command, timeout_s=timeout_s, connect_s=5.0)
        transport: Any = None
        plan = ToolPlan(mcp=[target])
        return await with_tools(plan, work, plugins=Registry(offers=()), transport=transport)

    return anyio.run(main)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("silent", "nothing came from 'work' for 0.5 s"),
        ("wrong-id", "nothing came from 'work' for 0.5 s"),
        ("notices", "nothing came from 'work' for 0.5 s"),
        ("endless-line", "it wrote a line of more than 67108864 bytes"),
        ("no-json", "it said 1001 things that are no messages"),
        ("no-object", "ValidationError"),
        ("exit", "Connection closed"),
    ],
)
def test_a_server_that_misbehaves_is_an_answer_and_gone_in_time(
    mode: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model reads what went wrong; the log stays short; no process is left.

    The server ignores SIGTERM and the end of its input as well.
    """
    began = time.monotonic()
    slow = 10.0 if mode == "endless-line" else 0.5
    with caplog.at_level(logging.INFO):
        first, second = answers(mode, tmp_path, timeout_s=slow)
    took_s = time.monotonic() - began

    assert (first.ok, second.ok) == (False, False)
    assert said in first.text
    assert len(caplog.records) <= 2
    assert took_s < 25
    assert running(tmp_path) == []


@pytest.mark.parametrize(("mode", "text"), [("twice", "first"), ("long", "xxx")])
def test_more_than_was_asked_for_is_left_out(mode: str, text: str, tmp_path: Path) -> None:
    """Of two answers to one call the first counts, each time; a long one is cut to size."""
    found = answers(mode, tmp_path, timeout_s=10.0)

    assert [one.ok for one in found] == [True, True]
    assert all(one.text.startswith(text) and len(one.text) <= 16_000 for one in found)


@pytest.mark.parametrize(
    ("mode", "said"), [("deaf", "no answer within 5 s"), ("tools", "more than 1000 tools")]
)
def test_a_server_that_cannot_be_opened_is_said_and_gone(
    mode: str, said: str, tmp_path: Path
) -> None:
    """One that never answers, and one that floods the model with tools, are refused by name."""
    with pytest.raises(EngineError, match="The MCP server 't'") as caught:
        answers(mode, tmp_path)

    assert said in caught.value.message
    assert running(tmp_path) == []
