"""The result of a job as people read it: headings, rows and remarks, as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_codeworld.record.cases import NOTHING_RUN
from scillm_codeworld.records import EVERYTHING

if TYPE_CHECKING:
    from scillm.records import Json

COLUMNS = ("rank", "variant", "status", "right", "speed", "aggregate", "time", "reason")
LEVEL_COLUMNS = ("level", "works", "files", "network", "processes", "memory", "why not")
NONE = "-"


def heading(result: Mapping[str, Json]) -> str:
    """The line above an item's table."""
    task = " ".join(str(result.get("task", "")).split())
    return f"{result['item_id']}: {task}" if task else str(result["item_id"])


def rows(result: Mapping[str, Json]) -> list[tuple[str, ...]]:
    """One row per variant, best first."""
    return [
        (
            str(variant["rank"] or NONE),
            variant["id"],
            variant["status"],
            right_of(variant),
            _number(variant["scores"]["speed"]),
            _number(variant["aggregate"]),
            seconds(variant["wall_s"]),
            variant["reason"],
        )
        for variant in result["variants"]
    ]


def reasons(result: Mapping[str, Json]) -> list[tuple[str, str]]:
    """The variants that have something to explain, with the explanation."""
    return [
        (variant["id"], variant["reason"]) for variant in result["variants"] if variant["reason"]
    ]


def closing(result: Mapping[str, Json]) -> str:
    """The line below an item's table: the best variant, or why there is none."""
    why = result["best_reason"]
    if result["status"] == "invalid":
        return f"invalid: {result['reason']}"
    if result["best"] is None:
        return f"no best variant: {result['reason'] or why}"
    also = [name for name in result["best_tied"] if name != result["best"]]
    tied = f" (tied with {', '.join(also)})" if also else ""
    return f"best: {result['best']}{tied}" + (f"; {why}" if why else "")


def search_lines(result: Mapping[str, Json]) -> list[str]:
    """What the search did, and its control if it has one; nothing where everything was run."""
    found = result.get("search") or {}
    if not found or found["strategy"] in EVERYTHING:
        return []
    used, control = int(found["spent"]["executions"]), found.get("baseline")
    own = f"{found['strategy']}: best {_named(found)} after {used}"
    if not control:
        return [f"{own} executions (stopped: {found['stopped']})"]
    own += f" of {found['exhaustive_executions']} executions"
    other = f"{control['strategy']}, same budget: best {_named(control)} after"
    return [
        f"{own} (stopped: {found['stopped']})",
        f"{other} {control['executions']} executions",
    ]


def _named(found: Mapping[str, Json]) -> str:
    if found["best"] is None:
        return NONE
    return f"{found['best']} ({_number(found['best_score'])})"


def totals(summary: Mapping[str, Json]) -> str:
    """The last line: how many items had a variant that is right in every case."""
    text = f"items={summary['items']}, succeeded={summary['succeeded']}, failed={summary['failed']}"
    return f"{text}, not scored={summary['not_scored']}" if summary["not_scored"] else text


def right_of(variant: Mapping[str, Json]) -> str:
    """How many of its cases are right; nothing where it was not run, or nothing can be right."""
    if variant["right"] is None or variant["scores"]["correctness"] is None:
        return NONE
    return f"{variant['right']}/{variant['cases']}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def seconds(value: float | None) -> str:
    """A time in the unit that suits it."""
    if value is None:
        return NONE
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def isolation(results: Sequence[Mapping[str, Json]]) -> str:
    """The levels the variants were run at."""
    levels = {variant["isolation"] for result in results for variant in result["variants"]}
    levels = levels - {NOTHING_RUN} or levels
    return ", ".join(sorted(levels)) or "nothing was run"


def level_rows(found: Sequence[Mapping[str, Json]]) -> list[tuple[str, ...]]:
    """The levels of isolation of this host, a row each."""
    return [
        (
            row["name"] + (" (default)" if row["default"] else ""),
            "yes" if row["works"] else "no",
            *(str(row["report"].get(part, NONE)) for part in ("fs", "net", "procs", "mem")),
            row["why"],
        )
        for row in found
    ]
