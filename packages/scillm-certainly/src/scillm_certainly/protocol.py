"""The lines a worker reads and writes, as records: JSON with an id and a nonce. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from scillm.errors import ProverError

from scillm_certainly.records import (
    CheckRequest,
    Declaration,
    Diagnostic,
    Facts,
    Judged,
    Position,
    Sorry,
    Target,
)

if TYPE_CHECKING:
    from scillm.records import Json

MARK = "\x01"
READY = "ready"
LAUNCHED = "launched"
RUNS = f"{MARK}runs".encode()
"""The line that a reading Lean writes before it runs anything of the code."""


def question(request: CheckRequest, *, number: int, nonce: str) -> bytes:
    """The line that has `request.code` read."""
    return _line("read", request, number, nonce, code=request.code)


def reference_question(request: CheckRequest, *, number: int, nonce: str) -> bytes:
    """The line that has the reference read, upon what the answer imports."""
    return _line("read", request, number, nonce, code=request.reference or "", header=request.code)


def judge_question(
    request: CheckRequest, seen: Facts, reference: Facts | None, *, number: int, nonce: str
) -> bytes:
    """The line that has declarations put through the kernel; of the code only its imports count."""
    fields: dict[str, Json] = {
        "code": request.code,
        "exported": seen.exported,
        "written": list(seen.written),
    }
    if reference is not None:
        fields["reference"] = reference.exported
    return _line("judge", request, number, nonce, **fields)


def _line(op: str, request: CheckRequest, number: int, nonce: str, **fields: Json) -> bytes:
    whole = {
        "id": number,
        "nonce": nonce,
        "op": op,
        "maxHeartbeats": request.policy.heartbeats,
        **fields,
    }
    return json.dumps(whole).encode() + b"\n"


def answer(line: bytes, nonce: str) -> Json | None:
    """The document of a line that answers under `nonce`; None for any other line.

    Raises `ProverError` for a line that has the nonce and is no document all the same.
    """
    start = f"{MARK}{nonce} ".encode()
    if not line.startswith(start):
        return None
    try:
        document = json.loads(line[len(start) :])
    except (ValueError, RecursionError) as error:
        raise ProverError(f"The Lean worker answered with a broken line: {error}.") from error
    if not isinstance(document, Mapping):
        raise ProverError("The Lean worker answered with something that is no JSON object.")
    return document


def facts_of(document: Mapping[str, Json], *, number: int) -> Facts:
    """What the worker's answer says; `ProverError` when it answers another question."""
    if document.get("id") != number:
        raise ProverError(f"The Lean worker answered {document.get('id')!r} instead of {number}.")
    fault = document.get("fault")
    if fault is not None:
        text = str(fault).strip()
        return Facts(fault=text, fault_kind="import" if is_import_fault(text) else "lean")
    try:
        return _told(document) if "decls" in document else _read(document)
    except (KeyError, TypeError, AttributeError) as error:
        raise ProverError(f"The Lean worker's answer lacks a part: {error}.") from error


def judged(seen: Facts, reference: Facts | None, told: Facts) -> Facts:
    """What one process saw of a file, as far as the one that judges it confirms it.

    Declarations, axioms, kernel and comparison are the judge's; messages, and whether the
    reference has errors, are all that is taken from a process that read.
    """
    if told.fault:
        return told
    comparison = told.judged
    if comparison is not None and reference is not None:
        errors = [row.text for row in reference.diagnostics if row.severity == "error"]
        comparison = evolve(comparison, errors=(*errors, *comparison.errors))
    return evolve(
        seen,
        declarations=told.declarations,
        replayed=True,
        replay_errors=told.replay_errors,
        judged=comparison,
        nested=told.nested,
        axioms_complete=told.axioms_complete,
        us={**told.us, **seen.us},
        exported="",
    )


def is_import_fault(text: str) -> bool:
    """Whether Lean says that a module it was told to import is not there."""
    signs = ("unknown module prefix", "of module", "does not exist", "unknown package")
    return any(sign in text for sign in signs)


def _read(document: Mapping[str, Json]) -> Facts:
    return Facts(
        diagnostics=[_diagnostic(row) for row in document["messages"]],
        sorries=[
            Sorry(
                goal=row["goal"].strip(),
                start=_position(row["pos"]),
                end=_position(row["endPos"]),
            )
            for row in document["sorries"]
        ],
        written=tuple(document["written"]),
        examples=document["examples"],
        user_code=document["ranPrograms"],
        exported=document["exported"],
        us=dict(document["us"]),
    )


def _told(document: Mapping[str, Json]) -> Facts:
    comparison = document["judge"]
    return Facts(
        declarations=[
            Declaration(
                name=row["name"],
                kind=row["kind"],
                written=row["written"],
                statement=_statement(row["statement"]),
                type_hash=row["typeHash"],
                axioms=tuple(row["axioms"]),
                uses=distinct(row["uses"]),
                gap=row["gap"],
            )
            for row in document["decls"]
        ],
        replay_errors=distinct(document["replayErrors"]),
        judged=None if comparison is None else _judged(comparison),
        nested=document["nested"],
        axioms_complete=document["axiomsComplete"],
        us=dict(document["us"]),
    )


def _judged(document: Mapping[str, Json]) -> Judged:
    return Judged(
        targets=[
            Target(name=row["name"], same=row["status"] == "same", detail=row["detail"])
            for row in document["targets"]
        ],
        axioms=tuple(document["axioms"]),
        errors=tuple(f"the kernel refuses {name}" for name in document["replayErrors"]),
    )


def _diagnostic(row: Mapping[str, Json]) -> Diagnostic:
    kind = row["kind"]
    return Diagnostic(
        severity=row["severity"],
        text=row["data"].strip(),
        start=_position(row["pos"]) or Position(line=1, column=0),
        end=_position(row["endPos"]),
        kind="" if kind == "[anonymous]" else kind,
    )


def _position(value: Json) -> Position | None:
    return None if value is None else Position(line=value["line"], column=value["column"])


def _statement(text: str) -> str:
    return text.strip().removeprefix("⊢").strip()


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names in order, each once."""
    return tuple(dict.fromkeys(names))
