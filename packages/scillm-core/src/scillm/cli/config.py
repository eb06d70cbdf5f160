"""`scillm config`: every setting, its value, and where the value comes from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from scillm.cli import output
from scillm.cli.installation import registry, settings

if TYPE_CHECKING:
    from scillm.plugins.settings import Resolved
    from scillm.records import Json

CREDENTIALS = re.compile(r"(?<=://)[^/?#@\s]+(?=@)")
"""User and password inside a URL."""


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with what each setting means.")
def command(as_json: bool) -> None:
    """Show every setting, its value and where it comes from.

    Secrets are masked. The source is an environment variable, or `default`.
    """
    rows = settings(registry()).rows()
    if as_json:
        output.document([described(row) for row in rows])
    else:
        output.table(
            ("name", "value", "source"),
            [[row.setting.name, shown_text(row), row.source] for row in rows],
        )


def described(row: Resolved) -> dict[str, Json]:
    """One setting as JSON."""
    return {
        "name": row.setting.name,
        "value": shown(row),
        "source": row.source,
        "secret": row.setting.secret,
        "env": list(row.setting.env),
        "doc": row.setting.doc,
    }


def shown(row: Resolved) -> Json:
    """The value with secrets masked, also the credentials inside a URL."""
    value = row.shown()
    if isinstance(value, tuple):
        return list(value)
    return CREDENTIALS.sub("***", value) if isinstance(value, str) else value


def shown_text(row: Resolved) -> str:
    """The value in a table."""
    value = shown(row)
    if value is None or value in ("", []):
        return "(not set)"
    return ", ".join(value) if isinstance(value, list) else output.plain_json(value)
