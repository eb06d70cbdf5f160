"""The run store: one folder per run under one root, written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import StoredRunError
from scillm.runs.manifest import Manifest, from_text

if TYPE_CHECKING:
    from datetime import datetime

NAME = "manifest.json"
TRIES = 20


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
        text = json.dumps(manifest.to_dict(), indent=1, allow_nan=False)
        folder = self.root / manifest.run_id
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise StoredRunError(f"The run {manifest.run_id} is already in {self.root}.") from None
        path = folder / NAME
        partial = folder / f"{NAME}.partial"
        with partial.open("w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        return path

    def ids(self) -> list[str]:
        """Ids of the finished runs, oldest first."""
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if (entry / NAME).is_file())

    def load(self, run_id: str) -> Manifest:
        """The run with this id or with the only id that starts so; `StoredRunError` otherwise."""
        ids = self.ids()
        matches = [run_id] if run_id in ids else [name for name in ids if name.startswith(run_id)]
        if not run_id or len(matches) != 1:
            what = f"{len(matches)} runs start with" if matches else "No run is called"
            raise StoredRunError(
                f"{what} {run_id!r} in {self.root}. `scillm runs list` shows what is there."
            )
        path = self.root / matches[0] / NAME
        return from_text(path.read_text(encoding="utf-8"), where=str(path))
