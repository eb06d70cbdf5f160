"""`scillm codeworld`: run the items of files and show which variant is best."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from scillm import portal
from scillm.cli import output
from scillm.errors import ScillmError, UsageError
from scillm.events import Event, ItemFinished
from scillm.plugins import settings
from scillm.records import Job
from scillm.runs.replay import record_job
from scillm.runs.store import RunStore

from scillm_codeworld import report
from scillm_codeworld.engine import CodeWorldEngine
from scillm_codeworld.files import read_items
from scillm_codeworld.items import storable
from scillm_codeworld.records import ENGINE
from scillm_codeworld.settings import SETTINGS, options_from

if TYPE_CHECKING:
    from scillm.runs.manifest import Manifest


@click.group(name="codeworld")
def command() -> None:
    """Run code variants for real and rank them by what happened."""


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--seed", default=0, show_default=True, help="Decides the order of execution.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Longest time of one call.")
@click.option(
    "--runs-dir", type=click.Path(path_type=Path), help="Folder of the run store.", metavar="DIR"
)
def run(
    *,
    files: Sequence[Path],
    as_json: bool,
    seed: int,
    timeout: float | None,
    runs_dir: Path | None,
) -> None:
    """Run every variant of every item in FILE… (JSON or YAML files, or folders of them).

    A file holds {"items": [{"task": …, "context": {"code_variants": {ID: CODE}, "inputs": [CASE,
    …], "expected": [ANSWER, …]}}, …]}. The function `solve` of each variant is called with one
    case at a time, each in a process of its own that never learns the expected answers.

    Exits with 1 when some item is invalid or has no variant that is right in every case.
    """
    try:
        values = settings.load(more=SETTINGS)
        given = {} if timeout is None else {"timeout_s": timeout}
        job = Job(
            engine=ENGINE,
            items=[storable(item) for item in read_items(files)],
            options=options_from(values, given).to_dict(),
            seed=seed,
        )
        store = RunStore(runs_dir or values["runs_dir"])
        with output.busy(f"0 of {len(job.items)} items") as status:
            engine = CodeWorldEngine(emit=_progress(None if status is None else status.update))
            manifest = portal.call(record_job, engine, job, store)
    except UsageError as error:
        raise click.UsageError(error.message) from error
    except ScillmError as error:
        raise click.ClickException(error.message) from error
    _show_json(manifest) if as_json else _show(manifest)
    where = "" if runs_dir is None else f" --runs-dir {shlex.quote(str(runs_dir))}"
    again = f"scillm runs replay {manifest.run_id}{where}"
    output.note(f"run {manifest.run_id}; run it again with: {again}", word="Kept")
    if manifest.summary["failed"]:
        raise click.exceptions.Exit(1)


def _progress(update: Callable[[str], None] | None) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if update is not None and isinstance(event, ItemFinished):
            update(f"{event.done} of {event.total} items")

    return listen


def _show_json(manifest: Manifest) -> None:
    item_ids = [result["item_id"] for result in manifest.results]
    output.document(
        {
            "summary": manifest.summary,
            "results": manifest.results,
            "run_manifest": {**manifest.head(), "item_ids": item_ids},
        }
    )


def _show(manifest: Manifest) -> None:
    for result in manifest.results:
        output.heading(report.heading(result))
        if output.for_terminal():
            # A terminal is narrow: the reasons go below the table, where they have room.
            _table(report.COLUMNS[:-1], [row[:-1] for row in report.rows(result)])
            for title, reason in report.reasons(result):
                output.remark(title, reason)
        else:
            _table(report.COLUMNS, report.rows(result))
        output.line(report.closing(result))
        output.line()
    level = report.isolation(manifest.results)
    output.line(f"{report.totals(manifest.summary)}; isolation: {level}")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        output.table(columns, rows)
