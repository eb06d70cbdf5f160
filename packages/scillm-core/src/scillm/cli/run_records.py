"""`scillm runs verify`, `rerun`, `resume` and `export`: what the record of a run is for."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from scillm import portal
from scillm.cli import output, run_rows
from scillm.cli.run_options import options, runs_dir, store_in
from scillm.events import ItemFinished
from scillm.runs import recorded
from scillm.runs.export import export, unpack
from scillm.runs.store import RunStore

if TYPE_CHECKING:
    from scillm.events import Event
    from scillm.protocols import Engine
    from scillm.runs.manifest import Manifest

Result = TypeVar("Result")


@click.command("verify")
@click.argument("run_id", metavar="ID|FILE")
@options
@click.pass_context
def verify_run(ctx: click.Context, run_id: str, runs_dir: Path | None, as_json: bool) -> None:
    """Check a stored run without executing anything.

    Scores every stored answer anew and walks the search again: it must come to the same record,
    to the byte, and to the same results. ID may be the beginning of an id; FILE is an exported
    run. Exits with 1 when something does not follow.
    """
    with opened(run_id, runs_dir) as (manifest, folder):
        found = with_engine(
            manifest.job.engine,
            f"verifying {manifest.run_id}",
            lambda engine: recorded.verify(engine, manifest, folder),
        )
    if as_json:
        output.document(run_rows.verified(found))
    else:
        for problem in found.problems:
            output.line(problem)
        style = "bold red" if found.problems else "bold green"
        output.heading(run_rows.verified_line(found), style=style)
    ctx.exit(1 if found.problems else 0)


@click.command("rerun")
@click.argument("run_id", metavar="ID|FILE")
@options
@click.pass_context
def rerun(ctx: click.Context, run_id: str, runs_dir: Path | None, as_json: bool) -> None:
    """Execute a stored run again and compare it with its record, row by row.

    Timings are not compared. What differs about the machine and its packages is listed. Nothing
    is stored. Exits with 1 unless everything came out the same.
    """
    with opened(run_id, runs_dir) as (manifest, folder):
        again = with_engine(
            manifest.job.engine,
            f"running {manifest.run_id} again",
            lambda engine: recorded.rerun(engine, manifest, folder),
        )
    if as_json:
        output.document(run_rows.rerun(again))
        ctx.exit(0 if again.same else 1)
    output.table(
        ("finding", "status", "then → now"), [run_rows.compared_cells(row) for row in again.rows]
    )
    for title, rows in run_rows.rerun_tables(again):
        output.gap()
        output.table(title, rows)
    output.gap()
    output.heading(run_rows.rerun_line(again), style="bold green" if again.same else "bold red")
    output.line(run_rows.NOT_COMPARED)
    ctx.exit(0 if again.same else 1)


@click.command("resume")
@click.argument("run_id", metavar="ID")
@options
def resume_run(run_id: str, runs_dir: Path | None, as_json: bool) -> None:
    """Finish a run that was interrupted, wherever that was.

    What it already executed is read from its record; only the rest is done.
    """
    store = store_in(runs_dir)
    begun = store.begun(run_id)
    manifest = with_engine(
        begun.job.engine,
        f"resuming {begun.run_id}",
        lambda engine: recorded.resume(engine, begun, store),
    )
    if as_json:
        output.document(run_rows.listed(manifest))
    else:
        output.table(("run", manifest.run_id), run_rows.facts(manifest))


@click.command("export")
@click.argument("run_id", metavar="ID")
@click.option(
    "-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="The file to write; by default ID.zip here.",
)  # fmt: skip
@runs_dir
def export_run(run_id: str, target: Path | None, runs_dir: Path | None) -> None:
    """Write a stored run, with its record and everything it refers to, into one file.

    The file is the same to the byte whenever it is made; `scillm runs verify FILE` checks it.
    """
    folder = store_in(runs_dir).folder(run_id)
    path = Path(f"{folder.name}.zip") if target is None else target
    count = export(folder, path)
    output.line(f"{path}: {count} files of the run {folder.name}")


COMMANDS = (verify_run, rerun, resume_run, export_run)


@contextmanager
def opened(run_id: str, root: Path | None) -> Iterator[tuple[Manifest, Path]]:
    """The manifest and folder of a run of the store, or of an exported file."""
    if not run_id.endswith(".zip"):
        store = store_in(root)
        yield store.load(run_id), store.folder(run_id)
        return
    with tempfile.TemporaryDirectory(prefix="scillm-run-") as folder:
        unpacked = RunStore(folder)
        name = unpack(Path(run_id), unpacked.root)
        yield unpacked.load(name), unpacked.folder(name)


def with_engine(name: str, doing: str, work: Callable[[Engine], Awaitable[Result]]) -> Result:
    """Run `work` with the engine called `name`, telling on a terminal how far it is."""
    # Only these commands need engines, and with them the Router and its HTTP library.
    from scillm.cli.engines import engine_named

    with output.busy(doing) as status:

        def told(event: Event) -> None:
            if status is not None and isinstance(event, ItemFinished):
                status.update(f"{doing}: {event.done} of {event.total} items")

        with engine_named(name, told) as engine:
            found: Any = portal.call(work, engine)
            return found  # type: ignore[no-any-return]
