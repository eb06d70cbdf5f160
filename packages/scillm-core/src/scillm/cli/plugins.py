"""`scillm plugins`: what is installed, and whether it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from attrs import asdict

from scillm.cli import output
from scillm.cli.installation import prints_to_stderr, registry

if TYPE_CHECKING:
    from scillm.plugins.registry import PluginInfo

COLUMNS = ("name", "group", "distribution", "version", "status", "reason")
BROKEN = ("failed", "conflict")


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show the installed plugins and whether they work.

    Every plugin is imported to find out. Exits with 1 when one has failed or two are in conflict.
    """
    with output.busy("importing plugins"), prints_to_stderr():
        found = registry().describe()
    if as_json:
        output.document([asdict(info) for info in found])
    else:
        show(sorted(found, key=lambda info: (info.group, info.name, info.distribution)))
    ctx.exit(1 if any(info.status in BROKEN for info in found) else 0)


def show(found: list[PluginInfo]) -> None:
    """A table; on a terminal the reasons follow below it, where they have room."""
    rows = [[str(getattr(info, column)) for column in COLUMNS] for info in found]
    if not output.for_terminal():
        output.table(COLUMNS, rows)
        return
    output.table(COLUMNS[:-1], [row[:-1] for row in rows])
    # A conflict has the same reason on both its lines; once is enough.
    reasons = {f"{info.name} ({info.group})": info.reason for info in found if info.reason}
    for title, reason in reasons.items():
        output.remark(title, reason)
