"""Runs the blocks of one Markdown page in order: `python -m support.run_page PAGE`, in its folder.

Python blocks share one namespace and may await; shell blocks share the folder. The first block that
fails ends the run with exit status 1 and its page and line.
"""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import traceback
from contextlib import redirect_stdout
from inspect import CO_COROUTINE
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import anyio

from support.pages import SHELLS, Block, blocks, fits, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SHELL_TIMEOUT_S = 100.0


class BlockFailedError(Exception):
    """A block did not do what the page says."""


class PageRun:
    """One pass over a page. Remembers the Python names so far and what was printed last."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.printed: str | None = None
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def do(self, block: Block) -> str:
        """Do what is to be done with a block, and say what that was."""
        wrong = problem(block)
        if wrong is not None:
            raise BlockFailedError(wrong)
        if block.not_run is not None:
            return f"not run: {block.not_run}"
        if block.title is not None:
            return self.write(block, block.title)
        if block.output:
            return self.compare(block)
        if block.language == "json":
            json.loads(block.body)
        run = self.runners().get(block.language)
        if run is None:
            return "data"
        self.printed = run(block)
        return "run"

    def runners(self) -> Mapping[str, Callable[[Block], str]]:
        shells = dict.fromkeys(SHELLS, self.shell)
        return {"python": self.python, "console": self.console, **shells}

    def write(self, block: Block, title: str) -> str:
        path = Path(title)
        if path.is_absolute() or ".." in path.parts:
            raise BlockFailedError(f"title={title} must stay in the page's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.body, encoding="utf-8")
        return f"written to {title}"

    def compare(self, block: Block) -> str:
        if self.printed is None:
            raise BlockFailedError("`<!-- output -->` has no block before it that was run")
        if not fits(block.body, self.printed):
            raise BlockFailedError(f"the page shows\n{block.body}but it printed\n{self.printed}")
        return "compared"

    def python(self, block: Block) -> str:
        # Blank lines in front make the line numbers of a traceback those of the page.
        source = "\n" * (block.line - 1) + block.body
        code = compile(source, str(self.page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        function = FunctionType(code, self.names)
        out = io.StringIO()
        with redirect_stdout(out):
            if code.co_flags & CO_COROUTINE:
                anyio.run(function)
            else:
                function()
        return out.getvalue()

    def shell(self, block: Block) -> str:
        return shell(block.body)

    def console(self, block: Block) -> str:
        printed = ""
        for command, wanted in commands(block.body):
            printed = shell(command)
            if wanted and not fits(wanted, printed):
                raise BlockFailedError(f"$ {command}\nshould print\n{wanted}but printed\n{printed}")
        return printed


def commands(body: str) -> list[tuple[str, str]]:
    """The commands of a console block (`$ ` before each) with the output shown below each."""
    found: list[tuple[str, str]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif not found:
            raise BlockFailedError(f"a console block begins with `$ `, but this with {line!r}")
        elif found[-1][0].endswith("\\"):
            found[-1] = (f"{found[-1][0]}\n{line.removeprefix('> ')}", "")
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def shell(text: str) -> str:
    """What `text` prints when bash runs it; any failing command fails it."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SHELL_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BlockFailedError(f"{text}exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def main(page: Path) -> int:
    """Run the page; 0 when every block did what it should."""
    run = PageRun(page)
    for block in blocks(page.read_text(encoding="utf-8")):
        where = f"{page}:{block.line}: {block.title or block.language} block"
        try:
            done = run.do(block)
        except (Exception, SystemExit):  # noqa: BLE001 - a page may raise anything; it is shown
            print(f"{where} failed\n{traceback.format_exc()}", flush=True)
            return 1
        print(f"{where}: {done}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
