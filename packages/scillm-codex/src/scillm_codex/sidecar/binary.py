"""Finding the Codex binary: the setting, PATH (through npm's shim), or the bundled one of PyPI."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from attrs import frozen
from scillm.errors import EngineError, UsageError

TESTED = ((0, 163), (0, 169))
"""First and last minor version that is taken without a word; both ends were tested."""
INSTALL = (
    "Install it with `npm install -g @openai/codex@0.169.0` or `pip install openai-codex`, or set "
    "SCILLM_CODEX_BIN to the binary."
)
VERSION_S = 20.0
NATIVE = "node_modules/@openai/codex-*/vendor/*/bin/codex"
"""Where npm puts the platform's binary, below the folder that holds `node_modules`."""


@frozen(kw_only=True)
class Binary:
    """A Codex binary and where it was found."""

    path: Path
    source: str
    version: str = ""

    @property
    def tested(self) -> bool:
        """Whether this version lies in the tested range."""
        number = version_number(self.version)
        return number is not None and TESTED[0] <= number[:2] <= TESTED[1]


def version_number(text: str) -> tuple[int, int, int] | None:
    """The version in `codex --version`'s line, `codex-cli 0.169.0`; None when there is none."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def find_binary(setting: Path | str | None = None, *, path: str | None = None) -> Binary:
    """The binary, without its version; raises `UsageError` with both install lines.

    `setting` is what SCILLM_CODEX_BIN says; `path` stands in for the variable PATH.
    """
    if setting:
        chosen = Path(setting).expanduser()
        if not chosen.is_file():
            raise UsageError(f"SCILLM_CODEX_BIN points to {chosen}, which is no file. {INSTALL}")
        return Binary(path=native_of(chosen), source="SCILLM_CODEX_BIN")
    on_path = shutil.which("codex", path=path)
    if on_path:
        return Binary(path=native_of(Path(on_path)), source="PATH")
    bundled = _bundled()
    if bundled is not None:
        return Binary(path=bundled, source="the package openai-codex-cli-bin")
    raise UsageError(f"The Codex CLI was not found: no `codex` in PATH. {INSTALL}")


def native_of(found: Path) -> Path:
    """The platform's binary behind npm's shim, or `found` itself.

    The shim costs a node process and 60 to 100 ms, and signals stop at it.
    """
    real = found.resolve()
    if real.suffix != ".js":
        return real
    for folder in real.parents:
        native = sorted(folder.glob(NATIVE))
        if native:
            return native[0]
    return real


def with_version(binary: Binary) -> Binary:
    """`binary` with what it says its version is; raises `EngineError` when it does not run."""
    try:
        done = subprocess.run(  # noqa: S603 - the binary the user chose or installed
            [str(binary.path), "--version"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=VERSION_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{binary.path} does not run: {error}. {INSTALL}") from error
    said = done.stdout.decode("utf-8", "replace").strip()
    number = version_number(said)
    if done.returncode or number is None:
        raise EngineError(
            f"{binary.path} --version should print a version, but it ended with "
            f"{done.returncode} and said {said[:200]!r}. {INSTALL}"
        )
    return Binary(path=binary.path, source=binary.source, version=".".join(map(str, number)))


def untested(binary: Binary) -> str:
    """What to say about a version outside of the tested range."""
    first, last = (".".join(map(str, end)) for end in TESTED)
    return f"Codex {binary.version} is outside of the tested range, {first} to {last}."


def _bundled() -> Path | None:
    if importlib.util.find_spec("codex_cli_bin") is None:
        return None
    package = importlib.import_module("codex_cli_bin")
    found = Path(str(package.bundled_codex_path()))
    return found if found.is_file() else None
