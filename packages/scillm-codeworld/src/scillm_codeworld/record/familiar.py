"""The keys that users of the earlier bridge know: `mcts` of a result, and of a run manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_codeworld.records import EVERYTHING

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.runs.manifest import Manifest

SCHEMA = "canonical+codeworld@v1"
FIXED_DEPTH = 1
"""Generations of refinement when the programs are given: what `depth` honestly means here."""


def mcts_stats(search: Mapping[str, Json]) -> dict[str, Json] | None:
    """A search in the older words; None when everything was simply run.

    `visits` are told trials, one per rollout; `best_variant` is an id; values are real scores.
    """
    if not search or search["strategy"] in EVERYTHING:
        return None
    params, told = search["params"], [row for row in search["trials"] if not row["withdrawn"]]
    by_arm: dict[str, list[float]] = {}
    for row in told:
        by_arm.setdefault(row["made"] or row["arm"], []).append(row["score"] or 0.0)
    return {
        "best_variant": search["best"],
        "best_value": search["best_score"],
        "rollouts": len(told),
        "visits": len(told),
        "explored": len(by_arm),
        "depth": params.get("depth", FIXED_DEPTH),
        "uct_c": params.get("uct_c", params.get("c")),
        "seed": search["seed"],
        "error": None if search["best"] is not None else "nothing_scored",
        "child_stats": [
            {
                "index": index,
                "id": arm,
                "visits": len(scores),
                "value_sum": sum(scores),
                "value_mean": sum(scores) / len(scores),
            }
            for index, (arm, scores) in enumerate(by_arm.items())
        ],
    }


def run_manifest(
    manifest: Manifest, *, ts: float, session: Mapping[str, Json] | None = None
) -> dict[str, Json]:
    """The head of `manifest` with the older keys; `ts` is the time in seconds since 1970."""
    head = manifest.head()
    options = manifest.job.options
    found: dict[str, Json] = {
        **head,
        "manifest_schema": head["schema"],
        "schema": SCHEMA,
        "ts": ts,
        "options": {
            "max_seconds": (options.get("budget") or {}).get("seconds"),
            "session_id": None,
            "track_id": None,
            **(session or {}),
        },
        "task_ids": _ids(manifest.results),
        "item_ids": _ids(manifest.results),
        "tools": [],
    }
    stats = next((row["mcts"] for row in manifest.results if row.get("mcts")), None)
    if stats is not None:
        found |= {
            "strategy_name": options.get("strategy"),
            "strategy_seed": manifest.job.seed,
            "strategy_params": {name: stats[name] for name in ("rollouts", "depth", "uct_c")},
            "mcts_stats": stats,
        }
    return found


def _ids(results: Sequence[Mapping[str, Json]]) -> list[Json]:
    return [result["item_id"] for result in results]
