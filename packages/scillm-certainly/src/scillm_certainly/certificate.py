"""A proof's certificate: what was checked, by which Lean, with what result. Pure.

Its digest protects against accidents, not against a forger. What counts is checking it again,
which needs nothing but the certificate. When it was written, how long it took and how the process
was confined cannot be checked again: for that there is only the writer's word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.errors import UsageError
from scillm.runs.canonical import digest

from scillm_certainly.items import policy_of
from scillm_certainly.records import PROVED, CheckRequest, ProofVerdict

if TYPE_CHECKING:
    from scillm.records import Json

SCHEMA = "scillm.certificate/1"
PARTS: Mapping[str, type | tuple[type, ...]] = {
    "schema": str,
    "item_id": str,
    "status": str,
    "code": str,
    "code_sha256": str,
    "reference": (str, type(None)),
    "policy": dict,
    "theorems": list,
    "axioms": list,
    "axioms_complete": bool,
    "replay": str,
    "grade": str,
    "caveats": list,
    "lean": dict,
    "digest": str,
}
OF_THEOREM = ("name", "statement", "sha256", "type_hash")
OF_LEAN = ("version", "commit", "backend", "package", "driver_sha256")


def certificate_of(request: CheckRequest, verdict: ProofVerdict, *, now: str) -> dict[str, Json]:
    """The certificate of a proved verdict on `request`. `now` is UTC, ISO 8601.

    Raises `UsageError` for a verdict that is not `proved`.
    """
    lean = verdict.lean
    if not verdict.proved or lean is None:
        raise UsageError(f"Only what is proved gets a certificate; this is {verdict.status}.")
    body: dict[str, Json] = {
        "schema": SCHEMA,
        "item_id": verdict.id,
        "checked": now,
        "status": verdict.status,
        "code": request.code,
        "code_sha256": sha256(request.code),
        "reference": request.reference,
        "policy": {
            "axioms": sorted(set(request.policy.axioms)),
            "heartbeats": request.policy.heartbeats,
            "time_s": request.policy.time_s,
        },
        "theorems": theorems_of(verdict),
        "axioms": list(verdict.axioms),
        "axioms_complete": verdict.axioms_complete,
        "replay": verdict.replay,
        "grade": verdict.grade,
        "caveats": list(verdict.caveats),
        "lean": {
            "backend": lean.backend,
            "version": lean.version,
            "commit": lean.commit,
            "package": lean.package,
            "driver_sha256": lean.driver,
            "confinement": dict(lean.confinement),
        },
        "us": dict(verdict.us),
        "wall_s": verdict.wall_s,
    }
    return {**body, "digest": digest(body)}


def theorems_of(verdict: ProofVerdict) -> list[Json]:
    """The statements accepted: pretty, hashed as text, and hashed by Lean as a term."""
    return [
        {
            "name": row.name,
            "statement": row.statement,
            "sha256": sha256(row.statement),
            "type_hash": row.type_hash,
            "axioms": list(row.axioms),
        }
        for row in verdict.theorems
    ]


def read(text: str, *, where: str) -> dict[str, Json]:
    """A certificate as written; `UsageError` saying how it is none, or that it was changed."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UsageError(f"{where} is no certificate: its schema must be {SCHEMA!r}.")
    odd = [name for name, kind in PARTS.items() if not isinstance(document.get(name, ...), kind)]
    odd += _odd_inside(document) if not odd else []
    if odd:
        raise UsageError(f"{where} is no whole certificate: {', '.join(odd)} is missing or odd.")
    body = {name: value for name, value in document.items() if name != "digest"}
    hashes = [(document["code"], document["code_sha256"])]
    hashes += [(row["statement"], row["sha256"]) for row in document["theorems"]]
    if digest(body) != document["digest"] or any(sha256(text) != told for text, told in hashes):
        raise UsageError(f"{where} was changed after it was written: its digest is wrong.")
    if document["status"] != PROVED:
        raise UsageError(f"{where} certifies no proof: its status is {document['status']!r}.")
    try:
        request_of(document)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}") from error
    return document


def _odd_inside(document: Mapping[str, Json]) -> list[str]:
    lean, rows = document["lean"], document["theorems"]
    right = {
        "axioms": _are_texts(document["axioms"]),
        "caveats": _are_texts(document["caveats"]),
        "lean": all(isinstance(lean.get(name), str) for name in OF_LEAN),
        "theorems": all(
            isinstance(row, dict)
            and all(isinstance(row.get(name), str) for name in OF_THEOREM)
            and _are_texts(row.get("axioms"))
            for row in rows
        ),
    }
    return [name for name, is_right in right.items() if not is_right]


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(row, str) for row in value)


def request_of(certificate: Mapping[str, Json]) -> CheckRequest:
    """What must be asked to check a certificate again; Lean is asked whatever is remembered."""
    given = certificate["policy"]
    missing = [name for name in ("axioms", "heartbeats", "time_s") if name not in given]
    if missing:
        raise UsageError(f"The certificate's policy lacks {', '.join(missing)}.")
    policy = policy_of(
        {
            "axioms": given["axioms"],
            "heartbeats": given["heartbeats"],
            "check_seconds": given["time_s"],
        }
    )
    return CheckRequest(
        id=str(certificate.get("item_id", "")),
        code=certificate["code"],
        reference=certificate.get("reference"),
        policy=policy,
        fresh=True,
    )


def differences(certificate: Mapping[str, Json], verdict: ProofVerdict) -> Sequence[str]:
    """What came out otherwise than the certificate says; nothing when it is confirmed.

    What another Lean may say otherwise (its hash of a type, its grade) is compared only where the
    same Lean answers, and caveats only where the same checker runs in it. A Lean that sees what
    library theorems rest on may name more axioms than one that does not.
    """
    if not verdict.proved:
        return [f"it is {verdict.status} now: {verdict.reason}"]
    lean, told = verdict.lean, certificate["lean"]
    same_lean = lean is not None and (lean.commit, lean.backend) == (
        told["commit"],
        told["backend"],
    )
    same_view = certificate["axioms_complete"] == verdict.axioms_complete
    keys = ["name", "statement"] + ["axioms"] * same_view + ["type_hash"] * same_lean
    pairs: dict[str, tuple[Json, Json]] = {
        "theorems": (_rows(certificate["theorems"], keys), _rows(theorems_of(verdict), keys)),
        "replay": (certificate["replay"], verdict.replay),
    }
    if not _axioms_agree(certificate, verdict):
        pairs["axioms"] = (certificate["axioms"], list(verdict.axioms))
    if same_lean:
        pairs["grade"] = (certificate["grade"], verdict.grade)
        pairs["axioms_complete"] = (certificate["axioms_complete"], verdict.axioms_complete)
    if same_lean and lean is not None and lean.driver == told["driver_sha256"]:
        pairs["caveats"] = (certificate["caveats"], list(verdict.caveats))
    return [
        f"{name}: {before} then, {after} now"
        for name, (before, after) in pairs.items()
        if before != after
    ]


def _axioms_agree(certificate: Mapping[str, Json], verdict: ProofVerdict) -> bool:
    before, after = set(certificate["axioms"]), set(verdict.axioms)
    if certificate["axioms_complete"] == verdict.axioms_complete:
        return before == after
    return before <= after if verdict.axioms_complete else after <= before


def _rows(theorems: Sequence[Mapping[str, Json]], keys: Sequence[str]) -> list[Json]:
    return sorted(([row[key] for key in keys] for row in theorems), key=str)


def notes(certificate: Mapping[str, Json], verdict: ProofVerdict) -> Sequence[str]:
    """In what the second check was another one: Lean, package, checker, and what they see."""
    lean = verdict.lean
    if lean is None:
        return []
    told = {name: certificate[name] for name in ("grade", "axioms")} | dict(certificate["lean"])
    now = {
        "version": lean.version,
        "commit": lean.commit,
        "backend": lean.backend,
        "package": lean.package,
        "driver_sha256": lean.driver,
        "grade": verdict.grade,
        "axioms": list(verdict.axioms),
    }
    return [
        f"{name} was {told.get(name)} and is {value}"
        for name, value in now.items()
        if told.get(name) != value
    ]


def sha256(text: str) -> str:
    """Of UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
