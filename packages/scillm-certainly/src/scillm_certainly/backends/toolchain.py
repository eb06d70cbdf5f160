"""What a native Lean needs around it, asked of the toolchain itself (the door to its programs)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import ProverError
from scillm.protocols import KeptProgram

from scillm_certainly.backends.choose import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm_certainly.backends.records import Backend

ASK_S = 120.0
"""A Lake project may have to be read first, which runs Lean."""
SAID_CHARS = 500
NO_LIMIT_MB = 1 << 20


def native_program(backend: Backend) -> KeptProgram:
    """`lean driver.lean` as a sandbox can keep it: with the toolchain, and a project's libraries.

    elan's `lean` is a stand-in, so the real one is asked for; and `lake env` starts a process of
    its own, so it is asked for its environment out here. Raises `ProverError` with what they said.
    """
    driver = Path(backend.source or SOURCE).resolve()
    prefix = Path(_asked(backend, [backend.lean, "--print-prefix"]))
    lean = prefix / "bin" / "lean"
    if not lean.is_file():
        raise ProverError(
            f"{backend.lean} says that its toolchain is in {str(prefix)!r}, but {lean} is no file."
        )
    environment = {"HOME": ".", "TMPDIR": ".", "LEAN_NUM_THREADS": "2"}
    libraries: list[str] = []
    if backend.project:
        lake = str(Path(backend.lean).with_name("lake"))
        words = [lake, "--dir", backend.project, "env", "printenv", "LEAN_PATH"]
        places = _asked(backend, words).split(os.pathsep)
        found = [str(Path(backend.project, place).resolve()) for place in places if place]
        environment["LEAN_PATH"] = os.pathsep.join(found)
        libraries = [place for place in found if Path(place).exists()]
    return KeptProgram(
        argv=[str(lean), str(driver)],
        shown=[str(prefix), str(driver), *libraries],
        environment=environment,
        memory_mb=backend.memory_mb or NO_LIMIT_MB,
    )


def _asked(backend: Backend, words: Sequence[str]) -> str:
    """The last line a program of the toolchain prints."""
    try:
        done = subprocess.run(  # noqa: S603
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_S,
            check=False,
            cwd=backend.project or "/",
            env=dict(backend.environment),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProverError(f"`{' '.join(words)}` gave no answer: {error}.") from error
    said = done.stdout.strip()
    if done.returncode or not said:
        text = f"{said} {done.stderr.strip()}".strip()[-SAID_CHARS:]
        raise ProverError(
            f"`{' '.join(words)}` left with exit code {done.returncode} and said {text!r}."
        )
    return said.splitlines()[-1]
