"""Programs in CodeWorld's sandbox, asked of the registry by name."""

from __future__ import annotations

import json
import shutil
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from attrs import frozen
from scillm.errors import SandboxError
from scillm.plugins.groups import EXTRAS
from scillm.records import Limits

from scillm_codex.agent.tools.runners import Ran

if TYPE_CHECKING:
    from scillm.protocols import Plugins

NAME = "open_sandbox"
"""The helper of group `scillm.extras` that opens it."""
UNSERIALISABLE = "unserialisable"
WEAKEST = "L2"
"""Below it, programs could read the files of whoever runs the agent."""
TOOLCHAINS = {"javascript": "node", "rust": "rustc", "go": "go"}
MEMORY_MB = 1024

PYTHON = """import sys, traceback

def solve(source):
    try:
        exec(compile(source, "program", "exec"), {"__name__": "__main__"})
    except MemoryError:
        raise
    except SystemExit as end:
        return 0 if end.code is None else end.code if isinstance(end.code, int) else 1
    except BaseException:
        kind, error, trace = sys.exc_info()
        traceback.print_exception(kind, error, trace.tb_next)
        return 1
    return 0
"""
JAVASCRIPT = """{
  const fs = require("fs"), parts = [];
  process.stdout.write = (text) => (parts.push(String(text)), true);
  process.on("exit", () => fs.writeSync(1, JSON.stringify(parts.join(""))));
}
"""
"""CodeWorld wants one JSON value of programs that are not Python."""


@frozen(kw_only=True)
class Program:
    """What CodeWorld runs, in its words."""

    code: str
    entry: str = "solve"
    language: str = "python"


class LentRunner:
    """Runs programs in a sandbox that is open until the stack ends. Remembers the sandbox."""

    def __init__(self) -> None:
        self.languages: tuple[str, ...] = ()
        self.held_by = ""
        self._sandbox: Any = None

    async def open(self, plugins: Plugins, stack: AsyncExitStack) -> LentRunner:
        """Open it; `SandboxError` when none of level L2 or above can be had."""
        opener: Any = plugins.get(EXTRAS, NAME)
        if not callable(opener):
            raise SandboxError(f"The helper {NAME!r} opens no sandbox; it is a {opener!r}.")
        others = [name for name, tool in TOOLCHAINS.items() if shutil.which(tool)]
        self.languages = ("python", *others)
        opening: Any = opener(require=WEAKEST, languages=self.languages)
        self._sandbox = await stack.enter_async_context(opening)
        self.held_by = f"CodeWorld's sandbox, level {self._sandbox.level}"
        return self

    async def run(self, language: str, code: str, *, timeout_s: float) -> Ran:
        """See `Runner`."""
        limits = Limits(time_s=timeout_s, memory_mb=MEMORY_MB)
        if language == "python":
            done = await self._sandbox.run(Program(code=PYTHON), code, limits)
        else:
            text = JAVASCRIPT + code if language == "javascript" else code
            done = await self._sandbox.run(Program(code=text, language=language), None, limits)
        held = f"CodeWorld, level {done.isolation.get('level', '?')}"
        status, reason = done.status, f"{done.status}: {done.reason}"
        if status == UNSERIALISABLE and language != "python":
            # It ended well. Only CodeWorld wants JSON of it.
            status, reason = "ok", ""
        elif status == "ok" and language == "python" and done.output != 0:
            status, reason = "failed", f"exit status {done.output}"
        elif status not in ("ok", "timeout"):
            status = "refused" if status == "sandbox_refused" else "failed"
        return Ran(
            status=status,
            stdout=printed(done, language),
            stderr=done.stderr,
            reason="" if status == "ok" else reason,
            held_by=held,
        )


def printed(done: Any, language: str) -> str:
    """What a program wrote to stdout, which for CodeWorld is the answer of one not in Python."""
    if language == "python":
        return str(done.stdout)
    if language != "javascript":
        is_json = done.status == "ok"
        return json.dumps(done.output, ensure_ascii=False) if is_json else str(done.stdout)
    if done.status == "ok":
        return str(done.output)
    try:
        return str(json.loads(done.stdout))
    except ValueError:
        return str(done.stdout)  # ended before our own lines could write it out
