"""Processes that carry a name in their command line, and whether they are gone (Linux)."""

from __future__ import annotations

import os
import time
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether there is such a process, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> list[int]:
    """The children of a process, each followed by its own."""
    found: list[int] = []
    for told in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in told.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def running(mark: Path | str) -> list[int]:
    """Living processes with `mark` in their command line, beside this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(mark).encode() in words and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def gone_within(mark: Path | str, limit_s: float) -> bool:
    """Whether none is left before the time is up."""
    end = time.monotonic() + limit_s
    while running(mark):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
