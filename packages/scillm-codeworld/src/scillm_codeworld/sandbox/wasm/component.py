"""The component: built from the guest by `componentize-py`, compiled, and kept in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from scillm.errors import SandboxError

HERE = Path(__file__).parent
SOURCES = {"guest.py": HERE / "guest.py", "runner.py": HERE.parent / "runner.py"}
WORLD = """package scillm:codeworld;

world cell {
  export load: func(request: string) -> string;
  export call: func(value: string) -> string;
}
"""
NEEDED = ("wasmtime", "componentize-py")
BUILD_S = 300.0
BUILD, COMPILE = "build", "compile"
MAKING = "making-"
LEFT_S = 3 * BUILD_S
"""A folder this old is nobody's work any more: its two steps have long been ended."""


def versions() -> dict[str, str]:
    """The versions of what the level needs; `SandboxError` naming what is missing."""
    found: dict[str, str] = {}
    for name in NEEDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError as error:
            raise SandboxError(
                f"wasm: the package {name} is not installed; pip install 'scillm-codeworld[wasm]'"
            ) from error
    return found


def key() -> str:
    """What the component follows from: sources, versions and machine, as a short digest."""
    known = hashlib.sha256(WORLD.encode())
    for name in sorted(SOURCES):
        known.update(SOURCES[name].read_bytes())
    known.update(repr((sorted(versions().items()), platform.machine(), sys.platform)).encode())
    return known.hexdigest()[:32]


def prepared(folder: Path) -> tuple[Path, str]:
    """The compiled component in `folder`, made when it is not there, and the component's digest.

    The folder is made for its owner alone, and refused when others could write to it: what lies
    there is run as machine code. Raises `SandboxError` when it cannot be made.
    """
    place = folder / f"cell-{key()}"
    made, compiled = place / "cell.wasm", place / "cell.cwasm"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(folder)
        if not compiled.exists():
            _make(folder, place)
        check_private(place)
        return compiled, hashlib.sha256(made.read_bytes()).hexdigest()
    except OSError as error:
        raise SandboxError(
            f"wasm: the interpreter cannot be kept in {folder}: {error}. Name a folder that can be "
            "written to in SCILLM_CODEWORLD_WASM_CACHE."
        ) from error


def check_private(folder: Path) -> None:
    """`SandboxError` when another user could have put something into `folder`."""
    found = folder.stat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise SandboxError(
            f"wasm: {folder} belongs to another user or can be written to by others, so what lies "
            "there is not run; name a folder of your own in SCILLM_CODEWORLD_WASM_CACHE"
        )


def _make(folder: Path, place: Path) -> None:
    """Build beside the place and move there at once, so that nobody finds half of it."""
    sweep(folder, now=time.time())
    work = Path(tempfile.mkdtemp(prefix=MAKING, dir=folder))
    try:
        for name, source in SOURCES.items():
            shutil.copyfile(source, work / name)
        (work / "world.wit").write_text(WORLD, encoding="utf-8")
        for step in (BUILD, COMPILE):
            _run(step, work)
        try:
            work.rename(place)
        except OSError:
            if not (place / "cell.cwasm").exists():
                raise  # not another process that was faster
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sweep(folder: Path, *, now: float) -> None:
    """Remove what makers that were killed have left; `now` in seconds since the epoch."""
    for left in folder.glob(f"{MAKING}*"):
        with contextlib.suppress(FileNotFoundError):  # another sweeper was faster
            if now - left.stat().st_mtime > LEFT_S:
                shutil.rmtree(left)


def _run(step: str, work: Path) -> None:
    """One step in a process of its own: building keeps half a gigabyte for as long as it lives."""
    script = str(HERE / "making.py")
    leash, ours = os.pipe()  # it ends when its other end is closed, by us or by our own end
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, script, step],
            cwd=work,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=leash,
            capture_output=True,
            timeout=BUILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SandboxError(f"wasm: the {step} step did not end within {BUILD_S:g} s") from error
    finally:
        os.close(leash)
        os.close(ours)
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace")[-1000:]
        raise SandboxError(f"wasm: the {step} step ended with code {done.returncode}: {said}")
