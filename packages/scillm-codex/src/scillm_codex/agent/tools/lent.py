"""Programs in CodeWorld's sandbox, asked of the registry by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from attrs import frozen
from scillm.errors import SandboxError, UsageError
from scillm.plugins.groups import EXTRAS
from scillm.records import Limits

from scillm_codex.agent.tools.runners import Ran

if TYPE_CHECKING:
    from scillm.protocols import Plugins

NAME = "open_sandbox"
"""The helper of group `scillm.extras` that opens it."""
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
        found = plugins.get(EXTRAS, NAME)
        if not callable(found):
            raise SandboxError(f"The helper {NAME!r} opens no sandbox; it is a {found!r}.")
        others = [name for name, tool in TOOLCHAINS.items() if shutil.which(tool)]
        try:
            self._sandbox = await self._opened(found, others, stack)
        except UsageError:
            # This CodeWorld does not know one of them; Go is the youngest.
            others = [name for name in others if name != "go"]
            self._sandbox = await self._opened(found, others, stack)
        self.held_by = f"CodeWorld's sandbox, level {self._sandbox.level}"
        return self

    async def _opened(self, found: Any, others: Sequence[str], stack: AsyncExitStack) -> Any:
        self.languages = ("python", *others)
        return await stack.enter_async_context(found(require=WEAKEST, languages=self.languages))

    async def run(self, language: str, code: str, *, timeout_s: float) -> Ran:
        """See `Runner`."""
        limits = Limits(time_s=timeout_s, memory_mb=MEMORY_MB)
        if language == "python":
            done = await self._sandbox.run(Program(code=PYTHON), code, limits)
        else:
            text = JAVASCRIPT + code if language == "javascript" else code
            done = await self._sandbox.run(Program(code=text, language=language), None, limits)
        held = f"CodeWorld, level {done.isolation.get('level', '?')}"
        shown = {"stderr": done.stderr, "held_by": held}
        if done.status != "ok":
            word = done.status if done.status == "timeout" else "failed"
            refused = done.status == "sandbox_refused"
            return Ran(
                status="refused" if refused else word,
                stdout=done.stdout,
                reason=f"{done.status}: {done.reason}",
                **shown,
            )
        if language == "python":
            good = done.output == 0
            reason = "" if good else f"exit status {done.output}"
            word = "ok" if good else "failed"
            return Ran(status=word, stdout=done.stdout, reason=reason, **shown)
        output = done.output
        text = output if language == "javascript" else json.dumps(output, ensure_ascii=False)
        return Ran(status="ok", stdout=str(text), **shown)
