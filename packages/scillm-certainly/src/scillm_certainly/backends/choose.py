"""Which Lean is used: native, then a REPL, then the embedded one; or the one that was asked for."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import UsageError

from scillm_certainly.backends.install import INTEGRITY, require_runtime
from scillm_certainly.backends.node import find_node
from scillm_certainly.backends.records import REPL, Backend
from scillm_certainly.errors import LeanMissingError

if TYPE_CHECKING:
    from scillm.records import Json

SOURCE = Path(__file__).parent.parent / "driver" / "driver.lean"
NATIVE, WASM = "native", "wasm"


def choose(settings: Mapping[str, Json]) -> Backend:
    """The backend that the settings ask for, or the first that is there.

    Raises `LeanMissingError` saying for each why it cannot be used, `UsageError` for a name that
    is none.
    """
    wanted = settings.get("certainly_backend")
    if wanted is not None and wanted not in FINDERS:
        raise UsageError(
            f"SCILLM_CERTAINLY_BACKEND must be one of {', '.join(FINDERS)}, but is {wanted!r}."
        )
    reasons: list[str] = []
    for name, find in FINDERS.items():
        if wanted in (None, name):
            try:
                return find(settings)
            except LeanMissingError as error:
                reasons.append(f"{name}: {error.message}")
    raise LeanMissingError("No Lean can be used. " + " ".join(reasons))


def native(settings: Mapping[str, Json]) -> Backend:
    """A Lean toolchain of this machine, in its Lake project when one is named."""
    program = settings.get("certainly_lean") or shutil.which("lean")
    if program is None:
        elan = Path.home() / ".elan" / "bin" / "lean"
        program = str(elan) if elan.exists() else None
    if program is None:
        raise LeanMissingError("no `lean` on PATH, in LEAN_BIN or in ~/.elan/bin.")
    if not os.access(program, os.X_OK):
        raise LeanMissingError(f"{program} is no program that can be run.")
    project = settings.get("certainly_project")
    command = [str(program), str(SOURCE)]
    if project is not None:
        lake = Path(program).with_name("lake")
        command = [str(lake), "--dir", str(project), "env", *command]
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "ELAN_HOME") if name in os.environ}
    return Backend(
        name=NATIVE,
        command=command,
        environment={**kept, "LEAN_NUM_THREADS": "2"},
        memory_mb=memory_of(settings),
        driver=driver_hash(),
        sandbox=settings.get("certainly_sandbox"),
        lean=str(program),
        project="" if project is None else str(project),
    )


def repl(settings: Mapping[str, Json]) -> Backend:
    """An existing REPL binary, run in its project when one is named."""
    program = settings.get("certainly_repl")
    if program is None:
        raise LeanMissingError("no REPL is named in SCILLM_CERTAINLY_REPL.")
    if not os.access(program, os.X_OK):
        raise LeanMissingError(f"{program} is no program that can be run.")
    project = settings.get("certainly_project")
    command = [str(program)]
    if project is not None:
        command = [shutil.which("lake") or "lake", "--dir", str(project), "env", *command]
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "ELAN_HOME") if name in os.environ}
    return Backend(
        name=REPL,
        command=command,
        environment=kept,
        dialect=REPL,
        memory_mb=memory_of(settings),
    )


def wasm(settings: Mapping[str, Json]) -> Backend:
    """The embedded Lean; raises `LeanMissingError` when Node or the runtime is missing."""
    runtime = require_runtime(Path(settings["certainly_home"]))
    node = find_node(settings.get("certainly_node"))
    return Backend(
        name=WASM,
        command=[node.program, str(runtime / "bin/lean.js"), "driver.lean"],
        environment={
            "LEAN_PATH": "/lean/lib/lean",
            "LEAN_WASM_ROOT": str(runtime),
            "CERTAINLY_DRIVER": str(SOURCE),
        },
        package=INTEGRITY,
        driver=driver_hash(),
    )


def memory_of(settings: Mapping[str, Json]) -> int:
    """Megabytes a Lean of this machine may have, 0 for no bound; `UsageError` below that."""
    memory_mb = int(settings.get("certainly_memory_mb") or 0)
    if memory_mb < 0:
        raise UsageError(
            f"SCILLM_CERTAINLY_MEMORY_MB must be 0 (no bound) or more, but is {memory_mb}."
        )
    return memory_mb


def driver_hash() -> str:
    """SHA-256 of the checker that is given to Lean."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()


FINDERS: Mapping[str, Callable[[Mapping[str, Json]], Backend]] = {
    NATIVE: native,
    REPL: repl,
    WASM: wasm,
}
"""In the order in which they are tried."""
