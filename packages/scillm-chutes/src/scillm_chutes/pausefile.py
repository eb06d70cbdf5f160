"""Pauses of one key on disk: a restart respects them, and other processes hear of them.

On disk moments are Unix time, because a monotonic clock means nothing to another process. A wall
clock that was set back makes a pause longer, at most by a day's ban; set forward, shorter.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from attrs import asdict, frozen

log = logging.getLogger("scillm.chutes")


@frozen(kw_only=True)
class Pause:
    """Until when a key pauses (Unix time), after how many bans in a row, and why.

    `quota` is true for a used-up quota, which `resets_at` (Unix time) if that is known.
    """

    until: float
    bans: int = 0
    why: str = ""
    quota: bool = False
    resets_at: float | None = None


class PauseFile:
    """The last pause of a key in a folder. Remembers which state of the file it has read."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"pause-{name}.json"
        self._read_at: tuple[int, int] | None = None

    def news(self) -> Pause | None:
        """The pause that somebody else has written since the last look; None without any."""
        try:
            found = self.path.stat()
            mark = (found.st_mtime_ns, found.st_ino)
            if mark == self._read_at:
                return None
            self._read_at = mark
            return _pause(json.loads(self.path.read_text("utf-8")))
        except (OSError, ValueError):
            return None  # none, or unreadable: the next refusal writes it anew

    def write(self, pause: Pause) -> None:
        """Store a pause, unless a longer one is there; a folder that refuses is logged."""
        other = self.news()
        if other is not None and other.until > pause.until:
            self._read_at = None  # still to be taken over
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, suffix=".tmp")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(asdict(pause), file)
                written = Path(name).stat()
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
            self._read_at = (written.st_mtime_ns, written.st_ino)
        except OSError as error:
            log.warning("the pause of a Chutes key is known to this process only: %s", error)


def _pause(document: object) -> Pause | None:
    if not isinstance(document, Mapping):
        return None
    until, bans, resets_at = (document.get(name) for name in ("until", "bans", "resets_at"))
    if not isinstance(until, (int, float)) or not isinstance(bans, int):
        return None
    return Pause(
        until=float(until),
        bans=max(0, bans),
        why=str(document.get("why", "")),
        quota=document.get("quota") is True,
        resets_at=float(resets_at) if isinstance(resets_at, (int, float)) else None,
    )
