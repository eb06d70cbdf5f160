"""Level wasm's interpreter for tests: built once in a run, for every process and page of it."""

from __future__ import annotations

import fcntl
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def cells_of_run(temporary: pytest.TempPathFactory) -> Path:
    """The folder of this run, the same in each of xdist's processes; empty, or with the cell."""
    base = temporary.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "wasm-cells"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def with_cell(folder: Path) -> Path:
    """`folder` with the interpreter in it, made by whoever asks first (20 s of processor)."""
    if find_spec("wasmtime") is None or find_spec("componentize_py") is None:
        return folder
    from scillm_codeworld.sandbox.wasm.component import prepared

    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepared(folder)
    return folder
