"""The `scillm` command as a real process, with the core and chosen plugins installed."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import attrs
import click
import scillm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEADLINE_S = 60.0


@attrs.frozen(kw_only=True)
class Done:
    """A finished process."""

    code: int
    out: str
    err: str


class Installation:
    """The core and its libraries in a folder of their own, without the other SciLLM packages.

    Remembers what was added. Processes see neither the caller's settings nor its home folder.
    """

    def __init__(self, folder: Path, *, without: Sequence[str] = ()) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.runs = folder / "runs"
        self.site = folder / "site"
        self.paths = [self.site]
        for path in (self.home, self.site):
            path.mkdir()
        for entry in Path(click.__file__).parents[1].iterdir():
            ours = entry.name.startswith("scillm") and not entry.name.startswith("scillm_core-")
            if not ours and entry.suffix != ".pth" and entry.name not in without:
                (self.site / entry.name).symlink_to(entry)
        (self.site / "scillm").symlink_to(Path(scillm.__file__).parent)

    def add(
        self,
        name: str,
        *,
        points: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str],
        version: str = "1.0",
        summary: str = "",
    ) -> None:
        """Install a distribution with entry points (group → name → target) and modules."""
        root = self.folder / name
        info = root / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n"
        (info / "METADATA").write_text(head, encoding="utf-8")
        lines = [
            line
            for group, targets in points.items()
            for line in (f"[{group}]", *(f"{key} = {value}" for key, value in targets.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for module, source in modules.items():
            (root / f"{module}.py").write_text(source, encoding="utf-8")
        # Before the libraries, so that a test can also put a module in front of one.
        self.paths.insert(0, root)

    def command(self, *args: str) -> list[str]:
        """The command line. Without `site`, so that nothing else on this machine is found."""
        return [sys.executable, "-S", "-W", "error", "-m", "scillm", *args]

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of the process."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join(map(str, self.paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
            "TERM": "xterm-256color",
            "SCILLM_RUNS_DIR": str(self.runs),
            **(extra or {}),
        }

    def run(self, *args: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Done:
        """Run `scillm` with pipes."""
        done = subprocess.run(
            self.command(*args),
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            env=self.environ(env),
            timeout=DEADLINE_S,
            check=False,
        )
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)

    def start(
        self,
        *args: str,
        stdin: TextIO | int = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start `scillm` with pipes; the caller reads and waits, the deadline kills."""
        process = subprocess.Popen(
            self.command(*args),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=self.environ(env),
        )
        deadline = threading.Timer(DEADLINE_S, process.kill)
        deadline.daemon = True
        deadline.start()
        return process

    def on_terminal(
        self, *args: str, columns: int = 80, env: Mapping[str, str] | None = None
    ) -> Done:
        """Run `scillm` on a terminal of that width; stdout and stderr arrive together in `out`."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        process = subprocess.Popen(
            self.command(*args), stdin=theirs, stdout=theirs, stderr=theirs, env=self.environ(env)
        )
        os.close(theirs)
        said = b""
        while chunk := _read(ours):
            said += chunk
        os.close(ours)
        code = process.wait(timeout=DEADLINE_S)
        return Done(code=code, out=said.decode("utf-8").replace("\r\n", "\n"), err="")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO, not end of file, once the last writer has gone
        return b""
