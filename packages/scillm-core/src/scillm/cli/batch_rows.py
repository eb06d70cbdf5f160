"""A batch's outcome and status as text and as JSON."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.batch.ledger import failures_in, journal_path, read_index
from scillm.errors import UsageError
from scillm.resilience.spend import in_usd
from scillm.runs.lock import writer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.cli.batch_plan import Ended, Plan
    from scillm.records import Json


def outcome(plan: Plan, ended: Ended) -> dict[str, Json]:
    """How a run ended, as JSON."""
    return {
        "requests": ended.requests,
        "answered": ended.answered,
        "failed": ended.failed,
        "open": ended.requests - ended.answered - ended.failed,
        "cut_off": ended.progress.dropped,
        "output": str(plan.out_path) if ended.is_written else None,
        "journal": str(journal_path(plan.out_path)),
        "error": ended.reason or None,
        "resume": ended.resume or None,
        "spend": spend_json(ended.spent),
    }


def spend_json(spent: Mapping[str, int]) -> dict[str, Json]:
    """What a batch has spent, over all its runs."""
    return {
        "requests": spent.get("requests", 0),
        "tokens": spent.get("tokens", 0),
        "usd": in_usd(spent.get("pico_usd", 0)),
    }


def outcome_text(plan: Plan, ended: Ended) -> str:
    """How a run ended, in a sentence."""
    counts = f"{ended.answered} of {ended.requests} answered, {ended.failed} failed"
    if ended.progress.dropped:
        counts += f", {ended.progress.dropped} cut off in flight (they may have been billed)"
    if not ended.is_written:
        return f"Stopped: {counts}; {plan.out_path} is not written yet."
    return f"{'Stopped: ' if ended.resume else ''}{counts}: {plan.out_path}"


def status_of(out_path: Path) -> dict[str, Json]:
    """What the journal of a batch says, as JSON. Raises `UsageError` when there is none."""
    path = journal_path(out_path)
    if not path.exists():
        raise UsageError(
            f"There is no batch behind {out_path}: {path} does not exist. Name the OUT.jsonl of a "
            "`scillm batch run`."
        )
    writer = writer_of(path)
    index, extent = read_index(path)
    start: Mapping[str, Json] = index.starts[-1] if index.starts else {"at": None, "about": {}}
    about = dict(start["about"])
    asked = about.get("requests")
    settled = len(index.answered) + len(index.failed)
    return {
        "running": writer is not None,
        "pid": writer or None,
        "requests": asked,
        "answered": len(index.answered),
        "failed": len(index.failed),
        "open": max(0, asked - settled) if isinstance(asked, int) else None,
        "failures": dict(Counter(row.type for row in failures_in(path, index))),
        "runs": len(index.starts),
        "spend": spend_json(index.spent),
        "last_start": _utc(start["at"]),
        "about": about,
        "output": str(out_path) if out_path.exists() else None,
        "journal": {"path": str(path), "rows": extent.rows, "head": extent.head},
        "torn_bytes": extent.torn_bytes,
    }


def status_cells(found: Mapping[str, Json]) -> list[tuple[str, str]]:
    """The same as rows of a table."""
    kinds = ", ".join(f"{count} {name}" for name, count in found["failures"].items())
    about = found["about"]
    rows = [
        ("state", _state(found)),
        ("requests", _shown(found["requests"])),
        ("answered", str(found["answered"])),
        ("failed", f"{found['failed']}: {kinds}" if kinds else "0"),
        ("open", _shown(found["open"])),
        ("spent", _spent(found["spend"])),
        ("runs", f"{found['runs']}, the last began {found['last_start'] or '(unknown)'}"),
        ("model", about.get("model") or "(each request's own)"),
        ("input", _shown(about.get("input"))),
        ("output", found["output"] or "(not written yet)"),
        ("journal", f"{found['journal']['path']}, {found['journal']['rows']} rows"),
    ]
    if found["torn_bytes"] and not found["running"]:
        torn = f"{found['torn_bytes']} bytes of an unfinished row; cut off when it goes on"
        rows.append(("torn", torn))
    return rows


def _state(found: Mapping[str, Json]) -> str:
    if found["running"]:
        return f"running, process {_shown(found['pid'])}"
    return "stopped, not whole" if found["open"] or not found["output"] else "whole"


def _spent(spend: Mapping[str, Json]) -> str:
    money = f", ${spend['usd']:.6g}" if spend["usd"] else ""
    return f"{spend['requests']} requests, {spend['tokens']} tokens{money}"


def _shown(value: Json) -> str:
    return "(unknown)" if value is None else str(value)


def _utc(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")
