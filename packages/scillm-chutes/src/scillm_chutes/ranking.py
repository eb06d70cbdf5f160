"""Which model to ask first: from the catalog, the utilization feed and what we saw ourselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from attrs import evolve, frozen

from scillm_chutes.capability import TEXT, lacks, unsaid
from scillm_chutes.records import Busyness, Catalog, Feed, Model, Ranked

STALE_S = 2700.0
"""The feed is one batch of about 20 minutes, made every 30; beyond 45 it describes the past."""
NEUTRAL_USE = 0.5
"""The use of a model that the feed does not know, or knew too long ago."""
ROOM = 2.0
"""Free instances that make half of the score: the tenth free one helps nobody much."""
MARGIN = 0.08
"""What a model must be better by to take the place of the one in use."""


@frozen(kw_only=True)
class RankRules:
    """How to rank. `price_weight` is what the dearest model loses against a free one."""

    needs: Collection[str] = frozenset()
    allow_unsaid: bool = True
    """Whether a model stays in whose row is silent about a need.

    Silence about text is no reason: the catalog of chats lists nothing else."""
    price_weight: float = 0.0
    stale_s: float = STALE_S
    margin: float = MARGIN
    official: bool = False
    """The score of the official router instead of ours."""


@frozen(kw_only=True)
class Seen:
    """What our own calls met lately at one model; shares in [0, 1], seconds."""

    refused: float = 0.0
    rest_s: float = 0.0


def rank(
    catalog: Catalog,
    feed: Feed | None,
    *,
    now: float,
    rules: RankRules | None = None,
    seen: Mapping[str, Seen] | None = None,
    incumbent: str | None = None,
) -> list[Ranked]:
    """Every model of the catalog, best first, those left out at the end with the reason.

    Ties go to the cheaper model, then to the catalog's order. `incumbent` keeps its place unless
    another is better by the margin. Without a fresh feed the models rank by what we saw and then
    as the catalog has them.
    """
    rules = rules or RankRules()
    fresh = feed if feed is not None and now - feed.at <= rules.stale_s else None
    dearest = max((price_of(model) or 0.0 for model in catalog.models), default=0.0)
    rows = []
    for place, model in enumerate(catalog.models):
        busy = fresh.rows.get(model.id) if fresh is not None else None
        ranked = _scored(
            model, busy, (seen or {}).get(model.id, Seen()), rules=rules, dearest=dearest
        )
        if model.id == incumbent and not ranked.left_out:
            terms = {**ranked.terms, "stay": rules.margin}
            ranked = evolve(ranked, terms=terms, score=ranked.score + rules.margin)
        price = ranked.price_usd
        ties = (
            bool(ranked.left_out),
            -ranked.score,
            float("inf") if price is None else price,
            place,
        )
        rows.append((ties, ranked))
    return [ranked for _, ranked in sorted(rows, key=lambda row: row[0])]


def candidates(ranked: Sequence[Ranked]) -> list[str]:
    """The ids that may be asked, best first."""
    return [row.id for row in ranked if not row.left_out]


def price_of(model: Model) -> float | None:
    """Dollars for one input and one output token together; None where one is not known."""
    if model.prompt_usd is None or model.completion_usd is None:
        return None
    return model.prompt_usd + model.completion_usd


def used_share(busy: Busyness) -> float:
    """.6 of five minutes, .3 of fifteen, .1 of the hour; the official blend."""
    five = busy.used_5m
    if five is None:
        five = 1.0 if busy.used_now is None else busy.used_now
    fifteen = five if busy.used_15m is None else busy.used_15m
    hour = fifteen if busy.used_1h is None else busy.used_1h
    return 0.6 * five + 0.3 * fifteen + 0.1 * hour


def refused_share(busy: Busyness) -> float:
    """The worst of the refusals, older ones counting less; the official blend."""
    return max(busy.refused_5m, 0.5 * busy.refused_15m, 0.25 * busy.refused_1h)


def official_terms(busy: Busyness) -> dict[str, float]:
    """The terms of the official router (chutes-autopilot): their sum is its score."""
    active = float(busy.active)
    return {
        "free": active * (1.0 - used_share(busy)),
        "growing": 0.05 * min(busy.scale_allowance, 8.0) if busy.scalable else 0.0,
        "refused": 0.0 - 2.0 * active * refused_share(busy),
    }


def _scored(
    model: Model, busy: Busyness | None, seen: Seen, *, rules: RankRules, dearest: float
) -> Ranked:
    price = price_of(model)
    used = None if busy is None else used_share(busy)
    reason = _left_out(model, busy, rules)
    if reason:
        return Ranked(id=model.id, left_out=reason, used=used, price_usd=price)
    if rules.official:
        terms = official_terms(busy or Busyness(name=model.id, used_5m=NEUTRAL_USE, active=1))
    else:
        terms = _terms(busy, seen)
    if rules.price_weight and dearest:
        terms["price"] = -rules.price_weight * (dearest if price is None else price) / dearest
    return Ranked(id=model.id, score=sum(terms.values()), terms=terms, used=used, price_usd=price)


def _terms(busy: Busyness | None, seen: Seen) -> dict[str, float]:
    if busy is None:
        free, told, growing = 1.0 - NEUTRAL_USE, 0.0, 0.0
    else:
        free, told = busy.active * (1.0 - used_share(busy)), refused_share(busy)
        growing = 0.05 * min(busy.scale_allowance, 8.0) / 8.0 if busy.scalable else 0.0
    room = free / (free + ROOM)
    return {
        "room": room,
        "growing": growing,
        "refused_by_feed": 0.0 - told,
        "refused_to_us": 0.0 - 2.0 * seen.refused,
        "resting": -1.0 if seen.rest_s > 0 else 0.0,
    }


def _left_out(model: Model, busy: Busyness | None, rules: RankRules) -> str:
    missing = lacks(model, rules.needs)
    if missing:
        return f"cannot do {', '.join(missing)}"
    silent = unsaid(model, set(rules.needs) - {TEXT})
    if silent and not rules.allow_unsaid:
        return f"does not say whether it can do {', '.join(silent)}"
    if busy is not None and busy.active == 0:
        return "no active instance"
    return ""
