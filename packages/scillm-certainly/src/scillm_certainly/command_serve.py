"""`scillm certainly serve`: the bridge from a shell."""

from __future__ import annotations

import click
from attrs import evolve
from scillm.cli import output
from scillm.errors import ScillmError, UsageError
from scillm.plugins.settings import load

from scillm_certainly.settings import SETTINGS

PORT = 8787


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", default=PORT, show_default=True, help="Port; 0 takes a free one.")
@click.option("--max-items", default=5_000, show_default=True, help="Items of one request.")
@click.option("--max-seconds", default=600.0, show_default=True, help="Time of one request.")
@click.option("--max-mb", default=16, show_default=True, help="Size of one request.")
@click.option("--concurrency", default=8, show_default=True, help="Requests under way at once.")
def serve(
    *,
    host: str,
    port: int,
    max_items: int,
    max_seconds: float,
    max_mb: int,
    concurrency: int,
) -> None:
    """Serve Certainly over HTTP: SciLLM's bridge, and Kimina Lean Server's API beside it.

    Callers must show the token in SCILLM_CERTAINLY_TOKEN when it is set; without it, only this
    machine is answered.
    """
    bounds = {
        "--max-items": max_items,
        "--max-seconds": max_seconds,
        "--max-mb": max_mb,
        "--concurrency": concurrency,
    }
    for name, value in bounds.items():
        if not value > 0:
            raise click.UsageError(f"{name} must be above 0, but is {value}.")
    try:
        from scillm.serve.run import serve as run_server

        from scillm_certainly.bridge import LIMITS, certainly_app
    except ImportError as error:
        raise click.ClickException(
            f"The bridge needs {error.name}: pip install 'scillm-certainly[bridge]'."
        ) from error
    values = load(more=SETTINGS)
    limits = evolve(
        LIMITS,
        max_items=max_items,
        max_seconds=max_seconds,
        max_body_bytes=max_mb * 1024 * 1024,
        max_concurrency=concurrency,
    )
    try:
        run_server(
            certainly_app(values, limits=limits),
            host=host,
            port=port,
            token=values["certainly_token"],
            name="scillm certainly",
            say=output.line,
        )
    except UsageError as error:
        raise click.UsageError(error.message) from error
    except ScillmError as error:
        raise click.ClickException(error.message) from error
