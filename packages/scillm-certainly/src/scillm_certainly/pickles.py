"""What the REPL program pickles: JSON documents, each of a form that it knows again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json


def write(name: Json, body: Mapping[str, Json]) -> None:
    """Write a document into a file; `UsageError` when that is not the name of one."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise UsageError(f"pickleTo must be the name of a file, but is {name!r}.")
    Path(name).write_text(json.dumps(body), encoding="utf-8")


def document(name: Json, form: str, what: str) -> Mapping[str, Json]:
    """What was pickled into a file; `UsageError` when it is not of this form."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise UsageError(f"A pickle is named by its file, but this is {name!r}.")
    try:
        body = json.loads(text_of(Path(name)))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is no {what} of this program.") from error
    if not isinstance(body, Mapping) or body.get("format") != form:
        raise UsageError(f"{name} is no {what} of this program.")
    return body


def text_of(file: Path) -> str:
    """What stands in a file; `UsageError` when it is not UTF-8."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8.") from error
