"""The helpers of the first SciLLM that choose models: one call each, names as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from scillm import portal
from scillm.errors import APIConnectionError, UnknownModelError
from scillm.http.choice import make_transport
from scillm.protocols import Closes

from scillm_chutes.capability import needs_of_kind
from scillm_chutes.desk import shared_desk
from scillm_chutes.ranking import RankRules
from scillm_chutes.routers import (
    MOST_CANDIDATES,
    Entry,
    RankedRouter,
    aauto_router_from_env,
    entries_of,
    look,
    lots_of,
    market_of,
    rows_of,
)
from scillm_chutes.settings import accounts_from, first_base, loaded

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json, Message

UTIL_THRESHOLD = 0.85


def infer_with_fallback(
    messages: Sequence[Message], **arguments: Any
) -> tuple[Completion, dict[str, Json]]:
    """The synchronous form of `ainfer_with_fallback`."""
    return portal.call(partial(ainfer_with_fallback, messages, **arguments))


async def ainfer_with_fallback(
    messages: Sequence[Message],
    *,
    kind: str = "text",
    require_json: bool = False,
    require_tools: bool = False,
    response_format: Json = None,
    max_retries: int = 1,
    retry_after: float = 1.0,
    timeout: float = 45.0,
    **params: Any,
) -> tuple[Completion, dict[str, Json]]:
    """Ask the best model, then the next ones; returns the answer and how it came about.

    The second value has `routing`, `route`, `preferred`, `requested_model`, `resolved_model`,
    `served_model` and `attempts`, each with endpoint, outcome, status and seconds. `max_retries`
    are further rounds through all models, `retry_after` the base of their back-off in seconds.
    `require_json` asks only models with JSON mode, and asks them for JSON. Raises the last error,
    with `attempts`, when nobody answered.
    """
    router = await _router_for(kind, require_json=require_json, require_tools=require_tools)
    if response_format is None and require_json:
        response_format = {"type": "json_object"}
    more = {} if response_format is None else {"response_format": response_format}
    answer = await router.acompletion(
        router.group,
        messages,
        timeout=timeout,
        retry_enabled=max_retries > 0,
        retry_max_attempts=max_retries + 1,
        retry_base_s=retry_after,
        **more,
        **params,
    )
    meta = answer.scillm_meta
    return answer, {
        "routing": "router",
        "route": meta.get("endpoint"),
        "preferred": router.preferred,
        "requested_model": router.group,
        "resolved_model": meta.get("resolved_model"),
        "served_model": answer.model,
        "attempts": list(meta.get("attempts", ())),
    }


def find_best_chutes_model(
    kind: str = "text",
    *,
    require_json: bool = False,
    require_tools: bool = False,
    allow_unknown: bool = False,
    util_threshold: float = UTIL_THRESHOLD,
) -> dict[str, Any] | None:
    """The best-ranked model under `util_threshold`, else the least used one; None without any.

    `kind`, `require_…` and `allow_unknown` as for `auto_router_from_env`.
    A row for a Router's `model_list`, without the key, which the provider takes from the
    environment; `model_info` has `utilization` (None where the feed does not say) and `score`.
    """
    settings = loaded()
    needs = needs_of_kind(kind, require_json=require_json, require_tools=require_tools)
    lots = lots_of(shared_desk(), settings, kind)
    portal.call(look, [lot.market for lot in lots], settings)
    rules = RankRules(needs=needs, allow_unsaid=allow_unknown)
    entries = entries_of(lots, rules, most=10_000)
    if not entries:
        return None
    under = [
        entry for entry in entries if entry.row.used is None or entry.row.used < util_threshold
    ]
    return _advice((under or sorted(entries, key=_use))[0], kind)


def warm_chutes_caches(
    entries: Sequence[Mapping[str, Any]] | None = None, ttl_s: float | None = None
) -> tuple[bool, bool]:
    """Fetch catalogs and feeds now; returns whether all catalogs and all feeds could be had.

    `entries` are rows of a `model_list` and name the base URLs; without them the environment does.
    `ttl_s` is accepted for the older call form and has no effect: lists are renewed after 300 s.
    """
    del ttl_s
    settings = loaded()
    bases = [row.get("litellm_params", {}).get("api_base") for row in entries or ()]
    if entries is None:
        bases = [account.api_base for account in accounts_from(settings)]
    found = {base or first_base(settings) for base in bases}
    markets = [market_of(shared_desk(), settings, base) for base in sorted(found)]
    portal.call(partial(look, markets, settings, force=True))
    return (
        all("catalog" not in market.problems for market in markets),
        all("feed" not in market.problems and market.feed is not None for market in markets),
    )


def preflight_models(api_base: str | None = None, api_key: str | None = None) -> tuple[str, ...]:
    """The ids of the catalog, fetched now and kept on disk; later calls resolve names by it.

    The list is public, so `api_key` is accepted for the older call form and not sent. When the
    fetch fails the persisted list serves; without one `APIConnectionError` is raised.
    """
    del api_key
    settings = loaded()
    market = market_of(shared_desk(), settings, api_base or first_base(settings))

    async def fetch() -> None:
        transport = make_transport(settings)
        try:
            await market.refresh_catalog(transport)
        finally:
            if isinstance(transport, Closes):
                await transport.aclose()

    portal.call(fetch)
    catalog = market.known()
    if catalog is None:
        raise APIConnectionError(
            f"The models of {market.site.api_base} cannot be listed, and no earlier list is kept: "
            f"{market.problems.get('catalog', 'no reason given')}",
            provider="chutes",
        )
    return catalog.ids


async def _router_for(kind: str, *, require_json: bool, require_tools: bool) -> RankedRouter:
    """The router for these needs; made once, then renewed in the background."""
    settings = loaded()
    accounts_from(settings)  # without a key an old router must not answer either
    ours = tuple((name, str(settings[name])) for name in settings if name.startswith("chutes_"))
    key = (kind, require_json, require_tools, ours)
    kept = shared_desk().kept
    if key not in kept:
        kept[key] = await aauto_router_from_env(
            kind=kind,
            require_json=require_json,
            require_tools=require_tools,
            max_candidates_per_base=MOST_CANDIDATES,
        )
    router = kept[key]
    if not isinstance(router, RankedRouter):
        raise UnknownModelError(f"No router was kept for {kind!r}.")
    return router


def _use(entry: Entry) -> float:
    return 1.0 if entry.row.used is None else entry.row.used


def _advice(entry: Entry, kind: str) -> dict[str, Any]:
    row = rows_of([entry], kind)[0]
    params = {name: value for name, value in row["litellm_params"].items() if name != "api_key"}
    info = {**row["model_info"], "utilization": entry.row.used, "score": entry.row.score}
    return {**row, "litellm_params": params, "model_info": info}
