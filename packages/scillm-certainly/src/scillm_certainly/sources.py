"""Files as a command line names them: each read, or refused for itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen
from scillm.errors import UsageError

STDIN = "-"


@frozen(kw_only=True)
class Source:
    """A file's text, or in `fault` why there is none."""

    name: str
    text: str = ""
    fault: str = ""


def read_sources(names: Sequence[str]) -> list[Source]:
    """One source per name, in order; raises `UsageError` when not one of them can be read."""
    found = [read_source(name) for name in names]
    if found and all(row.fault for row in found):
        raise UsageError(" ".join(f"{row.name} {row.fault}." for row in found))
    return found


def read_source(name: str) -> Source:
    """The file's text; `-` is standard input."""
    try:
        data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except OSError as error:
        return Source(name=name, fault=f"cannot be read: {error.strerror}")
    shown = "stdin" if name == STDIN else name
    try:
        return Source(name=shown, text=data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Source(name=shown, fault=f"is not UTF-8: {error.reason} at byte {error.start}")
