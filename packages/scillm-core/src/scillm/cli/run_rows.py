"""Stored runs and replays as rows of text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import asdict, frozen

from scillm.cli.output import plain_json

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.runs.manifest import Manifest
    from scillm.runs.recorded import Rerun, Verified
    from scillm.runs.replay import Comparison, Replay
    from scillm.runs.store import Begun

NOT_COMPARED = "Timings are not compared: a replay reproduces findings, not measurements."


@frozen(kw_only=True)
class Absent:
    """What stands where a value does not exist, which is not the same as null."""

    def __str__(self) -> str:
        return "(absent)"


ABSENT = Absent()


def listed(manifest: Manifest) -> dict[str, Json]:
    """One line of `scillm runs list`."""
    return {
        "id": manifest.run_id,
        "created": manifest.created,
        "engine": manifest.job.engine,
        "items": len(manifest.job.items),
        "summary": dict(manifest.summary),
    }


def unfinished(begun: Begun, *, writer: int | None) -> dict[str, Json]:
    """One line of `scillm runs list` for a run under way, or interrupted if nobody writes it."""
    return {
        "id": begun.run_id,
        "created": begun.created,
        "engine": begun.job.engine,
        "items": len(begun.job.items),
        "unfinished": True,
        "running_pid": writer,
    }


def listed_cells(row: Mapping[str, Json]) -> list[str]:
    """The same as text; a run that cannot be read has its reason where the summary would be."""
    if "error" in row:
        return [row["id"], "", "", "", f"cannot be read: {row['error']}"]
    if row.get("unfinished"):
        how = f"unfinished: scillm runs resume {row['id']}"
        if row["running_pid"] is not None:
            how = f"running in process {row['running_pid']}"
        return [row["id"], row["created"], row["engine"], str(row["items"]), how]
    summary = ", ".join(pairs(row["summary"]))
    return [row["id"], row["created"], row["engine"], str(row["items"]), summary]


def pairs(value: Mapping[str, Json], above: str = "") -> Iterator[str]:
    """A mapping as `name=value` texts, with the names of nested mappings joined by dots."""
    for name, inner in value.items():
        path = f"{above}{name}"
        if isinstance(inner, Mapping) and inner:
            yield from pairs(inner, f"{path}.")
        else:
            yield f"{path}={plain_json(inner)}"


def facts(manifest: Manifest) -> list[tuple[str, str]]:
    """What `scillm runs show` says above the findings."""
    job = manifest.job
    return [
        ("created", manifest.created),
        ("engine", job.engine),
        ("seed", str(job.seed)),
        ("items", str(len(job.items))),
        ("results", str(len(manifest.results))),
        ("options", ", ".join(pairs(job.options)) or "(none)"),
        *((f"summary {name}", plain_json(value)) for name, value in manifest.summary.items()),
        *((f"on {name}", environment(value)) for name, value in manifest.environment.items()),
    ]


def environment(value: Json) -> str:
    """One fact about the machine as text."""
    return ", ".join(pairs(value)) if isinstance(value, Mapping) else plain_json(value)


def changes(then: Json, now: Json, above: str = "") -> Iterator[tuple[str, Json, Json]]:
    """Where two JSON values differ: path, then, now. The path of the whole value is empty."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys((*then, *now)):
            path = f"{above}.{name}" if above else name
            yield from changes(then.get(name, ABSENT), now.get(name, ABSENT), path)
    elif then is ABSENT or now is ABSENT or plain_json([then]) != plain_json([now]):
        yield above, then, now


def arrow(then: Json, now: Json) -> str:
    """`then → now`, and for two mappings only what differs."""
    texts = []
    for path, before, after in changes(then, now):
        change = f"{_text(before)} → {_text(after)}"
        texts.append(f"{path}: {change}" if path else change)
    return "; ".join(texts)


def compared_cells(row: Comparison) -> list[str]:
    """One line of `scillm runs replay`; what came out the same needs no words."""
    then = ABSENT if row.status == "new" else row.then
    now = ABSENT if row.status == "missing" else row.now
    return [row.id, row.status, "" if row.status == "same" else arrow(then, now)]


def drift_cells(drift: Mapping[str, Sequence[Json]]) -> list[list[str]]:
    """What differs between the machines: fact, `then → now`."""
    return [
        [path or name, f"{_text(before)} → {_text(after)}"]
        for name, (then, now) in drift.items()
        for path, before, after in changes(then, now, name)
    ]


def verdict(again: Replay) -> str:
    """The last line of a replay."""
    if not again.rows:
        return "This run has no findings: there is nothing to compare."
    same = sum(row.status == "same" for row in again.rows)
    return f"{same} of {len(again.rows)} findings are the same."


def replayed(again: Replay) -> dict[str, Json]:
    """A replay as JSON."""
    return {
        "run_id": again.run_id,
        "same": again.same,
        "findings": [asdict(row) for row in again.rows],
        "drift": {name: list(values) for name, values in again.drift.items()},
        "note": NOT_COMPARED,
    }


def verified(found: Verified) -> dict[str, Json]:
    """A verification as JSON."""
    return {**asdict(found), "sound": not found.problems}


def verified_line(found: Verified) -> str:
    """The last line of a verification."""
    if found.problems:
        count = len(found.problems)
        return f"{found.run_id} does not follow from its record: {count} problems."
    return (
        f"{found.run_id} is sound: {found.rows} rows came out the same, to the byte, and so did "
        f"the results. Record {found.head}."
    )


def rerun(again: Rerun) -> dict[str, Json]:
    """A re-execution as JSON."""
    return {**asdict(again), "same": again.same, "note": NOT_COMPARED}


def rerun_tables(again: Rerun) -> Iterator[tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """What differs, below the findings: rows of the record, the machine, its packages."""
    if again.differing:
        rows = [[str(row["row"]), arrow(row["then"], row["now"])] for row in again.differing]
        yield ("row", "then → now"), rows
    if again.drift:
        yield ("environment", "then → now"), drift_cells(again.drift)
    if again.packages:
        rows = [
            [name, f"{then or ABSENT} → {now or ABSENT}"]
            for name, (then, now) in again.packages.items()
        ]
        yield ("package", "then → now"), rows


def rerun_line(again: Rerun) -> str:
    """The last line of a re-execution."""
    same = sum(row.status == "same" for row in again.rows)
    record = "so is" if again.record_same else "but not"
    return f"{same} of {len(again.rows)} findings are the same, {record} every row of the record."


def _text(value: Json) -> str:
    return str(value) if value is ABSENT else plain_json(value)
