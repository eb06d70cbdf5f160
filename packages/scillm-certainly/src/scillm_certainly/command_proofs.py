"""`scillm certainly prove`, `recheck`, `map`: statements to proofs, and what they rest on."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from scillm import portal
from scillm.cli import output
from scillm.errors import ScillmError, UsageError
from scillm.plugins.settings import load

from scillm_certainly import certificate
from scillm_certainly.engine import CertainlyEngine
from scillm_certainly.items import BadItem, parse_item
from scillm_certainly.map.graph import graph_of
from scillm_certainly.map.page import page_of
from scillm_certainly.pool.resident import Resident, size_of
from scillm_certainly.portfolio.configured import model_of
from scillm_certainly.results import lines_of, result_of
from scillm_certainly.settings import SETTINGS, defaults_of

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_certainly.records import CheckRequest, ProofVerdict, Requirement

UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@click.command()
@click.argument("statement")
@click.option("--strategies", metavar="A,B", help="Only these of the tactics.")
@click.option("--lean", "preamble", metavar="LEAN", help="Definitions to stand before it.")
@click.option("--import", "imports", multiple=True, metavar="MODULE", help="A module to import.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Longest time for all attempts.")
@click.option("--no-model", is_flag=True, help="Ask no model, even if one is configured.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def prove(
    *,
    statement: str,
    strategies: str | None,
    preamble: str | None,
    imports: Sequence[str],
    timeout: float | None,
    no_model: bool,
    as_json: bool,
) -> None:
    """Prove STATEMENT, a Lean proposition or a theorem without its proof, by tactics.

    A model is asked when SCILLM_CERTAINLY_MODEL names one and the tactics do not suffice; then
    STATEMENT may be words. Exits with 0 only when it is proved.
    """
    values = load(more=SETTINGS)
    options = dict(defaults_of(values))
    if timeout is not None:
        options["check_seconds"] = timeout
    if no_model:
        options["flags"] = ["--no-llm"]
    item = {
        "id": "statement",
        "requirement_text": statement,
        "context": {"imports": list(imports), "lean": preamble or ""},
        "strategies": strategies,
    }
    asked = parse_item(item, number=1, options=options)
    if isinstance(asked, BadItem):
        raise click.UsageError(f"{asked.reason}.")
    with output.busy("proving"):
        (verdict,) = _ask([asked])
    if as_json:
        output.document(result_of(verdict))
    else:
        for line in lines_of(verdict, name="statement"):
            output.line(line)
        _show_formal(verdict)
    if not verdict.proved:
        raise click.exceptions.Exit(1)


def _show_formal(verdict: ProofVerdict) -> None:
    formal = verdict.formal
    if formal.get("by"):
        output.line(f"by {formal['by']}, in {verdict.wall_s:.2f} s:")
        output.line(str(formal["code"]).rstrip())
    for caveat in verdict.caveats:
        output.note(caveat)


def _ask(requests: Sequence[CheckRequest | Requirement | BadItem]) -> list[ProofVerdict]:
    values = load(more=SETTINGS)
    settings = {**values, "certainly_spare": False}
    width = size_of(settings).workers
    try:
        engine = CertainlyEngine(Resident(settings), width=width, model=model_of(values))
        found: list[ProofVerdict] = portal.call(engine.check_all, requests)
    except UsageError as error:
        raise click.UsageError(error.message) from error
    except ScillmError as error:
        raise click.ClickException(error.message) from error
    return found


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def recheck(*, files: Sequence[Path], as_json: bool) -> None:
    """Have Lean check the proofs of certificates again, and compare.

    Exits with 0 only when every certificate is confirmed.
    """
    try:
        told = [certificate.read(_text(file), where=str(file)) for file in files]
        requests = [certificate.request_of(row) for row in told]
    except UsageError as error:
        raise click.UsageError(error.message) from error
    verdicts = _ask(requests)
    rows: list[dict[str, Json]] = []
    for file, row, verdict in zip(files, told, verdicts, strict=True):
        found = list(certificate.differences(row, verdict))
        notes = list(certificate.notes(row, verdict))
        rows.append(
            {"file": str(file), "confirmed": not found, "differences": found, "notes": notes}
        )
    if as_json:
        output.document(rows)
    else:
        for shown in rows:
            _show_recheck(shown)
    if not all(row["confirmed"] for row in rows):
        raise click.exceptions.Exit(1)


def _show_recheck(row: dict[str, Json]) -> None:
    output.line(f"{row['file']}: {'confirmed' if row['confirmed'] else 'NOT confirmed'}")
    for text in row["differences"]:
        output.line(f"  {text}")
    for text in row["notes"]:
        output.line(f"  another Lean: {text}")


@click.command(name="map")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="GRAPH.html",
    help="The page to write.",
)
def map_command(*, files: Sequence[Path], target: Path) -> None:
    """Draw the declarations of FILE… and what each is made of, as one HTML page.

    Exits with 0 also when not everything is proved: the page says what is not.
    """
    defaults = defaults_of(load(more=SETTINGS))
    asked = [
        parse_item({"id": str(file), "code": _text(file)}, number=number, options=defaults)
        for number, file in enumerate(files, 1)
    ]
    with output.busy("checking"):
        verdicts = _ask(asked)
    graphs = [graph_of(verdict) for verdict in verdicts]
    try:
        target.write_text(page_of(graphs), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error.strerror}.") from error
    for verdict in verdicts:
        output.line(f"{verdict.id}: {verdict.status}{': ' * bool(verdict.reason)}{verdict.reason}")
    count = sum(len(graph.nodes) for graph in graphs)
    output.line(f"{count} declarations drawn in {target}")


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"{file} is not UTF-8: {error.reason} at byte {error.start}."
        ) from error


def write_certificates(verdicts: Sequence[ProofVerdict], folder: Path) -> None:
    """A file per proved verdict in `folder`; one that stands there already is replaced."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, verdict in enumerate(verdicts, 1):
            if verdict.certificate:
                name = UNSAFE.sub("_", verdict.id).strip("._") or "proof"
                file = folder / f"{number:04d}-{name[-80:]}.json"
                text = json.dumps(verdict.certificate, indent=2, ensure_ascii=False)
                file.write_text(text + "\n", encoding="utf-8")
                output.line(f"{file} written")
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error.strerror}.") from error
