"""The real Codex CLI and OpenAI's JavaScript SDK for tests, installed from npm outside of git.

`python tests/support/codex_cli.py` installs both (about 20 s and 420 MB, once); tests only look.
The folder is SCILLM_TEST_TOOLS, or `~/.cache/scillm-test-tools`. It is not below /tmp, where Codex
refuses to work.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CODEX = os.environ.get("SCILLM_TEST_CODEX") or "0.169.0"
OPENAI_JS = "7.55.0"
INSTALL_S = 600


def tools_folder() -> Path:
    """Where the tools are, or will be."""
    given = os.environ.get("SCILLM_TEST_TOOLS")
    return Path(given) if given else Path.home() / ".cache" / "scillm-test-tools"


def codex_shim() -> Path:
    """npm's entry for `codex`."""
    return tools_folder() / f"codex-{CODEX}" / "node_modules" / ".bin" / "codex"


def openai_js() -> Path:
    """The folder in which `import OpenAI from "openai"` works."""
    return tools_folder() / f"openai-js-{OPENAI_JS}"


def install() -> None:
    """Install what is missing; raises where npm does."""
    for folder, package in (
        (codex_shim().parents[2], f"@openai/codex@{CODEX}"),
        (openai_js(), f"openai@{OPENAI_JS}"),
    ):
        if (folder / "done").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), package]
        subprocess.run(command, check=True, timeout=INSTALL_S)
        (folder / "done").write_text(package, encoding="utf-8")


def need_codex() -> Path:
    """The CLI; a test without it is skipped, and fails in CI."""
    if not (codex_shim().parents[2] / "done").exists():
        _missing(f"the Codex CLI {CODEX}")
    return codex_shim()


def need_openai_js() -> Path:
    """The SDK's folder; a test without it is skipped, and fails in CI."""
    if not (openai_js() / "done").exists() or shutil.which("node") is None:
        _missing(f"OpenAI's JavaScript SDK {OPENAI_JS}, or node")
    return openai_js()


def _missing(what: str) -> None:
    pytest.skip(f"{what} is not installed: run `python tests/support/codex_cli.py`.")


@contextmanager
def codex_root() -> Iterator[Path]:
    """A new folder for the sidecar's homes, not below /tmp; removed afterwards."""
    parent = tools_folder() / "homes"
    parent.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="root-", dir=parent))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    install()
    sys.stdout.write(f"{codex_shim()}\n{openai_js()}\n")
