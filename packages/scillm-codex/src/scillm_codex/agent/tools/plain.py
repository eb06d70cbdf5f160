"""Programs in a restricted process of our own, for where CodeWorld's sandbox is not installed.

It needs Landlock (Linux 5.13): without it no program is run, because it could read this machine's
files. Python and JavaScript only.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from scillm.errors import SandboxError

from scillm_codex.agent.tools.process import Ended, run_command
from scillm_codex.agent.tools.runners import Ran

INSIDE = Path(__file__).with_name("inside.py")
REFUSED, LATE = 97, 98
"""Exit statuses of `inside.py`; a program may use them too, and is then told so."""
GRACE_S = 5.0
MEMORY_BYTES = 1 << 30
PROBE = """import os
try:
    open("/etc/passwd").read()
    found = "open"
except OSError:
    found = "closed"
print(found, os.environ["SCILLM_HELD_BY"], sep="|")
"""
SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/ssl/openssl.cnf",
    "/dev/urandom",
)
FILES = {"python": "program.py", "javascript": "program.js"}


class PlainRunner:
    """Runs programs with no files, network and environment of this machine. Remembers its probe."""

    def __init__(self) -> None:
        self.languages: tuple[str, ...] = ()
        self.held_by = ""

    async def open(self) -> PlainRunner:
        """Try it out; `SandboxError` when programs cannot be kept from this machine's files."""
        if sys.platform != "linux":
            raise SandboxError(f"Programs are restricted on Linux only; this is {sys.platform}.")
        ran = await self._run("python", PROBE, timeout_s=20.0)
        seen, _, held = ran.stdout.strip().partition("|")
        if ran.code != 0 or seen != "closed":
            raise SandboxError(
                f"Programs cannot be kept from this machine's files: {ran.stderr or ran.stdout}"
            )
        self.held_by = f"a plain restricted process ({held})"
        self.languages = ("python", *(["javascript"] if shutil.which("node") else []))
        return self

    async def run(self, language: str, code: str, *, timeout_s: float) -> Ran:
        """See `Runner`."""
        ended = await self._run(language, code, timeout_s=timeout_s)
        if ended.code in (None, LATE):
            status, reason = "timeout", f"stopped after {timeout_s:g} s"
        elif ended.code == REFUSED:
            status, reason = "refused", "the restricted process could not be made"
        elif ended.code:
            status, reason = "failed", f"exit status {ended.code}"
        else:
            status, reason = "ok", ""
        return Ran(
            status=status,
            stdout=ended.stdout,
            stderr=ended.stderr,
            reason=reason,
            held_by=self.held_by,
        )

    async def _run(self, language: str, code: str, *, timeout_s: float) -> Ended:
        with tempfile.TemporaryDirectory(prefix="mini-agent-") as folder:
            program = Path(folder) / FILES[language]
            program.write_text(code, encoding="utf-8", errors="replace")
            order = {
                "argv": _argv(language, str(program)),
                "cwd": folder,
                "readable": [*SYSTEM, *_interpreters()],
                "writable": [folder, "/dev/null"],
                "time_s": timeout_s,
                "memory_bytes": MEMORY_BYTES,
            }
            return await run_command(
                [_python(), "-I", "-S", "-B", str(INSIDE)],
                env={"PATH": "/usr/bin:/bin"},
                cwd=Path(folder),
                input=json.dumps(order).encode() + b"\n",
                timeout_s=timeout_s + GRACE_S,
            )


def _argv(language: str, program: str) -> list[str]:
    if language == "python":
        return [_python(), "-I", "-S", "-B", program]
    node = shutil.which("node")
    return [os.path.realpath(node or "node"), program]


def _python() -> str:
    return str(Path(sys.executable).resolve())


def _interpreters() -> list[str]:
    node = shutil.which("node")
    found = [Path(sys.base_prefix) / part for part in ("bin", "lib")]
    return [*map(str, found), *([os.path.realpath(node)] if node else [])]
