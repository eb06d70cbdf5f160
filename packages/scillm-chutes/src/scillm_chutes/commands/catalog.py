"""`scillm chutes models`, `rank`, `resolve`, `best`, `peers`: what there is, and what is best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from scillm.cli import output

from scillm_chutes.capability import CHECKS, EMBEDDING, TEXT, can, needs_of_kind
from scillm_chutes.commands.session import AS_JSON, KIND, market, told
from scillm_chutes.extras import UTIL_THRESHOLD, find_best_chutes_model
from scillm_chutes.peers import env_lines, peers, router_lines
from scillm_chutes.ranking import RankRules, candidates
from scillm_chutes.reading import PER_MILLION
from scillm_chutes.resolution import resolve_model
from scillm_chutes.settings import loaded, pins_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scillm_chutes.records import Model, Ranked

ALLOW_UNKNOWN = click.option(
    "--allow-unknown", is_flag=True, help="Also models that do not say whether they can."
)
STATES: Mapping[bool | None, str] = {True: "yes", False: "no", None: "?"}


@click.command()
@AS_JSON
def models(*, as_json: bool) -> None:
    """List the models with what each can do (yes, no, or ? where its row does not say)."""
    with told():
        found = market(loaded())
        catalog = found.known()
        rows = [_model(model) for model in catalog.models] if catalog else []
    if as_json:
        output.document({"api_base": found.site.api_base, "models": rows})
        return
    shown = [
        [
            row["id"],
            *(STATES[row["can"][need]] for need in CHECKS if need != TEXT),
            _number(row["context_tokens"]),
            _money(row["prompt_usd_per_million"]),
            _money(row["completion_usd_per_million"]),
        ]
        for row in rows
    ]
    needs = [need for need in CHECKS if need != TEXT]
    output.table(["model", *needs, "context", "$/M in", "$/M out"], shown)


@click.command()
@KIND
@AS_JSON
@click.option("--require-json", is_flag=True, help="Only models with JSON mode.")
@click.option("--require-tools", is_flag=True, help="Only models with tools.")
@ALLOW_UNKNOWN
@click.option("--official", is_flag=True, help="The score of the official router.")
@click.option("--price-weight", type=float, default=0.0, help="What the dearest model loses.")
def rank(
    *,
    kind: str,
    as_json: bool,
    require_json: bool,
    require_tools: bool,
    allow_unknown: bool,
    official: bool,
    price_weight: float,
) -> None:
    """Rank the models and show the terms of each score; --json has also those that are all zero."""
    with told():
        needs = needs_of_kind(kind, require_json=require_json, require_tools=require_tools)
        rules = RankRules(
            needs=needs,
            allow_unsaid=allow_unknown,
            official=official,
            price_weight=price_weight,
        )
        found = market(loaded(), kind)
        ranked = found.ranked(rules)
    if as_json:
        output.document(
            {
                "kind": kind,
                "feed_at": found.feed.at if found.feed else None,
                "problems": found.problems,
                "ranked": [_ranked(row) for row in ranked],
            }
        )
        return
    terms = dict.fromkeys(name for row in ranked for name, value in row.terms.items() if value)
    shown = [
        [
            row.id,
            "-" if row.left_out else f"{row.score:.3f}",
            *(f"{row.terms[name]:.3f}" if name in row.terms else "-" for name in terms),
            row.left_out,
        ]
        for row in ranked
    ]
    output.table(["model", "score", *terms, "left out because"], shown)


@click.command()
@click.argument("name")
@click.option(
    "--mode",
    type=click.Choice(["strict", "smart"]),
    default="smart",
    show_default=True,
    help="strict fills nothing in.",
)
@AS_JSON
def resolve(*, name: str, mode: str, as_json: bool) -> None:
    """Show which model NAME means, or why it means none."""
    with told():
        catalog = market(loaded()).known()
        found = resolve_model(
            name, catalog.ids if catalog else (), mode="strict" if mode == "strict" else "smart"
        )
    if as_json:
        output.document({"requested": name, "id": found.id, "rule": found.rule})
    else:
        output.line(f"{found.id} (by {found.rule})")


@click.command()
@KIND
@click.option("--require-json", is_flag=True, help="Only models with JSON mode.")
@click.option("--require-tools", is_flag=True, help="Only models with tools.")
@click.option(
    "--util-threshold",
    type=float,
    default=UTIL_THRESHOLD,
    show_default=True,
    help="Use above which a model is passed over while another is below.",
)
@ALLOW_UNKNOWN
@AS_JSON
def best(
    *,
    kind: str,
    require_json: bool,
    require_tools: bool,
    util_threshold: float,
    allow_unknown: bool,
    as_json: bool,
) -> None:
    """Show the one model to ask now. Needs a key, and sends it nowhere."""
    with told():
        found = find_best_chutes_model(
            kind,
            require_json=require_json,
            require_tools=require_tools,
            allow_unknown=allow_unknown,
            util_threshold=util_threshold,
        )
    if found is None:
        raise click.ClickException(f"No model of kind {kind} can be asked.")
    if as_json:
        output.document(found)
    else:
        output.line(str(found["litellm_params"]["model"]))


@click.command(name="peers")
@KIND
@click.option("--primary", help="The model to find alternates for; default: the pinned or best.")
@click.option("--max", "most", type=click.IntRange(1, 10), default=2, show_default=True)
@AS_JSON
def peers_command(*, kind: str, primary: str | None, most: int, as_json: bool) -> None:
    """Print a ready `.env` and Router with a model and its alternates, nearest in size.

    A model of vectors has none: those of another cannot be compared with its own.
    """
    with told():
        settings = loaded()
        found = market(settings, kind)
        catalog = found.known()
        ids = catalog.ids if catalog else ()
        ranked = found.ranked(RankRules(needs=needs_of_kind(kind), allow_unsaid=False))
        usable = candidates(ranked)
        pins = pins_from(settings, kind, 0)
        chosen = primary or (pins[0] if pins else "")
        first = resolve_model(chosen, ids).id if chosen else next(iter(usable), "")
    if not first:
        raise click.ClickException(f"No model of kind {kind} can be asked.")
    alternates = [] if kind == EMBEDDING else peers(ranked, first, most=most)
    if as_json:
        output.document({"primary": first, "alternates": alternates})
        return
    for line in env_lines(kind, first, alternates):
        output.line(line)
    output.line()
    output.line(router_lines(kind, [first, *alternates]))


def _model(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "can": {need: can(model, need) for need in CHECKS},
        "context_tokens": model.context_tokens,
        "max_output_tokens": model.max_output_tokens,
        "quantization": model.quantization or None,
        "confidential": model.confidential,
        "prompt_usd_per_million": _per_million(model.prompt_usd),
        "completion_usd_per_million": _per_million(model.completion_usd),
    }


def _ranked(row: Ranked) -> dict[str, Any]:
    return {
        "id": row.id,
        "score": None if row.left_out else row.score,
        "terms": dict(row.terms),
        "used": row.used,
        "price_usd_per_million": _per_million(row.price_usd),
        "left_out": row.left_out or None,
    }


def _per_million(price: float | None) -> float | None:
    return None if price is None else round(price * PER_MILLION, 6)


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _money(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"


COMMANDS: Sequence[click.Command] = (models, rank, resolve, best, peers_command)
