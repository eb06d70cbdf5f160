"""What holds the programs the mini-agent runs: the best that is installed, and it is told which."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scillm.plugins.registry import Registry
from scillm_codex.agent.opening import ToolPlan, with_tools
from scillm_codex.agent.records import Call
from support.faulty import CHAT_PATH, FaultyServer, Json, completion_object

if TYPE_CHECKING:
    from pathlib import Path

    from scillm_codex.agent.records import ToolAnswer
    from scillm_codex.agent.toolbox import Toolbox

CODE = "import os; print('parent', os.getppid()); print(6 * 7)"


TOOLCHAINS = {"javascript": "node", "rust": "rustc", "go": "go"}
SAYS = {
    "python": "print('said', 42)",
    "javascript": "console.log('said', 42)",
    "rust": 'fn main() { println!("said {}", 42); }',
    "go": 'package main\nimport "fmt"\nfunc main() { fmt.Println("said", 42) }',
}
FAILS = {
    "python": "print('said', 42)\nraise ValueError('kaput')",
    "javascript": "console.log('said', 42); throw new Error('kaput')",
    "rust": 'fn main() { println!("said {}", 42); panic!("kaput"); }',
    "go": 'package main\nimport "fmt"\nfunc main() { fmt.Println("said", 42); panic("kaput") }',
}


def calls(code: str) -> Json:
    reply = completion_object("", model="scripted")
    function = {"name": "exec_python", "arguments": json.dumps({"code": code})}
    message = {
        **reply["choices"][0]["message"],
        "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
    }
    choice = {**reply["choices"][0], "message": message, "finish_reason": "tool_calls"}
    return Json({**reply, "choices": [choice]})


@pytest.mark.parametrize(
    ("switched_off", "description", "held_by"),
    [
        ("", "CodeWorld's sandbox, level L", "CodeWorld, level L"),
        ("scillm-codeworld", "a plain restricted process (", "a plain restricted process ("),
    ],
    ids=["codeworld", "plain"],
)
def test_programs_run_in_codeworlds_sandbox_where_it_is_installed(
    switched_off: str,
    description: str,
    held_by: str,
    faulty_server: FaultyServer,
    tmp_path: Path,
) -> None:
    """Installing scillm-codeworld is enough; without it a plain process runs them, and says so.

    Both the model, before it calls, and the record of the call are told what holds the program.
    """
    if not switched_off:
        pytest.importorskip("scillm_codeworld")
    faulty_server.queue(CHAT_PATH, calls(CODE), Json(completion_object("42", model="scripted")))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SCILLM_", "MINI_AGENT_"))}
    ran = subprocess.run(
        [sys.executable, "-m", "scillm", "mini-agent", "run", "Six times seven?", "--json",
         "-m", "openai/scripted", "--tool", "python"],
        env={
            **kept,
            "HOME": str(tmp_path),
            "OPENAI_BASE_URL": faulty_server.base_url,
            "OPENAI_API_KEY": "sk-of-a-test",
            "SCILLM_PLUGINS_DISABLE": switched_off,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (call,) = json.loads(ran.stdout)["parsed_tools"]
    asked: list[Any] = [request.json for request in faulty_server.requests]
    (offered,) = asked[0]["tools"]

    assert "42" in asked[1]["messages"][-1]["content"]
    assert f"runs in {description}" in offered["function"]["description"]
    assert call["held_by"].startswith(held_by)


def outcomes(language: str, *programs: str) -> list[ToolAnswer]:
    """What the tool for `language` answers, with the plugins that are installed."""
    if shutil.which(TOOLCHAINS.get(language, "")) is None and language in TOOLCHAINS:
        pytest.skip(f"no toolchain for {language} here")

    async def work(box: Toolbox) -> list[ToolAnswer]:
        name = f"exec_{language}"
        return [
            await box.carry_out(Call(id=str(n), name=name, arguments={"code": code}))
            for n, code in enumerate(programs)
        ]

    async def main() -> list[ToolAnswer]:
        plan = ToolPlan(tools=[language])
        transport: Any = None
        return await with_tools(plan, work, plugins=Registry(), transport=transport)

    return anyio.run(main)


@pytest.mark.parametrize("language", SAYS)
def test_what_a_program_prints_reaches_the_model(language: str) -> None:
    """Plain text, in every language; of a program that fails as well, with what went wrong."""
    pytest.importorskip("scillm_codeworld")
    said, failed = outcomes(language, SAYS[language], FAILS[language])

    assert (said.ok, said.text) == (True, "said 42")
    assert failed.ok is False
    assert failed.text.startswith("said 42\n[stderr]\n")
    assert "kaput" in failed.text
