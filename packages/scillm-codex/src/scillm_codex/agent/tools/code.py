"""The tools that run programs the model writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_codex.agent.records import ToolAnswer, ToolSpec
from scillm_codex.agent.tools.runners import told

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codex.agent.tools.runners import Runner

PREFIX = "exec_"
MORE: Mapping[str, str] = {
    "python": "Only the standard library. Print what you want to see.",
    "javascript": "Node.js, CommonJS. Print what you want to see with console.log.",
    "rust": "A whole program with main. Print what you want to see.",
    "go": "A whole program, package main. Print what you want to see.",
}


class CodeTools:
    """exec_python and its like, in one runner."""

    def __init__(self, runner: Runner, *, languages: Sequence[str], timeout_s: float) -> None:
        self._runner = runner
        self._timeout_s = timeout_s
        self.tools = [
            _spec(language, runner.held_by)
            for language in runner.languages
            if language in languages
        ]

    async def call(self, name: str, arguments: Mapping[str, Json], /) -> ToolAnswer:
        """Run `code`; see `Source`."""
        ran = await self._runner.run(
            name.removeprefix(PREFIX), arguments["code"], timeout_s=self._timeout_s
        )
        return ToolAnswer(
            text=told(ran),
            ok=ran.status == "ok",
            detail={"status": ran.status, "held_by": ran.held_by},
        )


def _spec(language: str, held_by: str) -> ToolSpec:
    return ToolSpec(
        name=f"{PREFIX}{language}",
        description=f"Run a {language.capitalize()} program and see what it prints. It runs in "
        f"{held_by}: no files, network or environment of this machine, nothing kept between two "
        f"calls. {MORE.get(language, '')}",
        parameters={
            "type": "object",
            "properties": {"code": {"type": "string", "description": "The program."}},
            "required": ["code"],
            "additionalProperties": False,
        },
    )
