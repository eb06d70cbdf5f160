"""`scillm certainly prove`, `recheck`, `map`: statements to proofs, and what they rest on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from scillm import portal
from scillm.cli import output
from scillm.errors import ScillmError, UsageError
from scillm.plugins.settings import load

from scillm_certainly import certificate
from scillm_certainly.engine import CertainlyEngine
from scillm_certainly.items import BadItem, parse_item, policy_of
from scillm_certainly.map.graph import graph_of
from scillm_certainly.map.page import page_of
from scillm_certainly.pool.resident import Resident, size_of
from scillm_certainly.portfolio.configured import model_of
from scillm_certainly.records import CheckRequest
from scillm_certainly.results import lines_of, one_line, result_of
from scillm_certainly.settings import SETTINGS, defaults_of
from scillm_certainly.sources import Source, read_source, read_sources

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_certainly.records import Policy, ProofVerdict, Requirement

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
    options = dict(defaults_of(load(more=SETTINGS)))
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
        raise click.UsageError(f"{asked.reason.rstrip('.')}.")
    with output.busy("proving"):
        (verdict,) = _ask([asked])
    if as_json:
        output.document(result_of(verdict))
    else:
        for line in lines_of(verdict, name="statement"):
            output.line(output.visible(line, keep="\n\t"))
        show_formal(verdict)
    if not verdict.proved:
        raise click.exceptions.Exit(1)


def show_formal(verdict: ProofVerdict) -> None:
    """Print what was checked in a requirement's name, and which of it a model wrote."""
    formal = verdict.formal
    if formal.get("statement_by_model"):
        output.line("a model wrote the formal statement; compare it with the requirement:")
        output.line(output.visible(str(formal["statement"]), keep="\n\t"))
    if formal.get("by"):
        by = str(formal["by"])
        how = by if by.startswith("refute") else f"by {by}"
        output.line(f"{how}, in {verdict.wall_s:.2f} s:")
        output.line(output.visible(str(formal["code"]).rstrip(), keep="\n\t"))
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

    Exits with 0 only when every certificate is confirmed, with 2 when a file is no certificate.
    """
    rows: list[dict[str, Json]] = []
    told: list[tuple[int, Mapping[str, Json]]] = []
    for place, file in enumerate(files):
        row: dict[str, Json] = {
            "file": str(file), "confirmed": False, "differences": [], "notes": []
        }  # fmt: skip
        rows.append(row)
        try:
            told.append((place, certificate.read(_whole(file), where=str(file))))
        except UsageError as error:
            row["differences"] = [error.message]
    with output.busy("checking"):
        verdicts = _ask([certificate.request_of(document) for _, document in told])
    for (place, document), verdict in zip(told, verdicts, strict=True):
        found = list(certificate.differences(document, verdict))
        notes = list(certificate.notes(document, verdict))
        rows[place] |= {"confirmed": not found, "differences": found, "notes": notes}
    if as_json:
        output.document(rows)
    else:
        for shown in rows:
            _show_recheck(shown)
    if len(told) < len(rows):
        raise click.exceptions.Exit(2)
    if not all(row["confirmed"] for row in rows):
        raise click.exceptions.Exit(1)


def _show_recheck(row: dict[str, Json]) -> None:
    output.line(one_line(f"{row['file']}: {'' if row['confirmed'] else 'NOT '}confirmed"))
    for text in row["differences"]:
        output.line(output.visible(one_line(f"  {text}")))
    for text in row["notes"]:
        output.line(output.visible(one_line(f"  another Lean: {text}")))


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

    Exits with 0 also when not everything is proved: the page says what is not. Exits with 2 when a
    file could not be read.
    """
    try:
        policy = policy_of(defaults_of(load(more=SETTINGS)))
        sources = read_sources([str(file) for file in files])
    except UsageError as error:
        raise click.UsageError(error.message) from error
    with output.busy("checking"):
        verdicts = _ask([asked_of(row, policy) for row in sources])
    graphs = [graph_of(verdict) for verdict in verdicts]
    try:
        target.write_text(page_of(graphs), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error.strerror}.") from error
    for verdict in verdicts:
        reason = f": {verdict.reason}" if verdict.reason else ""
        output.line(output.visible(one_line(f"{verdict.id}: {verdict.status}{reason}")))
    count = sum(len(graph.nodes) for graph in graphs)
    output.line(f"{count} declarations drawn in {target}")
    if any(row.fault for row in sources):
        raise click.exceptions.Exit(2)


def asked_of(
    source: Source, policy: Policy, *, reference: str | None = None
) -> CheckRequest | BadItem:
    """What is asked about a file; one that could not be read fails alone."""
    if source.fault:
        return BadItem(id=source.name, reason=f"it {source.fault}")
    return CheckRequest(id=source.name, code=source.text, reference=reference, policy=policy)


def _whole(file: Path) -> str:
    source = read_source(str(file))
    if source.fault:
        raise UsageError(f"{source.name} {source.fault}.")
    return source.text


def write_certificates(
    verdicts: Sequence[ProofVerdict], folder: Path, *, say: Callable[[str], None] = output.line
) -> None:
    """A file per proved verdict in `folder`; one that stands there already is replaced."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, verdict in enumerate(verdicts, 1):
            if verdict.certificate:
                name = UNSAFE.sub("_", verdict.id).strip("._") or "proof"
                file = folder / f"{number:04d}-{name[-80:]}.json"
                text = json.dumps(verdict.certificate, indent=2, ensure_ascii=False)
                file.write_text(text + "\n", encoding="utf-8")
                say(f"{file} written")
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error.strerror}.") from error
