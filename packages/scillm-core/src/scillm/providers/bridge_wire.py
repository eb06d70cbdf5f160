"""A job and its result as bridges write them in JSON: the client's half of the envelope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.errors import MalformedReplyError
from scillm.records import Finding, JobResult

if TYPE_CHECKING:
    from scillm.records import Job, Json

PATH = "/bridge/complete"
RESULT_PATH = "/bridge/result"
SHARED_OPTIONS = ("max_seconds", "session_id", "track_id")
"""Options that every bridge knows; the others are the engine's own."""


def write_job(job: Job) -> dict[str, Json]:
    """The canonical envelope of `job`; the server reads the same job out of it."""
    options = dict(job.options)
    messages = options.pop("messages", [])
    shared = {name: options.pop(name) for name in SHARED_OPTIONS if name in options}
    return {
        "messages": messages,
        "items": list(job.items),
        "provider": {"name": job.engine, "args": options},
        "options": shared,
        "seed": job.seed,
    }


def read_result(document: Json) -> JobResult:
    """The result in a bridge's answer; `MalformedReplyError` naming what does not fit.

    A bridge older than SciLLM 0.1 sends no findings and no environment; both are then empty.
    """
    if not isinstance(document, Mapping):
        raise MalformedReplyError(f"A bridge answers with an object, but {_kind(document)} came.")
    return JobResult(
        summary=_mapping(document, "summary"),
        results=_rows(document, "results"),
        findings=[_finding(row) for row in _rows(document, "findings", [])],
        environment=_mapping(document, "environment", {}),
    )


def _finding(row: Mapping[str, Json]) -> Finding:
    if not isinstance(row.get("id"), str) or not isinstance(row.get("digest"), str):
        raise MalformedReplyError(
            "A finding has an id, a value and a digest, but the bridge's answer has one with "
            f"{', '.join(sorted(map(str, row))) or 'no fields'}."
        )
    return Finding(id=row["id"], value=row.get("value"), digest=row["digest"])


def _mapping(
    document: Mapping[str, Json], name: str, default: Mapping[str, Json] | None = None
) -> Mapping[str, Json]:
    value = document.get(name, default)
    if not isinstance(value, Mapping):
        raise _misfit(document, name, "an object", value)
    return value


def _rows(
    document: Mapping[str, Json], name: str, default: Sequence[Json] | None = None
) -> Sequence[Mapping[str, Json]]:
    value = document.get(name, default)
    if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
        raise _misfit(document, name, "a list of objects", value)
    return value


def _misfit(
    document: Mapping[str, Json], name: str, wanted: str, value: Json
) -> MalformedReplyError:
    came = "is missing" if name not in document else f"is {_kind(value)}"
    return MalformedReplyError(
        f"{name!r} in a bridge's answer is {wanted}, but it {came}. Is this a SciLLM bridge?"
    )


def _kind(value: Json) -> str:
    return "null" if value is None else f"a JSON {type(value).__name__}"
