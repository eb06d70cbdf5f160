"""Runs with a record: kept while they happen, resumed after any kill, verified, done again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING

from attrs import frozen

from scillm.errors import StoredRunError
from scillm.runs.blobs import Blobs
from scillm.runs.canonical import canonical_json, digest
from scillm.runs.journal import scan
from scillm.runs.manifest import Manifest, manifest_of
from scillm.runs.record import (
    BLOBS,
    MEASURED,
    OUTSIDE,
    ROWS,
    FolderRecord,
    MemoryRecord,
    RecordDiffersError,
    Records,
)
from scillm.runs.replay import Comparison, changed, compare, host_environment, record_job
from scillm.runs.store import damage

if TYPE_CHECKING:
    from pathlib import Path

    from scillm.protocols import Engine
    from scillm.records import Job, JobResult, Json
    from scillm.runs.store import Begun, RunStore

PACKAGES = "host/packages"
"""Key of the installed packages among what was measured."""


@frozen(kw_only=True)
class Verified:
    """A stored run beside a second walk through its record. Sound when `problems` is empty."""

    run_id: str
    rows: int
    head: str
    problems: Sequence[str]


@frozen(kw_only=True)
class Rerun:
    """A stored run beside its re-execution. Timings are not compared."""

    run_id: str
    rows: Sequence[Comparison]
    """Finding by finding."""
    record_same: bool
    """Whether every row of the record came out the same, to the byte."""
    differing: Sequence[Mapping[str, Json]]
    """The rows that did not: `row`, `then`, `now`."""
    drift: Mapping[str, Sequence[Json]]
    """Facts about the machine that differ: name → [then, now]."""
    packages: Mapping[str, Sequence[str | None]]
    """Installed packages that differ: name → [version then, version now]."""

    @property
    def same(self) -> bool:
        """Whether everything a re-execution must reproduce came out the same."""
        return (
            self.record_same and bool(self.rows) and all(row.status == "same" for row in self.rows)
        )


async def keep_job(engine: Engine, job: Job, store: RunStore) -> Manifest:
    """Run `job` and keep it in `store`: with a record while it happens, if the engine makes one."""
    if not isinstance(engine, Records):
        return await record_job(engine, job, store)
    now = datetime.now(timezone.utc)
    created = now.isoformat(timespec="seconds")
    begun = store.begin(store.new_id(now), job, created=created)
    try:
        return await _finished(engine, begun, store)
    except BaseException:
        _forget_if_empty(begun.folder)
        raise


async def resume(engine: Engine, begun: Begun, store: RunStore) -> Manifest:
    """Finish a run that was cut off anywhere: what it did is read, the rest is done now.

    Raises `RecordDiffersError` when the job would now go another way than it began.
    """
    return await _finished(engine, begun, store)


async def verify(engine: Engine, manifest: Manifest, folder: Path) -> Verified:
    """Walk through the record of a finished run again without executing anything.

    What the walk does not look at (the rest of the manifest, the job as it was begun, values that
    nothing reads) is checked by its digest. Raises `StoredRunError` for a file that is missing or
    cannot be read, `JournalDamagedError` for a changed row.
    """
    recorder = _recording(engine, manifest.job.engine)
    problems: list[str] = []
    with FolderRecord(folder, sealed=True) as record:
        try:
            result = await recorder.run_recorded(manifest.job, record)
        except RecordDiffersError as error:
            problems.append(error.message)
        else:
            problems += _against(manifest, result, record)
        problems += [*damage(folder, manifest), *Blobs(folder / BLOBS).damage()]
        return Verified(
            run_id=manifest.run_id, rows=record.stored, head=record.head, problems=problems
        )


async def rerun(engine: Engine, manifest: Manifest, folder: Path) -> Rerun:
    """Execute the job of a finished run again and compare it with its record.

    Answers that came from outside (a model's) are taken from the record: nobody is asked again.
    """
    recorder = _recording(engine, manifest.job.engine)
    then_rows = _rows_of(folder, ROWS)
    with FolderRecord(folder, sealed=True) as record:
        again = _Again(record)
        result = await recorder.run_recorded(manifest.job, again)
        packages = record.known(PACKAGES) or {}
    then = manifest.environment
    now = {**host_environment(), manifest.job.engine: dict(result.environment)}
    return Rerun(
        run_id=manifest.run_id,
        rows=compare(manifest.findings, result.findings),
        record_same=canonical_json(then_rows) == canonical_json(again.rows),
        differing=_differing(then_rows, again.rows),
        drift=changed(then, now),
        packages=changed(packages, installed()),
    )


def installed() -> dict[str, str]:
    """Every installed distribution with its version."""
    found = {
        str(dist.metadata["Name"]).lower(): dist.version
        for dist in metadata.distributions()
        if dist.metadata["Name"]
    }
    return dict(sorted(found.items()))


class _Again(MemoryRecord):
    """A new record that knows what the old one was told from outside."""

    def __init__(self, then: FolderRecord) -> None:
        super().__init__()
        self._then = then

    def known(self, key: str, /) -> Json | None:
        found = super().known(key)
        if found is None and key.startswith(OUTSIDE):
            return self._then.known(key)
        return found

    def get(self, name: str, /) -> Json:
        try:
            return super().get(name)
        except StoredRunError:
            return self._then.get(name)


async def _finished(engine: Engine, begun: Begun, store: RunStore) -> Manifest:
    recorder = _recording(engine, begun.job.engine)
    with FolderRecord(begun.folder) as record:
        if record.known(PACKAGES) is None:
            record.keep(PACKAGES, installed())
        result = await recorder.run_recorded(begun.job, record)
        manifest = manifest_of(
            begun.job,
            result,
            run_id=begun.run_id,
            created=begun.created,
            environment=host_environment(),
            record={"rows": record.count, "head": record.head},
        )
    store.save(manifest)
    return manifest


def _recording(engine: Engine, name: str) -> Records:
    if not isinstance(engine, Records):
        raise StoredRunError(
            f"The engine {name!r} keeps no record that could be walked through again; "
            "`scillm runs replay` runs its jobs again and compares."
        )
    return engine


def _forget_if_empty(folder: Path) -> None:
    """A run that was refused before its first row is none, and leaves nothing behind.

    An answer that was paid for is kept, even before the first row.
    """
    answered = [row["key"] for row in _rows_of(folder, MEASURED)]
    if not _rows_of(folder, ROWS) and answered in ([], [PACKAGES]):
        shutil.rmtree(folder, ignore_errors=True)


def _against(manifest: Manifest, result: JobResult, record: FolderRecord) -> list[str]:
    problems = []
    rows, head = manifest.record.get("rows"), manifest.record.get("head")
    if record.count != record.stored:
        problems.append(
            f"The record has {record.stored} rows, but the walk ended after {record.count}."
        )
    if (record.count, record.head) != (rows, head):
        problems.append(
            f"The walk ended at row {record.count} with hash {record.head}; the manifest says row "
            f"{rows} with hash {head}."
        )
    problems += [
        f"The finding {row.id} is {row.status}: then {row.then}, now {row.now}."
        for row in compare(manifest.findings, result.findings)
        if row.status != "same"
    ]
    for name, then, now in (
        ("results", list(manifest.results), list(result.results)),
        ("summary", dict(manifest.summary), dict(result.summary)),
    ):
        if digest(then) != digest(now):
            problems.append(f"The {name} of the manifest do not follow from the record.")
    return problems


def _rows_of(folder: Path, name: str) -> list[Json]:
    found: list[Json] = []
    if (folder / name).is_file():
        scan(folder / name, lambda row: found.append(row.data))
    return found


def _differing(then: Sequence[Json], now: Sequence[Json]) -> list[Mapping[str, Json]]:
    longest = max(len(then), len(now))
    padded = [[*rows, *[None] * (longest - len(rows))] for rows in (then, now)]
    return [
        {"row": number, "then": before, "now": after}
        for number, (before, after) in enumerate(zip(*padded, strict=True), start=1)
        if canonical_json(before) != canonical_json(after)
    ]
