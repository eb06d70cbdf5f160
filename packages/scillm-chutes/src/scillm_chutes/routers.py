"""Routers over Chutes' models, ordered by rank; the order is renewed while calls go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from attrs import evolve, frozen
from scillm import portal
from scillm.errors import UnknownModelError, UsageError
from scillm.http.choice import make_transport
from scillm.plugins.groups import PROVIDERS
from scillm.plugins.registry import Registry
from scillm.protocols import Closes
from scillm.routing.router import Router

from scillm_chutes.capability import EMBEDDING, needs_of_kind
from scillm_chutes.desk import Desk, shared_desk
from scillm_chutes.provider import PROVIDER, Chutes
from scillm_chutes.ranking import RankRules
from scillm_chutes.resolution import resolve_model
from scillm_chutes.settings import accounts_from, loaded, pins_from, site_from
from scillm_chutes.sites import embedding_base

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_chutes.market import Market
    from scillm_chutes.records import Account, Ranked

MOST_CANDIDATES = 5
"""Models of one account that a call may go through before it fails."""


@frozen(kw_only=True)
class Lot:
    """One account with its market and the models pinned for it."""

    account: Account
    market: Market
    pins: tuple[str, ...] = ()


@frozen(kw_only=True)
class Entry:
    """One model of one account, with its rank."""

    lot: Lot
    row: Ranked


class RankedRouter(Router):
    """A core Router whose deployments follow the ranking. Remembers the order it has now.

    `preferred` is the model asked first. Hears of every refresh and every refusal, and takes the
    new order over; a call never waits for that.
    """

    def __init__(
        self, lots: Sequence[Lot], *, kind: str, rules: RankRules, most: int, **arguments: Any
    ) -> None:
        self._lots = tuple(lots)
        self._kind = kind
        self._rank_rules = rules
        self._most = most
        self.preferred = ""
        entries = self._entries()
        if not entries:
            raise UnknownModelError(nothing_fits(self._lots, rules, kind))
        # Calls that wait for a key's pace are in flight: the shortest line is taken.
        arguments.setdefault("routing_strategy", "least-busy")
        super().__init__(rows_of(entries, kind), disable_cooldowns=True, **arguments)
        self.preferred = entries[0].row.id
        for lot in self._lots:
            lot.market.follow(self.reorder)

    @property
    def group(self) -> str:
        """The name of the model group that calls name."""
        return f"chutes/{self._kind}"

    @property
    def markets(self) -> tuple[Market, ...]:
        """What the ranking knows, a market per account."""
        return tuple(lot.market for lot in self._lots)

    def reorder(self) -> None:
        """Take over the present ranking; without any usable model the last order stays."""
        entries = self._entries()
        if not entries:
            return
        rows = rows_of(entries, self._kind)
        self.preferred = entries[0].row.id
        if rows != list(self.model_list):
            self.set_model_list(rows)

    def _entries(self) -> list[Entry]:
        entries = entries_of(
            self._lots, self._rank_rules, most=self._most, incumbent=self.preferred or None
        )
        if self._kind != EMBEDDING or not entries:
            return entries
        # Vectors of two models cannot be compared: a Router stays with the one it has begun with.
        only = self.preferred or entries[0].row.id
        return [entry for entry in entries if entry.row.id == only]


def auto_router_from_env(**arguments: Any) -> RankedRouter:
    """The synchronous form of `aauto_router_from_env`."""
    return portal.call(partial(aauto_router_from_env, **arguments))


async def aauto_router_from_env(
    *,
    kind: str = "text",
    require_json: bool = False,
    require_tools: bool = False,
    allow_unknown: bool = False,
    price_weight: float = 0.0,
    max_candidates_per_base: int = MOST_CANDIDATES,
    desk: Desk | None = None,
    environ: Mapping[str, str] | None = None,
    **arguments: Any,
) -> RankedRouter:
    """A Router over the models of CHUTES_API_BASE[_n] that can do what is asked, best first.

    Call it as `router.completion(router.group, messages)`, or for the kind embedding as
    `router.embedding(router.group, texts)`; the other kinds are text, vlm and tools. A model whose
    row does not say whether it can do what is required is left out, unless `allow_unknown`.
    Fetches catalog and utilization once; later refreshes run in the background while calls are
    made. Where CHUTES_{TEXT,VLM,TOOLS}_MODEL pins a model, only it and its alternates are asked,
    the pinned one first while it is usable. Vectors of two models cannot be compared, so a Router
    for embedding stays with one: CHUTES_EMBEDDING_MODEL, else the best when it was made. Further
    arguments are the Router's own.
    """
    settings = loaded(environ)
    desk = desk or shared_desk()
    needs = needs_of_kind(kind, require_json=require_json, require_tools=require_tools)
    lots = [
        evolve(lot, pins=pins_from(settings, kind, lot.account.number))
        for lot in lots_of(desk, settings, kind)
    ]
    await look([lot.market for lot in lots], settings)
    registry = arguments.pop("registry", None) or Registry(
        disabled=settings.get("plugins_disable", ())
    )
    registry.register(PROVIDERS, PROVIDER, partial(Chutes, desk=desk))
    return RankedRouter(
        lots,
        kind=kind,
        rules=RankRules(needs=needs, allow_unsaid=allow_unknown, price_weight=price_weight),
        most=max_candidates_per_base,
        registry=registry,
        **{"settings": settings, **arguments},
    )


def entries_of(
    lots: Sequence[Lot], rules: RankRules, *, most: int, incumbent: str | None = None
) -> list[Entry]:
    """The models to ask in order, over all accounts; a model of two accounts has the same rank."""
    entries: list[tuple[int, float, Entry]] = []
    for lot in lots:
        ranked = [row for row in lot.market.ranked(rules, incumbent=incumbent) if not row.left_out]
        for place, row in _pinned(lot, ranked)[:most]:
            entries.append((place, -row.score, Entry(lot=lot, row=row)))
    return [entry for _, _, entry in sorted(entries, key=lambda found: found[:2])]


def _pinned(lot: Lot, ranked: Sequence[Ranked]) -> list[tuple[int, Ranked]]:
    """The models of a lot with their places: without pins all of them, by rank."""
    if not lot.pins:
        return [(1, row) for row in ranked]
    by_id = {row.id: row for row in ranked}
    known = lot.market.known()
    everything = known.ids if known is not None else ()
    pins = [_meant(pin, everything) for pin in lot.pins]
    usable = [pin for pin in pins if pin in by_id]
    return [(0 if pin == pins[0] else 1, by_id[pin]) for pin in usable]


def _meant(pin: str, ids: Sequence[str]) -> str:
    try:
        return resolve_model(pin, ids, mode="strict").id
    except UsageError:
        return pin


def rows_of(entries: Sequence[Entry], kind: str) -> list[dict[str, Any]]:
    """The rows of a Router's `model_list`; the order is the rank."""
    places = {name: at for at, name in enumerate(dict.fromkeys(e.row.id for e in entries), 1)}
    return [_row(entry, kind, places[entry.row.id]) for entry in entries]


def _row(entry: Entry, kind: str, order: int) -> dict[str, Any]:
    account, model_id = entry.lot.account, entry.row.id
    catalog = entry.lot.market.known()
    model = catalog.find(model_id) if catalog is not None else None
    prices = (
        {}
        if model is None
        else {
            "input_cost_per_token": model.prompt_usd,
            "output_cost_per_token": model.completion_usd,
        }
    )
    number = f"#{account.number}" if account.number else ""
    return {
        "model_name": f"chutes/{kind}",
        "litellm_params": {
            "model": model_id,
            "custom_llm_provider": PROVIDER,
            "api_base": account.api_base,
            "api_key": account.api_key,
            "order": order,
            **{name: price for name, price in prices.items() if price is not None},
        },
        "model_info": {"id": f"{model_id}{number}"},
    }


def nothing_fits(lots: Sequence[Lot], rules: RankRules, kind: str) -> str:
    """Why there is no model, for every account."""
    reasons = []
    for lot in lots:
        base = lot.account.api_base
        problem = lot.market.problems.get("catalog")
        if problem and lot.market.known() is None:
            reasons.append(f"{base}: no catalog ({problem})")
            continue
        ranked = lot.market.ranked(evolve(rules, needs=rules.needs))
        left_out = {row.left_out for row in ranked if row.left_out}
        pinned = f"; pinned are {', '.join(lot.pins)}" if lot.pins else ""
        said = "; ".join(sorted(left_out)) or "no reason given"
        reasons.append(f"{base}: {len(ranked)} models, none usable ({said}){pinned}")
    return f"No Chutes model of kind {kind} can be asked: {' | '.join(reasons)}."


def lots_of(desk: Desk, settings: Mapping[str, Json], kind: str) -> list[Lot]:
    """Every account with the base and the market that serve `kind`."""
    return [
        Lot(
            account=evolve(account, api_base=base_for(kind, account.api_base)),
            market=market_of(desk, settings, base_for(kind, account.api_base)),
        )
        for account in accounts_from(settings)
    ]


def base_for(kind: str, api_base: str) -> str:
    """The base that serves `kind` beside a base for chats."""
    return embedding_base(api_base) if kind == EMBEDDING else api_base


def market_of(desk: Desk, settings: Mapping[str, Json], api_base: str) -> Market:
    """The market of a base URL."""
    return desk.market(
        site_from(settings, api_base),
        cache_dir=settings.get("chutes_cache_dir"),
        feed_ttl_s=settings.get("chutes_feed_ttl_s", 45.0),
    )


async def look(
    markets: Sequence[Market], settings: Mapping[str, Json], *, force: bool = False
) -> None:
    """Fetch what is due of every market."""
    transport = make_transport(settings)
    try:
        async with anyio.create_task_group() as group:
            for market in dict.fromkeys(markets):
                group.start_soon(partial(market.refresh, transport, force=force))
    finally:
        if isinstance(transport, Closes):
            await transport.aclose()
