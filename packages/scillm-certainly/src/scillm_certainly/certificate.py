"""A proof's certificate: what was checked, by which Lean, with what result. Pure.

Its digest protects against accidents, not against a forger. What counts is checking it again,
which needs nothing but the certificate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.errors import UsageError
from scillm.runs.canonical import digest

from scillm_certainly.intake import checked_policy
from scillm_certainly.records import CheckRequest, Policy, ProofVerdict

if TYPE_CHECKING:
    from scillm.records import Json

SCHEMA = "scillm.certificate/1"
PARTS: Mapping[str, type] = {
    "schema": str,
    "code": str,
    "policy": dict,
    "theorems": list,
    "axioms": list,
    "lean": dict,
    "status": str,
    "digest": str,
}


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
    odd = [name for name, kind in PARTS.items() if not isinstance(document.get(name), kind)]
    if odd:
        raise UsageError(f"{where} is no whole certificate: {', '.join(odd)} is missing or odd.")
    body = {name: value for name, value in document.items() if name != "digest"}
    if digest(body) != document["digest"] or sha256(document["code"]) != document["code_sha256"]:
        raise UsageError(f"{where} was changed after it was written: its digest is wrong.")
    return document


def request_of(certificate: Mapping[str, Json]) -> CheckRequest:
    """What must be asked to check a certificate again; Lean is asked whatever is remembered."""
    given = certificate["policy"]
    try:
        policy = Policy(
            axioms=tuple(given["axioms"]), heartbeats=given["heartbeats"], time_s=given["time_s"]
        )
        checked_policy(policy)
    except (KeyError, TypeError) as error:
        raise UsageError(f"The certificate's policy is none: {error!r}.") from error
    return CheckRequest(
        id=str(certificate.get("item_id", "")),
        code=certificate["code"],
        reference=certificate.get("reference"),
        policy=policy,
        fresh=True,
    )


def differences(certificate: Mapping[str, Json], verdict: ProofVerdict) -> Sequence[str]:
    """What came out otherwise than the certificate says; nothing when it is confirmed.

    Lean's hash of a type is compared only where the same Lean answers.
    """
    if not verdict.proved:
        return [f"it is {verdict.status} now: {verdict.reason}"]
    lean, told = verdict.lean, certificate["lean"]
    same_lean = lean is not None and lean.commit == told.get("commit")
    keys = ("name", "statement", "type_hash") if same_lean else ("name", "statement")
    before = [[row.get(key) for key in keys] for row in certificate["theorems"]]
    after = [[row[key] for key in keys] for row in theorems_of(verdict)]
    found: list[str] = []
    if sorted(map(str, before)) != sorted(map(str, after)):
        found.append(f"the theorems differ: {before} then, {after} now")
    if sorted(certificate["axioms"]) != sorted(verdict.axioms):
        found.append(f"the axioms differ: {certificate['axioms']} then, {list(verdict.axioms)} now")
    return found


def notes(certificate: Mapping[str, Json], verdict: ProofVerdict) -> Sequence[str]:
    """In what the second check was another one: Lean, package, checker."""
    lean = verdict.lean
    if lean is None:
        return []
    now = {
        "version": lean.version,
        "commit": lean.commit,
        "backend": lean.backend,
        "package": lean.package,
        "driver_sha256": lean.driver,
    }
    told = certificate["lean"]
    return [
        f"{name} was {told.get(name)} and is {value}"
        for name, value in now.items()
        if told.get(name) != value
    ]


def sha256(text: str) -> str:
    """Of UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
