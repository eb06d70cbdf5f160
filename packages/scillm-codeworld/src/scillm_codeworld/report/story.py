"""What a report tells: a kept run with the code of its programs, and the shapes drawn from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import define, field, frozen
from scillm.errors import StoredRunError
from scillm.runs.blobs import Blobs
from scillm.runs.canonical import digest
from scillm.runs.record import BLOBS

if TYPE_CHECKING:
    from pathlib import Path

    from scillm.records import Json
    from scillm.runs.manifest import Manifest


@frozen(kw_only=True)
class Story:
    """A run as the report tells it. `codes` has every program by its digest."""

    run_id: str
    created: str
    seed: int
    options: Mapping[str, Json]
    environment: Mapping[str, Json]
    summary: Mapping[str, Json]
    results: Sequence[Mapping[str, Json]]
    codes: Mapping[str, str] = field(repr=False)
    record: Mapping[str, Json] = field(factory=dict)

    def code_of(self, variant: Mapping[str, Json]) -> str | None:
        """The code of a result's variant; None when it was lost."""
        return self.codes.get(variant["code_digest"])


def story_of(manifest: Manifest, folder: Path | None = None) -> Story:
    """The story of `manifest`; generated code is read from the blobs in the run's `folder`.

    Raises `StoredRunError` for a run of another engine.
    """
    if manifest.job.engine != "codeworld":
        raise StoredRunError(
            f"The run {manifest.run_id} is one of {manifest.job.engine!r}; this report is for "
            "runs of 'codeworld'."
        )
    codes = dict(_given(manifest.job.items))
    wanted = {row["code_digest"] for result in manifest.results for row in result["variants"]}
    if folder is not None:
        codes |= _stored(Blobs(folder / BLOBS), wanted - set(codes))
    return Story(
        run_id=manifest.run_id,
        created=manifest.created,
        seed=manifest.job.seed,
        options=manifest.job.options,
        environment=manifest.environment,
        summary=manifest.summary,
        results=manifest.results,
        codes=codes,
        record=manifest.record,
    )


def _given(items: Sequence[Mapping[str, Json]]) -> list[tuple[str, str]]:
    found = []
    for item in items:
        context = item.get("context") if isinstance(item, Mapping) else None
        given = context.get("code_variants") if isinstance(context, Mapping) else None
        rows = given.values() if isinstance(given, Mapping) else given or ()
        for row in rows:
            code = row.get("code") if isinstance(row, Mapping) else row
            if isinstance(code, str):
                found.append((digest(code), code))
    return found


def _stored(blobs: Blobs, names: set[str]) -> dict[str, str]:
    found = {}
    for name in sorted(names):
        try:
            found[name] = blobs.get(name)
        except StoredRunError:  # the page says that this program's code is missing
            continue
    return found


@define(kw_only=True)
class Node:
    """One program in the tree of a search. Collects its trials while the tree is built."""

    arm: str
    n: int = 0
    total: float = 0.0
    failed: int = 0
    best: bool = False
    children: list[Node] = field(factory=list)

    @property
    def mean(self) -> float | None:
        """Mean score of its scored trials."""
        scored = self.n - self.failed
        return self.total / scored if scored else None


def tree_of(search: Mapping[str, Json]) -> Node:
    """The search as a tree: below the root what was given or drafted, below those what was refined.

    An arm that came from several parents stands below the first.
    """
    root = Node(arm="")
    nodes: dict[str, Node] = {"": root}
    for row in search.get("trials", ()):
        if row["withdrawn"]:
            continue
        arm = row["made"] or row["arm"]
        node = nodes.get(arm)
        if node is None:
            node = nodes[arm] = Node(arm=arm, best=arm == search.get("best"))
            nodes.get(row["parent"] or "", root).children.append(node)
        node.n += 1
        node.failed += row["score"] is None
        node.total += row["score"] or 0.0
    root.n = sum(node.n for name, node in nodes.items() if name)
    return root


def names_of(result: Mapping[str, Json]) -> dict[str, str]:
    """Arm → the name people know: a given program's id, or that of one that was made."""
    found = {row["code_digest"]: row["id"] for row in reversed(result["variants"])}
    return found | {row["id"]: row["id"] for row in result["variants"]}


def parent_of(variant: Mapping[str, Json], result: Mapping[str, Json]) -> Mapping[str, Json] | None:
    """The variant this one was made from, if any."""
    name = names_of(result).get(variant["origin"].get("parent") or "")
    return next((row for row in result["variants"] if row["id"] == name), None)


def ends_of(variants: Sequence[Mapping[str, Json]]) -> dict[str, int]:
    """How many programs ended how: `right`, `wrong` (ran, but some answer is not), or the status.

    Where nothing can be right or wrong, `ok` is what ran; `unfinished` is right as far as the
    search has asked.
    """
    ends = [_end(row) for row in variants]
    return {
        end: ends.count(end) for end in sorted(set(ends), key=lambda end: (end != "right", end))
    }


def _end(row: Mapping[str, Json]) -> str:
    if row["status"] != "ok" or row["right"] is None:
        return str(row["status"])
    if row["right"] == row["cases"]:
        return "right"
    return "wrong" if failures_of(row) else "unfinished"


def repeats_of(variant: Mapping[str, Json]) -> list[float]:
    """Seconds of each repeat over all cases; empty when it was not timed.

    The first run had company, and does not count.
    """
    walls = [case["wall_s"][1:] for case in variant["executions"]]
    return [
        sum(times)
        for times in zip(*walls, strict=False)  # a case that failed has fewer
        if None not in times
    ]


def failures_of(variant: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """The cases that did not end ok, or were not right; not those that were not run."""
    return [
        case
        for case in variant["executions"]
        if case["status"] != "not_run" and (case["status"] != "ok" or case["right"] is False)
    ]
