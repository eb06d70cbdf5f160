"""The tool that runs commands: exactly those that were allowed, word for word, without a shell."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import UsageError

from scillm_codex.agent.records import ToolAnswer, ToolSpec
from scillm_codex.agent.tools.process import run_command

if TYPE_CHECKING:
    from scillm.records import Json

PATH = "/usr/local/bin:/usr/bin:/bin"


def read_allowed(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Command lines as people write them; `UsageError` for one that is none."""
    allowed = []
    for text in texts:
        try:
            argv = tuple(shlex.split(text))
        except ValueError as error:
            raise UsageError(f"{text!r} is no command line: {error}.") from error
        if not argv:
            raise UsageError("An allowed command must have at least one word.")
        allowed.append(argv)
    return tuple(allowed)


class CommandTool:
    """run_command, in the work folder, with an environment of PATH and HOME only."""

    def __init__(self, allowed: Sequence[Sequence[str]], *, folder: Path, timeout_s: float) -> None:
        self._allowed = [tuple(argv) for argv in allowed]
        self._folder = folder
        self._timeout_s = timeout_s
        shown = "; ".join(shlex.join(argv) for argv in self._allowed)
        self.tools = [
            ToolSpec(
                name="run_command",
                description="Run one of these commands, word for word, in the work folder: "
                f"{shown}. There is no shell.",
                parameters={
                    "type": "object",
                    "properties": {
                        "argv": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "The command's words.",
                        }
                    },
                    "required": ["argv"],
                    "additionalProperties": False,
                },
            )
        ]

    async def call(self, _name: str, arguments: Mapping[str, Json], /) -> ToolAnswer:
        """Run it; see `Source`."""
        argv = tuple(arguments["argv"])
        if argv not in self._allowed:
            shown = "; ".join(shlex.join(known) for known in self._allowed)
            return ToolAnswer(
                ok=False,
                text=f"Error: not run. {shlex.join(argv)!r} is not allowed; allowed are, word for "
                f"word: {shown}.",
            )
        ended = await run_command(
            (shutil.which(argv[0], path=PATH) or argv[0], *argv[1:]),
            env={"PATH": PATH, "HOME": str(self._folder), "LANG": "C.UTF-8"},
            cwd=self._folder,
            timeout_s=self._timeout_s,
        )
        parts = [ended.stdout.rstrip()] if ended.stdout.strip() else []
        if ended.stderr.strip():
            parts.append(f"[stderr]\n{ended.stderr.rstrip()}")
        if ended.code is None:
            parts.append(f"Error: stopped after {self._timeout_s:g} s.")
        elif ended.code:
            parts.append(f"Error: exit status {ended.code}.")
        return ToolAnswer(
            text="\n".join(parts) or "(no output)",
            ok=ended.code == 0,
            detail={"code": ended.code},
        )
