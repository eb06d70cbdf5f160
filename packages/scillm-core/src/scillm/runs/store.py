"""The run store: one folder per run under one root, written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, frozen

from scillm.errors import StoredRunError
from scillm.records import Job
from scillm.runs.manifest import Manifest, from_text, sealed, unsealed

if TYPE_CHECKING:
    from datetime import datetime

NAME = "manifest.json"
BEGUN = "job.json"
"""What a recorded run has from its first moment; without `NAME` beside it, it is unfinished."""
BEGUN_SCHEMA = "scillm.job/1"
TRIES = 20


@frozen(kw_only=True)
class Begun:
    """A run that was begun: its folder, and what it is to do."""

    run_id: str
    created: str
    job: Job
    folder: Path


class RunStore:
    """Manifests under `root`; the folder's name is the run's id. Remembers only its root."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()

    def new_id(self, now: datetime) -> str:
        """An id that is free in this store: UTC time and four random hex digits."""
        for _ in range(TRIES):
            run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
            if not (self.root / run_id).exists():
                return run_id
        raise StoredRunError(f"No free run id in {self.root} after {TRIES} tries.")

    def save(self, manifest: Manifest) -> Path:
        """Write `manifest` and return its path; `StoredRunError` if its id is taken."""
        # Written as ASCII, since a program's output may hold lone surrogates, which have no UTF-8.
        text = json.dumps(sealed(manifest.to_dict()), indent=1, allow_nan=False)
        folder = self.root / manifest.run_id
        if (folder / NAME).exists() or not (folder / BEGUN).exists():
            self._make(manifest.run_id)
        return _written(folder / NAME, text)

    def begin(self, run_id: str, job: Job, *, created: str) -> Begun:
        """Make the folder of a run that is to be recorded; `StoredRunError` if its id is taken."""
        document = {"schema": BEGUN_SCHEMA, "run_id": run_id, "created": created}
        text = json.dumps({**document, "job": asdict(job)}, indent=1, allow_nan=False)
        folder = self._make(run_id)
        _written(folder / BEGUN, text)
        return Begun(run_id=run_id, created=created, job=job, folder=folder)

    def begun(self, run_id: str) -> Begun:
        """The unfinished run with this id or the only one that starts so; `StoredRunError`."""
        return begun_in(self.root / self._one(run_id, self.unfinished(), "unfinished run"))

    def ids(self) -> list[str]:
        """Ids of the finished runs, oldest first."""
        return self._folders_with(NAME)

    def unfinished(self) -> list[str]:
        """Ids of the runs that were begun and did not end, oldest first."""
        finished = set(self.ids())
        return [name for name in self._folders_with(BEGUN) if name not in finished]

    def load(self, run_id: str) -> Manifest:
        """The run with this id or with the only id that starts so; `StoredRunError` otherwise."""
        path = self.root / self._one(run_id, self.ids(), "run") / NAME
        return from_text(_text_of(path), where=str(path))

    def folder(self, run_id: str) -> Path:
        """The folder of the finished run with this id or the only one that starts so."""
        return self.root / self._one(run_id, self.ids(), "run")

    def _make(self, run_id: str) -> Path:
        folder = self.root / run_id
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise StoredRunError(f"The run {run_id} is already in {self.root}.") from None
        return folder

    def _folders_with(self, name: str) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if (entry / name).is_file())

    def _one(self, run_id: str, ids: list[str], what: str) -> str:
        matches = [run_id] if run_id in ids else [name for name in ids if name.startswith(run_id)]
        if not run_id or len(matches) != 1:
            found = f"{len(matches)} {what}s start with" if matches else f"No {what} is called"
            raise StoredRunError(
                f"{found} {run_id!r} in {self.root}. `scillm runs list` shows what is there."
            )
        return matches[0]


def begun_in(folder: Path) -> Begun:
    """What the run in `folder` was to do; `StoredRunError` when that cannot be read."""
    path = folder / BEGUN
    try:
        document = json.loads(_text_of(path))
        if document["schema"] != BEGUN_SCHEMA:
            raise StoredRunError(
                f"{path} has schema {document['schema']!r}; this version reads {BEGUN_SCHEMA!r}."
            )
        job = Job(**document["job"])
        return Begun(run_id=document["run_id"], created=document["created"], job=job, folder=folder)
    except (ValueError, KeyError, TypeError) as error:
        raise StoredRunError(f"{path} is not the job of a run: {error!r}.") from error


def damage(folder: Path, manifest: Manifest) -> list[str]:
    """What was changed about the files of a finished run beside its record; empty when nothing.

    The manifest must be as it was written, and the job the one that the run began with.
    """
    found = unsealed(_text_of(folder / NAME), where=str(folder / NAME))
    begun = begun_in(folder)
    then = (begun.run_id, begun.created, begun.job)
    if then != (manifest.run_id, manifest.created, manifest.job):
        found.append(f"{folder / BEGUN} is not what the manifest says the run began with.")
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StoredRunError(f"{path} is missing, and with it a part of this run.") from None
    except UnicodeDecodeError as error:
        raise StoredRunError(f"{path} was changed after it was written: {error}.") from error


def _written(path: Path, text: str) -> Path:
    """Write an ASCII file whole or not at all, and onto the disk."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path
