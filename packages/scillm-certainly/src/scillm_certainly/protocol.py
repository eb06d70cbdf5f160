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


def question(request: CheckRequest, *, number: int, nonce: str, export: bool = False) -> bytes:
    """The line that asks for a check, and for the declarations as text if `export`."""
    fields: dict[str, Json] = {
        "id": number,
        "nonce": nonce,
        "op": "check",
        "code": request.code,
        "maxHeartbeats": request.policy.heartbeats,
    }
    if export:
        fields["export"] = True
    return _line(fields, request)


def replay_question(request: CheckRequest, exported: str, *, number: int, nonce: str) -> bytes:
    """The line that asks to put exported declarations through the kernel; runs no answer's code."""
    fields: dict[str, Json] = {
        "id": number,
        "nonce": nonce,
        "op": "replay",
        "code": request.code,
        "exported": exported,
        "maxHeartbeats": request.policy.heartbeats,
    }
    return _line(fields, request)


def _line(fields: dict[str, Json], request: CheckRequest) -> bytes:
    if request.reference is not None:
        fields["reference"] = request.reference
    return json.dumps(fields).encode() + b"\n"


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
        return _facts(document)
    except (KeyError, TypeError, AttributeError) as error:
        raise ProverError(f"The Lean worker's answer lacks a part: {error}.") from error


def replayed_apart(seen: Facts, replayed: Facts) -> Facts:
    """What the process that ran the file's programs saw, as far as another one confirms it.

    Declarations, axioms, kernel and comparison are the other's; messages, and which names stand in
    the code, are all that is taken from the first.
    """
    if replayed.fault:
        return replayed
    written = {row.name for row in seen.declarations if row.written}
    return evolve(
        seen,
        declarations=[evolve(row, written=row.name in written) for row in replayed.declarations],
        replayed=replayed.replayed,
        replay_errors=distinct((*seen.replay_errors, *replayed.replay_errors)),
        judged=replayed.judged,
        nested=replayed.nested,
        axioms_complete=replayed.axioms_complete,
        us={**seen.us, "apart": sum(replayed.us.values())},
        exported="",
        apart=True,
    )


def is_import_fault(text: str) -> bool:
    """Whether Lean says that a module it was told to import is not there."""
    signs = ("unknown module prefix", "of module", "does not exist", "unknown package")
    return any(sign in text for sign in signs)


def _facts(document: Mapping[str, Json]) -> Facts:
    judged = document["judge"]
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
        replayed=True,
        replay_errors=distinct(document["replay"]["errors"]),
        skipped=distinct(document["replay"]["skipped"]),
        judged=None if judged is None else _judged(judged),
        examples=document["examples"],
        user_code=document["userCode"],
        meta=document["meta"],
        nested=document["nested"],
        axioms_complete=document["axiomsComplete"],
        exported=str(document.get("exported", "")),
        us=dict(document["us"]),
    )


def _judged(document: Mapping[str, Json]) -> Judged:
    errors = [row["data"] for row in document["messages"]]
    errors += [f"the kernel refuses {name}" for name in document["replayErrors"]]
    return Judged(
        targets=[
            Target(name=row["name"], same=row["status"] == "same", detail=row["detail"])
            for row in document["targets"]
        ],
        axioms=tuple(document["axioms"]),
        errors=tuple(errors),
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
