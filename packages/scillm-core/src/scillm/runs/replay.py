"""Run a job and keep it; run a kept job again and compare, finding by finding."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING

from attrs import frozen

from scillm.runs.manifest import Manifest, manifest_of

if TYPE_CHECKING:
    from scillm.protocols import Engine
    from scillm.records import Finding, Job, Json
    from scillm.runs.store import RunStore


@frozen(kw_only=True)
class Comparison:
    """One finding then and now. `status` is same, different, missing (now) or new."""

    id: str
    status: str
    then: Json = None
    now: Json = None


@frozen(kw_only=True)
class Replay:
    """A stored run beside its re-execution."""

    run_id: str
    rows: Sequence[Comparison]
    drift: Mapping[str, Sequence[Json]]
    """Facts about the machine that differ: name → [then, now]."""

    @property
    def same(self) -> bool:
        """Whether there was something to compare and all of it came out the same."""
        return bool(self.rows) and all(row.status == "same" for row in self.rows)


def compare(then: Sequence[Finding], now: Sequence[Finding]) -> list[Comparison]:
    """Findings by id, in the order of `then`, then the new ones."""
    before = {row.id: row for row in then}
    after = {row.id: row for row in now}
    rows = [_compared(row, after.get(row.id)) for row in then]
    rows += [
        Comparison(id=row.id, status="new", now=row.value) for row in now if row.id not in before
    ]
    return rows


def _compared(was: Finding, found: Finding | None) -> Comparison:
    if found is None:
        return Comparison(id=was.id, status="missing", then=was.value)
    status = "same" if was.digest == found.digest else "different"
    return Comparison(id=was.id, status=status, then=was.value, now=found.value)


def host_environment() -> dict[str, Json]:
    """The interpreter, the machine and the SciLLM distributions of this process."""
    versions = {
        dist.metadata["Name"]: dist.version
        for dist in metadata.distributions()
        if (dist.metadata["Name"] or "").startswith("scillm")
    }
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "distributions": dict(sorted(versions.items())),
    }


async def run_job(engine: Engine, job: Job, *, run_id: str) -> Manifest:
    """Run `job` and describe what happened."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    result = await engine.run(job)
    return manifest_of(job, result, run_id=run_id, created=created, environment=host_environment())


async def record_job(engine: Engine, job: Job, store: RunStore) -> Manifest:
    """Run `job` and keep its manifest in `store`."""
    manifest = await run_job(engine, job, run_id=store.new_id(datetime.now(timezone.utc)))
    store.save(manifest)
    return manifest


async def replay(engine: Engine, manifest: Manifest) -> Replay:
    """Run the job of `manifest` again and compare the findings. Nothing is stored."""
    again = await run_job(engine, manifest.job, run_id=manifest.run_id)
    return Replay(
        run_id=manifest.run_id,
        rows=compare(manifest.findings, again.findings),
        drift=changed(manifest.environment, again.environment),
    )


def changed(then: Mapping[str, Json], now: Mapping[str, Json]) -> dict[str, list[Json]]:
    """What differs: name → [then, now], None where there was or is nothing."""
    return {
        name: [then.get(name), now.get(name)]
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    }
