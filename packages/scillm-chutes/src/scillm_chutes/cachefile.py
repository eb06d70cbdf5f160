"""Catalogs on disk, so that a restart needs no network; no key is ever written."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import MalformedReplyError

from scillm_chutes.reading import read_catalog

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_chutes.records import Catalog


class CacheFile:
    """The catalog of one base URL in a folder."""

    def __init__(self, folder: Path, api_base: str) -> None:
        name = hashlib.sha256(api_base.encode()).hexdigest()[:16]
        self.path = folder / f"models-{name}.json"
        self.api_base = api_base

    def read(self) -> Catalog | None:
        """The stored catalog; None where there is none or it cannot be read."""
        try:
            stored = json.loads(self.path.read_text("utf-8"))
            return read_catalog(stored["reply"], now=float(stored["at"]))
        except (OSError, ValueError, KeyError, TypeError, MalformedReplyError):
            return None  # a cache that cannot be read is none; the next fetch replaces it

    def write(self, reply: Json, *, at: float) -> None:
        """Store the reply of `/v1/models`; readers see the old file or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"api_base": self.api_base, "at": at, "reply": reply}, file)
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
