"""`scillm certainly check`: Lean files to verdicts, as a compiler would print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click
from attrs import define, field
from scillm import portal
from scillm.cli import output
from scillm.errors import ScillmError, UsageError
from scillm.plugins.settings import load

from scillm_certainly.command_proofs import asked_of, write_certificates
from scillm_certainly.engine import CertainlyEngine, summary_of
from scillm_certainly.items import policy_of
from scillm_certainly.pool.resident import Resident, size_of
from scillm_certainly.results import lines_of, result_of
from scillm_certainly.settings import SETTINGS, defaults_of
from scillm_certainly.sources import Source, read_source, read_sources

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_certainly.items import BadItem
    from scillm_certainly.records import CheckRequest, Policy, ProofVerdict

TEXT = "text"
Asked: TypeAlias = "CheckRequest | BadItem"


@click.command()
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

    Exits with 0 only when every file is proved, with 2 when one could not be read.
    """
    try:
        values = load(more=SETTINGS)
        policy = _policy(values, axioms=axioms, heartbeats=heartbeats, timeout=timeout)
        against = None if reference is None else _whole(read_source(str(reference)))
        sources = _sources(files, text)
        asked = [asked_of(row, policy, reference=against) for row in sources]
        if as_json:
            verdicts = _check(values, asked, _Printed(asked, quiet=True))
            results = [result_of(verdict) for verdict in verdicts]
            output.document({"summary": summary_of(verdicts), "results": results})
        else:
            verdicts = _check(values, asked, _Printed(asked))
            _sum_up(verdicts)
    except UsageError as error:
        raise click.UsageError(error.message) from error
    except ScillmError as error:
        raise click.ClickException(error.message) from error
    if certificates is not None:
        say = output.note if as_json else output.line
        write_certificates(verdicts, certificates, say=say)
    if any(row.fault for row in sources):
        raise click.exceptions.Exit(2)
    if not all(verdict.proved for verdict in verdicts):
        raise click.exceptions.Exit(1)


def _policy(
    values: Mapping[str, Json],
    *,
    axioms: str | None,
    heartbeats: int | None,
    timeout: float | None,
) -> Policy:
    given: dict[str, Json] = {
        "axioms": None
        if axioms is None
        else [part.strip() for part in axioms.split(",") if part.strip()],
        "heartbeats": heartbeats,
        "check_seconds": timeout,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return policy_of({**defaults_of(values), **chosen})


def _sources(files: Sequence[str], text: str | None) -> list[Source]:
    if (text is None) == (not files):
        raise UsageError("Give Lean files, or - for standard input, or --text; one of them.")
    return read_sources(files) if text is None else [Source(name=TEXT, text=text)]


def _whole(source: Source) -> str:
    if source.fault:
        raise UsageError(f"{source.name} {source.fault}.")
    return source.text


def _check(values: Mapping[str, Json], asked: Sequence[Asked], to: _Printed) -> list[ProofVerdict]:
    try:
        with output.busy(f"0 of {len(asked)} checked") as status:
            to.status = status
            found: list[ProofVerdict] = portal.call(_checked, values, asked, to)
    finally:
        to.rest()  # also what came before a Ctrl-C
    return found


async def _checked(
    values: Mapping[str, Json], asked: Sequence[Asked], to: _Printed
) -> list[ProofVerdict]:
    # A command ends soon: no spare is worth its warming up.
    settings = {**values, "certainly_spare": False}
    engine = CertainlyEngine(Resident(settings), width=size_of(settings).workers)
    return await engine.check_all(asked, to.hear)


@define
class _Printed:
    """Prints verdicts in the order of the files, each once those before it are there.

    On a terminal a count goes on meanwhile, and they are printed when it ends. Remembers what has
    come and not been printed.
    """

    asked: Sequence[Asked]
    quiet: bool = field(default=False, kw_only=True)
    status: Json = None
    come: dict[str, list[ProofVerdict]] = field(factory=dict)
    count: int = 0
    printed: int = 0

    def hear(self, verdict: ProofVerdict) -> None:
        self.count += 1
        self.come.setdefault(verdict.id, []).append(verdict)
        if self.status is None:
            self.rest()
        else:
            self.status.update(f"{self.count} of {len(self.asked)} checked")

    def rest(self) -> None:
        while self.printed < len(self.asked):
            waiting = self.come.get(self.asked[self.printed].id)
            if not waiting:
                return
            self.printed += 1
            verdict = waiting.pop(0)
            if not self.quiet:
                show(verdict, name=verdict.id)


def show(verdict: ProofVerdict, *, name: str) -> None:
    """Print one verdict. No text of a file begins a line, or steers a terminal."""
    for line in lines_of(verdict, name=name):
        output.line(output.visible(line, keep="\n\t"))


def _sum_up(verdicts: Sequence[ProofVerdict]) -> None:
    counts = summary_of(verdicts)
    lean = next((row.lean for row in verdicts if row.lean is not None and row.lean.version), None)
    by = "" if lean is None else f"; Lean {lean.version}, {lean.backend}"
    output.line(f"{counts['proved']} of {counts['items']} proved{by}")
    for caveat in dict.fromkeys(row for verdict in verdicts for row in verdict.caveats):
        output.note(caveat)
