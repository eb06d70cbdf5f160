"""`scillm chutes`: look at the models, ask for one, check the account, serve a fake."""

from __future__ import annotations

import click

from scillm_chutes.commands import accounts, catalog, hosting


@click.group(name="chutes")
def command() -> None:
    """Discover, resolve, rank and check Chutes models."""


for part in (*catalog.COMMANDS, *accounts.COMMANDS, *hosting.COMMANDS):
    command.add_command(part)
