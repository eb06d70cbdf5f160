"""The fake's management host: utilization, chutes, warm-ups, the user's account."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from scillm_chutes.fake.replies import Document, Refusal, WarmUp, broken

if TYPE_CHECKING:
    from scillm_chutes.fake.accounts import FakeAccount
    from scillm_chutes.fake.models import FakeModel
    from scillm_chutes.fake.replies import Reply
    from scillm_chutes.fake.site import Site


def feed(site: Site) -> Reply:
    """`/chutes/utilization`."""
    if site.feed_mode:
        return broken(site.feed_mode)
    at = site.clock() - site.feed_age_s
    rows = [model.feed_row(at) for model in site.models.values() if model.in_feed]
    return Document(value=[*rows, *site.feed_extra])


def management(
    site: Site, path: str, query: Mapping[str, list[str]], account: FakeAccount | None
) -> Reply:
    """The reply of the management host."""
    if path.startswith("/e2e/"):
        return Refusal(status=501, detail="not in this fake")
    open_to_all: Mapping[str, Callable[[], Reply]] = {
        "/chutes/utilization": lambda: feed(site),
        "/ping": lambda: Document(value={"message": "pong"}),
        "/pricing": lambda: Document(value={"gpu_price_estimates": {}}),
        "/invocations/stats/llm": lambda: Document(value=_stats(site)),
        "/chutes/": lambda: _chutes(site, query),
    }
    if path in open_to_all:
        return open_to_all[path]()
    if account is None:
        return Refusal(status=401, detail="Can't find a user with that api key in our db :(")
    if path.startswith("/chutes/warmup/"):
        return _warm_up(site, unquote(path.removeprefix("/chutes/warmup/")), account)
    if path.startswith("/chutes/"):
        model = site.by_name(unquote(path.removeprefix("/chutes/")))
        if model is None:
            return Refusal(status=404, detail="Chute not found, or does not belong to you")
        return Document(value=_chute_row(model))
    return _user(site, path, account)


def _chutes(site: Site, query: Mapping[str, list[str]]) -> Reply:
    limit = int(query.get("limit", ["25"])[0])
    rows = [_chute_row(model) for model in site.models.values() if model.public]
    templates = query.get("template")
    if templates is not None:
        rows = [row for row in rows if row["standard_template"] in templates]
    shown = rows[:limit]
    return Document(value={"total": len(rows), "page": 0, "limit": limit, "items": shown})


def _user(site: Site, path: str, account: FakeAccount) -> Reply:
    midnight = (site.clock() // 86_400 + 1) * 86_400
    rows: Mapping[str, Any] = {
        "/users/me": {
            "username": "fake",
            "user_id": account.label,
            "balance": account.balance,
            "quotas": [{"chute_id": "*", "quota": account.quota}],
        },
        "/users/me/quotas": [{"chute_id": "*", "quota": account.quota}],
        "/users/me/quota_usage/*": {"quota": account.quota, "used": account.billed},
        "/users/me/discounts": [],
        "/users/me/price_overrides": [],
        "/users/me/subscription_usage": {
            "subscription": True,
            "custom": False,
            "monthly_price": 3,
            "anchor_date": "2026-11-01",
            "four_hour": {
                "usage": account.billed / 1000,
                "cap": 1.25,
                "remaining": 1.25 - account.billed / 1000,
                "reset_at": _moment(midnight),
            },
            "monthly": {"uncapped": True},
        },
        "/model_aliases/": [
            {"alias": name, "chute_ids": ids} for name, ids in site.aliases.items()
        ],
    }
    if path not in rows:
        return Refusal(status=404, detail="Not Found")
    return Document(value=rows[path])


def _warm_up(site: Site, name: str, account: FakeAccount) -> Reply:
    model = site.by_name(name)
    if model is None:
        return Refusal(status=404, detail="Chute not found, or does not belong to you")
    if account.balance <= 0:
        return Refusal(status=402, detail="Account balance is too low")
    if model.state == "disabled":
        return Refusal(status=503, detail="This chute is currently disabled.")
    return WarmUp(model=model)


def _stats(site: Site) -> list[dict[str, Any]]:
    return [
        {
            "chute_id": model.chute_id,
            "name": model.id,
            "date": "2026-11-20",
            "total_requests": 1000,
            "tokens": 100_000,
            "average_tps": 60.0,
            "average_ttft": 0.5,
        }
        for model in site.models.values()
        if model.in_catalog
    ]


def _chute_row(model: FakeModel) -> dict[str, Any]:
    return {
        "chute_id": model.chute_id,
        "name": model.id,
        "slug": model.slug,
        "public": model.public,
        "hot": model.active > 0,
        "standard_template": model.template,
        "current_estimated_price": {
            "per_million_tokens": {
                side: {"usd": dollars, "tao": dollars / 191.0}
                for side, dollars in zip(("input", "output"), model.price, strict=True)
            }
        },
        "instances": [{"instance_id": str(n), "active": True} for n in range(model.active)],
    }


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
