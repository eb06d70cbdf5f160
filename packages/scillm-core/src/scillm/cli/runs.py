"""`scillm runs`: list the stored runs, show one, and do one again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from scillm import portal
from scillm.cli import output, run_rows
from scillm.errors import StoredRunError
from scillm.events import ItemFinished
from scillm.plugins.settings import load
from scillm.runs.replay import replay
from scillm.runs.store import RunStore

if TYPE_CHECKING:
    from scillm.events import Event
    from scillm.records import Json
    from scillm.runs.replay import Replay

Function = TypeVar("Function", bound=Callable[..., Any])


def options(function: Function) -> Function:
    """The options every command here has."""
    function = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)
    return click.option(
        "--runs-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the run store; by default the setting `runs_dir`.",
    )(function)


@click.group("runs")
def command() -> None:
    """List, show and replay stored runs."""


@command.command("list")
@options
@click.pass_context
def list_runs(ctx: click.Context, runs_dir: Path | None, as_json: bool) -> None:
    """List the stored runs, oldest first."""
    store = store_in(runs_dir)
    rows = [row_of(store, run_id) for run_id in store.ids()]
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
    # Only a replay needs engines, and with them the Router and its HTTP library.
    from scillm.cli.engines import engine_named

    manifest = store_in(runs_dir).load(run_id)
    doing = f"replaying {manifest.run_id}"
    with output.busy(doing) as status:

        def told(event: Event) -> None:
            if status is not None and isinstance(event, ItemFinished):
                status.update(f"{doing}: {event.done} of {event.total} items")

        with engine_named(manifest.job.engine, told) as engine:
            again = portal.call(replay, engine, manifest)
    if as_json:
        output.document(run_rows.replayed(again))
    else:
        show_replay(again)
    ctx.exit(0 if again.same else 1)


def store_in(runs_dir: Path | None) -> RunStore:
    """The store in `runs_dir`, or in the folder of the settings."""
    return RunStore(runs_dir or load()["runs_dir"])


def row_of(store: RunStore, run_id: str) -> dict[str, Json]:
    """One stored run, or why it cannot be read: a damaged run must not hide the others."""
    try:
        return run_rows.listed(store.load(run_id))
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
