"""Every command and code block of the documentation does what its page says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.lean import lean_settings
from support.pages import Block, blocks, fits, problem
from support.run_page import commands
from support.wasm_cell import cells_of_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.faulty import FaultyServer

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("README.md", "docs/**/*.md", "packages/*/README.md")
    for path in ROOT.glob(pattern)
)
TIMEOUT_S = 300.0
FORGOTTEN = ("PYTEST", "COV", "SCILLM_", "LITELLM_", "OPENAI_", "CHUTES_", "CODEX_")
# A Lean takes 121 MB to fetch: pages find the one that all tests share.
LEAN = {
    "SCILLM_CERTAINLY_HOME": os.environ.get("SCILLM_CERTAINLY_HOME")
    or str(Path.home() / ".cache" / "scillm" / "certainly"),
    "SCILLM_CERTAINLY_WORKERS": "1",
    "SCILLM_CERTAINLY_SPARE": "0",
}

NOTHING: Mapping[str, str] = {}


def environment(home: Path, server: FaultyServer) -> Mapping[str, str]:
    """A new user's: no setting, an empty home; `openai/…` is a strict server on loopback."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FORGOTTEN)}
    support = Path(__file__).parent
    return {
        **kept,
        "HOME": str(home),
        "OPENAI_BASE_URL": server.base_url,
        "OPENAI_API_KEY": "sk-of-a-page",
        **LEAN,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(support), str(support / "support" / "guarded")]),
    }


def run_page(
    page: Path, folder: Path, server: FaultyServer, shared: Mapping[str, str] = NOTHING
) -> subprocess.CompletedProcess[str]:
    """Run a page's blocks as a new user would, in a folder of their own with a copy of `docs/`."""
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    shutil.copytree(ROOT / "docs", work / "docs")
    return subprocess.run(
        [sys.executable, "-m", "support.run_page", str(page)],
        cwd=work,
        env={**environment(home, server), **shared},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_block_of_a_page_runs(
    page: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    faulty_server: FaultyServer,
) -> None:
    """Typing in a page from top to bottom works; a block that is not run says why."""
    if page.name == "certainly.md":
        lean_settings()
    cells = {"SCILLM_CODEWORLD_WASM_CACHE": str(cells_of_run(tmp_path_factory))}
    done = run_page(ROOT / page, tmp_path, faulty_server, cells)

    assert done.returncode == 0, done.stdout


OUTSIDE = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"  # RFC 5737
BROKEN = {
    "python": "```python\nassert False, 'no'\n```\n",
    "exit": "```python\nraise SystemExit(0)\n```\n",
    "second python": "```python\nx = 1\n```\n\n```python\ny + x\n```\n",
    "bash": "```bash\nfalse | true\n```\n",
    "console": "```console\n$ echo 1\n2\n```\n",
    "console without prompt": "```console\necho 1\n```\n",
    "output": "```python\nprint(1)\n```\n\n<!-- output -->\n```text\n2\n```\n",
    "json": '```json\n{"a": }\n```\n',
    "no language": "```\necho 1\n```\n",
    "no reason": "<!-- not run: -->\n```bash\nfalse\n```\n",
    "reason elsewhere": "<!-- not run: far away -->\n\nText.\n\n```bash\nfalse\n```\n",
    "title outside": "```text title=../x\n1\n```\n",
    "traffic": f"```python\n{OUTSIDE}\n```\n",
    "traffic of a child": f'```bash\npython -c "{OUTSIDE}"\n```\n',
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_a_block_that_fails_is_named(
    tmp_path: Path, faulty_server: FaultyServer, body: str
) -> None:
    """A page with a wrong block fails, and the report says page and line."""
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{body}")
    last = list(blocks(page.read_text()))[-1]
    done = run_page(page, tmp_path, faulty_server)

    assert done.returncode == 1
    assert f"page.md:{last.line}: " in done.stdout
    assert "failed\n" in done.stdout


def test_a_sound_page_runs_whole(tmp_path: Path, faulty_server: FaultyServer) -> None:
    """Blocks share names and files, may await, and are compared with what the page shows."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python title=greet.py\nprint('hello')\n```\n\n"
        "1. In a list:\n\n   ```console\n   $ python greet.py\n   hello\n   ```\n\n"
        "```python\nimport scillm\nmessages = [{'role': 'user', 'content': 'Hi'}]\n"
        "answer = await scillm.acompletion('openai/m', messages)\n```\n\n"
        "```python\nprint(answer.text)\n```\n\n<!-- output -->\n```text\necho:...\n```\n\n"
        "<!-- not run: needs a GPU -->\n```bash\nfalse\n```\n"
    )
    done = run_page(page, tmp_path, faulty_server)

    assert done.returncode == 0, done.stdout
    assert [line.partition(": ")[2] for line in done.stdout.splitlines()] == [
        "greet.py block: written to greet.py",
        "console block: run",
        "python block: run",
        "python block: run",
        "text block: compared",
        "bash block: not run: needs a GPU",
    ]


@given(body=st.lists(st.text("ab `~\n", max_size=9)).map("\n".join), title=st.booleans())
def test_a_block_is_read_as_it_was_written(body: str, title: bool) -> None:
    """Whatever stands in a block, its text, language, file name and line come out."""
    written = body if not body or body.endswith("\n") else f"{body}\n"
    info = "python title=a/b.py" if title else "python"
    page = f"Text.\n\n`````````` {info}\n{written}``````````\n"
    (found,) = blocks(page.replace("``````````", "`" * (len(body) + 10)))

    assert found == Block(
        language="python", body=written, line=4, title="a/b.py" if title else None
    )
    assert problem(found) is None


@given(head=st.text("ab\n"), middle=st.text("ab.\n"), tail=st.text("ab\n"))
def test_dots_stand_for_anything(head: str, middle: str, tail: str) -> None:
    """A shown output fits what was printed when only its `...` differ."""
    assert fits(f"{head}...{tail}", f"{head}{middle}{tail}")
    assert not fits(f"{head}x...{tail}", f"{head}{middle}{tail}")


def test_console_commands_may_be_continued() -> None:
    """A backslash carries a command on to the next line."""
    body = "$ echo a \\\n> b\na b\n$ true\n"

    assert commands(body) == [("echo a \\\nb", "a b\n"), ("true", "")]
