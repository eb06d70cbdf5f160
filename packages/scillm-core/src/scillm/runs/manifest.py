"""The manifest of a run: the job, where it ran, what came out, and what a replay must reproduce."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import asdict, field, frozen

from scillm.errors import StoredRunError
from scillm.records import Finding, Job
from scillm.runs.canonical import digest

if TYPE_CHECKING:
    from scillm.records import JobResult, Json

SCHEMA = "scillm.run/1"
SEAL = "digest"
"""The field of a stored manifest with the digest of all its others."""


@frozen(kw_only=True)
class Manifest:
    """Everything needed to read a run, and to do it again."""

    run_id: str
    created: str
    """UTC, ISO 8601."""
    job: Job
    summary: Mapping[str, Json]
    results: Sequence[Mapping[str, Json]]
    findings: Sequence[Finding]
    environment: Mapping[str, Json] = field(factory=dict)
    record: Mapping[str, Json] = field(factory=dict)
    """`rows` and `head` (the hash of the last row) of the run's record; empty without one."""
    schema: str = SCHEMA

    def to_dict(self) -> dict[str, Json]:
        """Plain JSON; `TypeError` or `ValueError` when a result holds something that is not."""
        text = json.dumps({"schema": self.schema, **asdict(self)}, allow_nan=False)
        document: dict[str, Json] = json.loads(text)
        return document

    def head(self) -> dict[str, Json]:
        """The manifest without the items and results, for showing beside them."""
        document = self.to_dict()
        document["job"] = {
            key: value for key, value in document["job"].items() if key != "items"
        } | {"digest": digest(list(self.job.items)), "items": len(self.job.items)}
        del document["results"], document["summary"]
        return document


def finding(id: str, value: Json) -> Finding:
    """The finding `id` with the digest of `value`."""
    return Finding(id=id, value=value, digest=digest(value))


def manifest_of(
    job: Job,
    result: JobResult,
    *,
    run_id: str,
    created: str,
    environment: Mapping[str, Json],
    record: Mapping[str, Json] | None = None,
) -> Manifest:
    """The manifest of a finished job. `environment` is the host's; the engine's own is added."""
    return Manifest(
        run_id=run_id,
        created=created,
        job=job,
        summary=result.summary,
        results=result.results,
        findings=result.findings,
        environment={**environment, job.engine: dict(result.environment)},
        record=record or {},
    )


def sealed(document: Mapping[str, Json]) -> dict[str, Json]:
    """`document` with its digest, so that a change of any part of it shows."""
    return {**document, SEAL: digest(document)}


def unsealed(text: str, *, where: str) -> list[str]:
    """What is wrong with the seal of the manifest in `text`; empty when it is whole."""
    document: dict[str, Json] = json.loads(text)
    seal = document.pop(SEAL, None)
    if seal is None:
        return [f"{where} has no digest, so a change of it could not be seen."]
    if seal != digest(document):
        return [f"{where} was changed after it was written: its digest is wrong."]
    return []


def from_text(text: str, *, where: str) -> Manifest:
    """The manifest in `text`, checked: its schema, its fields, and the digest of each finding.

    Raises `StoredRunError` naming `where`.
    """
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise StoredRunError(
                f"{where} has schema {document['schema']!r}; this version reads {SCHEMA!r}."
            )
        findings = tuple(Finding(**row) for row in document["findings"])
        manifest = Manifest(
            run_id=document["run_id"],
            created=document["created"],
            job=Job(**document["job"]),
            summary=document["summary"],
            results=document["results"],
            findings=findings,
            environment=document["environment"],
            record=document.get("record", {}),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoredRunError(f"{where} is not a run manifest: {error!r}.") from error
    damaged = [row.id for row in findings if digest(row.value) != row.digest]
    if damaged:
        raise StoredRunError(
            f"{where} was changed after it was written: wrong digest of {', '.join(damaged)}."
        )
    return manifest
