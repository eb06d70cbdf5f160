"""`scillm runs`: list the stored runs, show one, and do one again; more in `run_records`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scillm.cli import output, run_rows
from scillm.cli.run_options import options, store_in
from scillm.cli.run_records import COMMANDS, with_engine
from scillm.errors import StoredRunError
from scillm.runs.lock import writer_of
from scillm.runs.record import ROWS
from scillm.runs.replay import replay

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.runs.replay import Replay
    from scillm.runs.store import RunStore


@click.group("runs")
def command() -> None:
    """List, show, verify, repeat, resume and export stored runs."""


for more in COMMANDS:
    command.add_command(more)


@command.command("list")
@options
@click.pass_context
def list_runs(ctx: click.Context, runs_dir: Path | None, as_json: bool) -> None:
    """List the stored runs, oldest first; those that have not ended are marked."""
    store = store_in(runs_dir)
    rows = [row_of(store, run_id) for run_id in store.ids()]
    rows += [begun_row(store, run_id) for run_id in store.unfinished()]
    rows.sort(key=lambda row: row["id"])
    if as_json:
        output.document(rows)
    elif rows:
        output.table(
            ("id", "created", "engine", "items", "summary"),
            [run_rows.listed_cells(row) for row in rows],
        )
    else:
        output.note(f"No runs are stored in {store.root}.")
    ctx.exit(1 if any("error" in row for row in rows) else 0)


@command.command("show")
@click.argument("run_id", metavar="ID")
@options
def show_run(run_id: str, runs_dir: Path | None, as_json: bool) -> None:
    """Show one run. ID may be the beginning of an id."""
    manifest = store_in(runs_dir).load(run_id)
    if as_json:
        output.document(manifest.to_dict())
        return
    output.table(("run", manifest.run_id), run_rows.facts(manifest))
    output.gap()
    output.table(
        ("finding", "value"), [(row.id, output.plain_json(row.value)) for row in manifest.findings]
    )


@command.command("replay")
@click.argument("run_id", metavar="ID")
@options
@click.pass_context
def replay_run(ctx: click.Context, run_id: str, runs_dir: Path | None, as_json: bool) -> None:
    """Do a stored run again and compare the outcome, finding by finding.

    Nothing is stored. Exits with 1 unless every finding came out the same.
    """
    manifest = store_in(runs_dir).load(run_id)
    again = with_engine(
        manifest.job.engine,
        f"replaying {manifest.run_id}",
        lambda engine: replay(engine, manifest),
    )
    if as_json:
        output.document(run_rows.replayed(again))
    else:
        show_replay(again)
    ctx.exit(0 if again.same else 1)


def row_of(store: RunStore, run_id: str) -> dict[str, Json]:
    """One stored run, or why it cannot be read: a damaged run must not hide the others."""
    try:
        return run_rows.listed(store.load(run_id))
    except (StoredRunError, OSError) as error:
        return {"id": run_id, "error": str(error)}


def begun_row(store: RunStore, run_id: str) -> dict[str, Json]:
    """One run that has not ended, or why it cannot be read."""
    try:
        begun = store.begun(run_id)
        return run_rows.unfinished(begun, writer=writer_of(begun.folder / ROWS))
    except (StoredRunError, OSError) as error:
        return {"id": run_id, "error": str(error)}


def show_replay(again: Replay) -> None:
    """Every finding, then what differs about the machine, then the verdict."""
    output.table(
        ("finding", "status", "then → now"), [run_rows.compared_cells(row) for row in again.rows]
    )
    drift = run_rows.drift_cells(again.drift)
    if drift:
        output.gap()
        output.table(("environment", "then → now"), drift)
    output.gap()
    output.heading(run_rows.verdict(again), style="bold green" if again.same else "bold red")
    output.line(run_rows.NOT_COMPARED)
