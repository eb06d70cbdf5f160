"""Values kept by content: one file per value, named by its digest, checked when it is read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import StoredRunError
from scillm.runs.canonical import canonical_json, digest

if TYPE_CHECKING:
    from scillm.records import Json

ALGORITHM = "sha256:"
PARTIAL = ".partial"
FOLDED = 2
"""Hex digits that name the folder, so that no folder grows too long."""


class Blobs:
    """The values under `root`. Remembers only where."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Where the value with this digest stands; `StoredRunError` for what is no digest."""
        hexes = name.removeprefix(ALGORITHM)
        if not name.startswith(ALGORITHM) or len(hexes) != 64 or not hexes.isalnum():
            raise StoredRunError(f"{name!r} is not the digest of a stored value.")
        return self.root / hexes[:FOLDED] / hexes[FOLDED:]

    def put(self, value: Json) -> str:
        """Keep `value`, whole or not at all; its digest."""
        name = digest(value)
        path = self.path(name)
        if path.exists():
            return name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
        partial.write_bytes(canonical_json(value).encode("utf-8", "surrogatepass"))
        partial.replace(path)
        return name

    def get(self, name: str) -> Json:
        """The value with this digest; `StoredRunError` when it is missing or was changed."""
        path = self.path(name)
        try:
            value = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
        except FileNotFoundError:
            raise StoredRunError(f"{path} is missing, and with it a value of this run.") from None
        except ValueError as error:
            raise StoredRunError(f"{path} was changed after it was written: {error}.") from error
        if digest(value) != name:
            raise StoredRunError(f"{path} was changed after it was written: its digest is wrong.")
        return value

    def damage(self) -> list[str]:
        """What is wrong with the values that are here, each read once; empty when nothing."""
        found = []
        for path in sorted(self.root.glob("*/*")):
            if path.suffix == PARTIAL:
                continue
            try:
                self.get(f"{ALGORITHM}{path.parent.name}{path.name}")
            except StoredRunError as error:
                found.append(error.message)
        return found
