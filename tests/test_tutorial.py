"""The tutorial and the example plugin are the same, and what the tutorial builds works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.pages import files_of

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "plugins" / "first-provider.md"
EXAMPLE = ROOT / "docs" / "examples" / "scillm-markov"
TRYING_OUT = {"talk.py", "talk.txt"}
"""Files of the last step; they use the plugin and are no part of it."""
UNSHOWN = {"LICENSE", "src/scillm_markov/py.typed"}
TIMEOUT_S = 300.0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a reader has it after the last step, installed as `pip install -e` does."""
    folder = tmp_path_factory.mktemp("scillm-markov")
    for name, text in files_of(PAGE).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "src" / "scillm_markov" / "py.typed").touch()
    write_metadata(folder)
    return folder


def write_metadata(folder: Path) -> None:
    """The metadata that an editable install writes, read from the tutorial's pyproject.toml."""
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")

    def said(pattern: str) -> str:
        found = re.search(pattern, text, re.MULTILINE)
        assert found, f"{PAGE}: pyproject.toml has no line like {pattern}"
        return found[1]

    name, version = said(r'^name = "(.+)"$'), said(r'^version = "(.+)"$')
    about = folder / "src" / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
        f"Summary: {said(r'^description = .(.+).$')}\n"
        f"License-Expression: {said(r'^license = .(.+).$')}\n"
        f"Requires-Python: {said(r'^requires-python = .(.+).$')}\n"
        f"Requires-Dist: {said(r'^dependencies = ..(.+)..$')}\n"
    )
    point = said(r'^\[project\.entry-points\."scillm\.providers"\]\n(.+)$').replace('"', "")
    (about / "entry_points.txt").write_text(f"[scillm.providers]\n{point}\n")


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project's folder with the project installed."""
    kept: Mapping[str, str] = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV", "SCILLM_"))
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={**kept, "PYTHONPATH": str(project / "src"), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_the_tutorial_builds_the_example() -> None:
    """Who types the tutorial has the example, file by file."""
    shown = {k: v for k, v in files_of(PAGE).items() if k not in TRYING_OUT}
    there = {
        path.relative_to(EXAMPLE).as_posix(): path.read_text(encoding="utf-8")
        for path in EXAMPLE.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and ".hypothesis" not in path.parts
    }

    assert shown == {name: text for name, text in there.items() if name not in UNSHOWN}
    assert there.keys() >= UNSHOWN
    assert there["LICENSE"] == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_plugin_of_the_tutorial_conforms(project: Path) -> None:
    """The tests that the tutorial writes pass, the conformance suites among them."""
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    counted = re.search(r"(\d+) passed(?:, \d+ skipped)? in", done.stdout)

    assert done.returncode == 0, done.stdout
    assert counted, done.stdout
    assert int(counted[1]) > 40


def test_the_plugin_of_the_tutorial_answers(project: Path) -> None:
    """The last step prints what the page shows."""
    done = run(project, "-W", "error", "talk.py")

    assert done.stdout == (project / "talk.txt").read_text(encoding="utf-8")


def test_the_plugin_of_the_tutorial_is_listed(project: Path) -> None:
    """`scillm plugins` shows it, with the distribution it comes from."""
    done = run(project, "-m", "scillm", "plugins")
    lines = [line.split() for line in done.stdout.splitlines()]

    assert ["markov", "scillm.providers", "scillm-markov", "0.1.0", "ok"] in lines
