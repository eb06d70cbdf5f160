"""`scillm batch`: run an OpenAI Batch file against any model, over crashes and interruptions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scillm.cli import batch_rows, output
from scillm.cli.batch_plan import Plan
from scillm.cli.batch_run import run_plan

if TYPE_CHECKING:
    from scillm.cli.batch_plan import Ended


@click.group("batch")
def command() -> None:
    """Run many requests from a file, each answered once."""


@command.command("run")
@click.argument("in_path", metavar="IN.jsonl", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("out_path", metavar="OUT.jsonl", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-m", "--model", help="The model for every request; by default each body's own.")
@click.option("--api-base", help="Base URL of the service.")
@click.option(
    "--api-key-env", metavar="NAME", help="Environment variable that holds the key for it."
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Requests in flight at once.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds one attempt may take.",
)
@click.option(
    "--retry/--no-retry",
    "retry",
    default=True,
    show_default=True,
    help="Try a request again when that can help, as the settings retry_… say.",
)
@click.option(
    "--budget-usd",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="Most the whole batch may cost, earlier runs included.",
)
@click.option(
    "--budget-tokens", type=click.IntRange(min=0), help="Most tokens it may use, in and out."
)
@click.option("--budget-requests", type=click.IntRange(min=0), help="Most requests it may send.")
@click.option(
    "--input-price",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="Price of a million tokens in.",
)
@click.option("--output-price", type=click.FloatRange(min=0), metavar="USD", help="The same, out.")
@click.option("--retry-failed", is_flag=True, help="Ask again what an earlier run gave up.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def run_file(
    ctx: click.Context,
    /,
    in_path: Path,
    out_path: Path,
    model: str | None,
    api_base: str | None,
    api_key_env: str | None,
    concurrency: int,
    timeout_s: float | None,
    retry: bool,
    retry_failed: bool,
    as_json: bool,
    **money: Any,
) -> None:
    """Answer every request of IN.jsonl, in the OpenAI Batch format, into OUT.jsonl.

    Answers are kept in OUT.jsonl.journal as they come. OUT.jsonl is written when every request has
    its answer or its stated failure, in the order of IN.jsonl. The same command goes on after an
    interruption: Ctrl-C finishes what is in flight, a second one does not. Exits with 1 unless
    every request is answered. A budget that is used up stops the run before the next request
    leaves; what is in flight is finished.
    """
    plan = Plan(
        in_path=in_path,
        out_path=out_path,
        model=model,
        api_base=api_base,
        api_key_env=api_key_env,
        concurrency=concurrency,
        timeout_s=timeout_s,
        retry=retry,
        retry_failed=retry_failed,
        **money,
    )
    ended = run_plan(plan)
    if as_json:
        output.document(batch_rows.outcome(plan, ended))
    else:
        show_outcome(plan, ended)
    ctx.exit(ended.exit_code)


@command.command("status")
@click.argument("out_path", metavar="OUT.jsonl", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(out_path: Path, as_json: bool) -> None:
    """Show how far the batch behind OUT.jsonl is; it may be running meanwhile."""
    found = batch_rows.status_of(out_path)
    if as_json:
        output.document(found)
        return
    output.table(("batch", str(out_path)), batch_rows.status_cells(found))


def show_outcome(plan: Plan, ended: Ended) -> None:
    """Say what came out, and how to go on when something is left."""
    output.heading(
        batch_rows.outcome_text(plan, ended), style="bold green" if ended.is_whole else "bold red"
    )
    if ended.reason:
        output.error(ended.reason)
    if ended.resume:
        output.line(f"To go on: {ended.resume}")
    elif ended.failed:
        output.line(f"To try them again: {plan.again(retry_failed=True)}")
