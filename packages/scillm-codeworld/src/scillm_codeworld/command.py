"""`scillm codeworld`: run items, serve the bridge, draw a report, show the isolation."""

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
from scillm.runs.recorded import keep_job
from scillm.runs.store import RunStore

from scillm_codeworld.engine.jobs import CodeWorldEngine
from scillm_codeworld.files import read_items
from scillm_codeworld.items import storable
from scillm_codeworld.plugin import levels_here
from scillm_codeworld.records import ENGINE
from scillm_codeworld.report import text as report
from scillm_codeworld.settings import ALL_SETTINGS, options_from, seed_from

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.runs.manifest import Manifest


@click.group(name="codeworld")
def command() -> None:
    """Run code variants for real and rank them by what happened."""


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--seed", type=int, metavar="N", help="Decides the order of execution; default 0.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Longest time of one call.")
@click.option("--strategy", metavar="NAME", help="What to run next: sweep (all), race, mcts, …")
@click.option("--pull", metavar="KIND", help="What a trial is: run, case, or timing.")
@click.option("--rollouts", type=int, metavar="N", help="Trials of each item's search.")
@click.option("--width", type=int, metavar="N", help="Trials the search asks for at once.")
@click.option("--workers", type=int, metavar="N", help="Processes at the same time.")
@click.option("--judge", metavar="MODE", help="weighted, lexicographic or pareto.")
@click.option("--isolation", metavar="LEVEL", help="The weakest isolation that will do, e.g. L3.")
@click.option("--language", "languages", multiple=True, metavar="NAME",
              help="Besides Python: c, cpp, rust, go, javascript. May be repeated.")  # fmt: skip
@click.option("--module", "modules", multiple=True, metavar="NAME",
              help="What Python programs may import besides its library: numpy.")  # fmt: skip
@click.option("--generate", type=int, metavar="N", help="Have a model write N programs per item.")
@click.option("--model", metavar="NAME", help="The model that writes: openai/…")
@click.option("--refine", is_flag=True, help="Let the strategy have programs refined by it.")
@click.option(
    "--runs-dir", type=click.Path(path_type=Path), help="Folder of the run store.", metavar="DIR"
)
def run(
    *,
    files: Sequence[Path],
    as_json: bool,
    seed: int | None,
    timeout: float | None,
    strategy: str | None,
    pull: str | None,
    rollouts: int | None,
    width: int | None,
    workers: int | None,
    judge: str | None,
    isolation: str | None,
    languages: Sequence[str],
    modules: Sequence[str],
    generate: int | None,
    model: str | None,
    refine: bool,
    runs_dir: Path | None,
) -> None:
    """Run every variant of every item in FILE… (JSON or YAML files, or folders of them).

    A file holds {"items": [{"task": …, "context": {"code_variants": {ID: CODE}, "inputs": [CASE,
    …], "expected": [ANSWER, …]}}, …]}. The function `solve` of each variant is called with one
    case at a time, each in a process of its own that never learns the expected answers.

    Exits with 1 when some item is invalid or has no variant that is right in every case.
    """
    try:
        values = settings.load(more=ALL_SETTINGS)
        asked = {
            "timeout_s": timeout,
            "strategy": strategy,
            "params": None if pull is None else {"pull": pull},
            "rollouts": rollouts,
            "width": width,
            "workers": workers,
            "judge": judge,
            "isolation": isolation,
            "allowed_languages": ["python", *languages] if languages else None,
            "allowed_modules": list(modules) or None,
            "autogenerate": _wished(generate, model, refine=refine),
        }
        given = {name: value for name, value in asked.items() if value is not None}
        job = Job(
            engine=ENGINE,
            items=[storable(item) for item in read_items(files)],
            options=options_from(values, given).to_dict(),
            seed=seed_from(values, seed),
        )
        store = RunStore(runs_dir or values["runs_dir"])
        with output.busy(f"0 of {len(job.items)} items") as status:
            engine = CodeWorldEngine(emit=_progress(None if status is None else status.update))
            manifest = _kept(engine, job, store)
    except UsageError as error:
        raise click.UsageError(error.message) from error
    except ScillmError as error:
        raise click.ClickException(error.message) from error
    _show_json(manifest) if as_json else _show(manifest)
    where = "" if runs_dir is None else f" --runs-dir {shlex.quote(str(runs_dir))}"
    again = f"scillm runs rerun {manifest.run_id}{where}"
    output.note(
        f"run {manifest.run_id}; run it again with: {again} (verify checks it without running)",
        word="Kept",
    )
    if manifest.summary["failed"]:
        raise click.exceptions.Exit(1)


@command.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8888, show_default=True, help="Port; 0 takes a free one.")
@click.option("--max-items", type=int, metavar="N", help="Items of one request (1000).")
@click.option("--max-seconds", type=float, metavar="SECONDS", help="Work per request (600).")
@click.option("--max-concurrency", type=int, metavar="N", help="Requests worked on at once (2).")
@click.option("--isolation", metavar="LEVEL", help="The weakest isolation for every job.")
@click.option("--keep/--no-keep", default=None, help="Whether runs are kept in the run store.")
@click.option("--runs-dir", type=click.Path(path_type=Path), help="Folder of the run store.")
def serve(
    *,
    host: str,
    port: int,
    isolation: str | None,
    keep: bool | None,
    runs_dir: Path | None,
    **limits: float | None,
) -> None:
    """Serve CodeWorld over HTTP: POST /bridge/complete.

    CODEWORLD_TOKEN is what clients must send; without it only this machine is answered, and only
    loopback is listened on. SIGINT or SIGTERM end it.
    """
    try:
        from scillm.serve import run as server
        from scillm.serve.guard import refuse_open_host

        from scillm_codeworld import bridge
    except ImportError as error:
        raise click.ClickException(
            f"The bridge needs {error.name}: pip install 'scillm-codeworld[bridge]'."
        ) from error
    try:
        values = dict(settings.load(more=ALL_SETTINGS))
        if keep is not None:
            values["codeworld_keep"] = keep
        if runs_dir is not None:
            values["runs_dir"] = str(runs_dir)
        given = {name: value for name, value in limits.items() if value is not None}
        app = bridge.make_app(values, limits=bridge.limits_of(given), isolation=isolation)
        token = values["codeworld_token"]
        refuse_open_host(host, token=token, variable="CODEWORLD_TOKEN")
        server.serve(app, host=host, port=port, token=token, name="codeworld")
    except UsageError as error:
        raise click.UsageError(error.message) from error


@command.command(name="report")
@click.argument("run_id", metavar="RUN")
@click.option(
    "-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Where the page is written; default RUN.html here.",
)  # fmt: skip
@click.option("--runs-dir", type=click.Path(path_type=Path), help="Folder of the run store.")
def report_command(*, run_id: str, target: Path | None, runs_dir: Path | None) -> None:
    """Draw a kept run as one HTML page: ranking, search, timings, differences, failures.

    The page holds no script and loads nothing.
    """
    from scillm_codeworld.report.page import page
    from scillm_codeworld.report.story import story_of

    try:
        store = RunStore(runs_dir or settings.load()["runs_dir"])
        manifest = store.load(run_id)
        text = page(story_of(manifest, store.folder(manifest.run_id)))
        path = target or Path(f"{manifest.run_id}.html")
        path.write_text(text, encoding="utf-8")
    except ScillmError as error:
        raise click.ClickException(error.message) from error
    except OSError as error:
        raise click.ClickException(f"The report cannot be written: {error}") from error
    output.line(str(path))


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(*, as_json: bool) -> None:
    """Open every level of isolation this host gives, and show what was observed inside.

    Exits with 1 when there is none.
    """
    try:
        found = portal.call(levels_here)
    except ScillmError as error:
        raise click.ClickException(error.message) from error
    if as_json:
        output.document(found)
    else:
        output.table(report.LEVEL_COLUMNS, report.level_rows(found))
        for row in found:
            if row["open"]:
                output.remark(row["level"], f"inside, the probe found open: {row['open']}")
        best = next((row["level"] for row in found if row["default"]), None)
        output.line(f"Code is run at {best} here." if best else "No code can be run here.")
    if not any(row["works"] for row in found):
        raise click.exceptions.Exit(1)


def _wished(n: int | None, model: str | None, *, refine: bool) -> dict[str, Json] | None:
    if n is None and model is None and not refine:
        return None
    found = {"n": n, "model": model, "refine": refine or None}
    return {name: value for name, value in found.items() if value is not None}


def _kept(engine: CodeWorldEngine, job: Job, store: RunStore) -> Manifest:
    """Run and keep; who interrupts it is told how to go on."""
    before = set(store.unfinished())
    try:
        return portal.call(keep_job, engine, job, store)
    except KeyboardInterrupt:
        for run_id in sorted(set(store.unfinished()) - before):
            again = f"scillm runs resume {run_id} --runs-dir {shlex.quote(str(store.root))}"
            output.note(f"run {run_id}; go on with: {again}", word="Interrupted")
        raise


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
        for told in report.search_lines(result):
            output.line(told)
        output.line()
    level = report.isolation(manifest.results)
    output.line(f"{report.totals(manifest.summary)}; isolation: {level}")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        output.table(columns, rows)
