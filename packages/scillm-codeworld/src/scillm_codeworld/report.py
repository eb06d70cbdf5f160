"""The result of a job as people read it: headings, rows and remarks, as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm.records import Json

COLUMNS = ("rank", "variant", "status", "right", "speed", "aggregate", "time", "reason")
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
            _correct(variant),
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


def totals(summary: Mapping[str, Json]) -> str:
    """The last line: how many items had a variant that is right in every case."""
    text = f"items={summary['items']}, succeeded={summary['succeeded']}, failed={summary['failed']}"
    return f"{text}, not scored={summary['not_scored']}" if summary["not_scored"] else text


def _correct(variant: Mapping[str, Json]) -> str:
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
    return ", ".join(sorted(levels)) or "nothing was run"
