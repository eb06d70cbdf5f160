"""The bridge's answer: a JobResult to the JSON that an engine's clients read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import asdict

from scillm.providers.bridge_wire import SHARED_OPTIONS

if TYPE_CHECKING:
    from scillm.records import Job, JobResult, Json
    from scillm.serve.envelope import Envelope, EnvelopeSpec


def write_result(
    result: JobResult,
    envelope: Envelope,
    spec: EnvelopeSpec,
    *,
    run_id: str,
    ts: float,
    duration_ms: float,
) -> dict[str, Json]:
    """The answer to a request. `ts` is Unix time in seconds.

    An engine that puts `statistics`, `run_manifest` or `signals` into the result's environment
    has them shown in their old places.
    """
    job = envelope.job
    environment = dict(result.environment)
    results = [dict(row) for row in result.results]
    body: dict[str, Json] = {
        "summary": dict(result.summary),
        "statistics": {**_statistics(result, job, spec), **_own(environment, "statistics")},
        "results": results,
        **dict.fromkeys(spec.results_aliases, results),
        "findings": [asdict(row) for row in result.findings],
        "environment": environment,
        "stdout": "",
        "stderr": "",
        "duration_ms": duration_ms,
        "run_manifest": {
            "ts": ts,
            "run_id": run_id,
            "schema": spec.schema,
            "provider": {"name": spec.engine},
            "options": {name: job.options.get(name) for name in SHARED_OPTIONS},
            "seed": job.seed,
            "item_ids": [_id(row, spec, number) for number, row in enumerate(results, 1)],
            "task_ids": [_id(row, spec, number) for number, row in enumerate(job.items, 1)],
            **_own(environment, "run_manifest"),
        },
        "signals": _own(environment, "signals"),
        "warnings": list(envelope.warnings),
    }
    return body


def _statistics(result: JobResult, job: Job, spec: EnvelopeSpec) -> dict[str, Json]:
    sources = {"summary": result.summary, "options": job.options}
    found: dict[str, Json] = {}
    for name, path in spec.statistics.items():
        source, _, key = path.partition(".")
        found[name] = sources[source].get(key)
    return found


def _own(environment: Mapping[str, Json], name: str) -> dict[str, Json]:
    value = environment.get(name)
    return dict(value) if isinstance(value, Mapping) else {}


def _id(row: Json, spec: EnvelopeSpec, number: int) -> str:
    named = row if isinstance(row, Mapping) else {}
    ids = (named[key] for key in spec.id_keys if isinstance(named.get(key), (str, int)))
    return str(next(ids, f"item-{number}"))
