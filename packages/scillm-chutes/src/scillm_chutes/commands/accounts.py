"""`scillm chutes doctor`, `usage`, `warmup`: the account, its key, and waking a model."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import click
from attrs import asdict
from scillm import portal
from scillm.cli import output
from scillm.errors import CapacityError, ScillmError
from scillm.records import Check
from scillm.routing.router import Router

from scillm_chutes.account import Usage, usage, warm_up
from scillm_chutes.capability import EMBEDDING, needs_of_kind
from scillm_chutes.commands.session import AS_JSON, told, with_transport
from scillm_chutes.desk import shared_desk
from scillm_chutes.ranking import RankRules, candidates
from scillm_chutes.resolution import resolve_model
from scillm_chutes.routers import base_for, look, market_of
from scillm_chutes.settings import accounts_from, loaded, site_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.plugins.settings import Settings
    from scillm.protocols import Transport

    from scillm_chutes.records import Account

WORDS = {True: "ok", False: "FAILED", None: "skipped"}
QUESTION = ({"role": "user", "content": 'Return only {"ok": true} as JSON.'},)


@click.command()
@click.option("--model", help="The model to chat with; default: the best one.")
@click.option("--no-chat", is_flag=True, help="Make no call that could be billed.")
@AS_JSON
def doctor(*, model: str | None, no_chat: bool, as_json: bool) -> None:
    """Check each account: the key, quota and resets, the lists, one JSON chat, one stream.

    The two chats are billed; --no-chat leaves them out. Exits with 1 when a check failed; what was
    skipped is shown as skipped and is no failure.
    """
    with told():
        settings = loaded()
        rows = [
            row
            for account in accounts_from(settings)
            for row in _account_checks(settings, account, model=model, no_chat=no_chat)
        ]
    if as_json:
        output.document({"ok": all(r.ok is not False for r in rows), "checks": _plain(rows)})
    else:
        output.table(["check", "result", "detail"], [[r.name, WORDS[r.ok], r.detail] for r in rows])
    if any(row.ok is False for row in rows):
        raise click.exceptions.Exit(1)


@click.command(name="usage")
@AS_JSON
def usage_command(*, as_json: bool) -> None:
    """Show balance, quotas and resets of each account."""
    with told():
        settings = loaded()
        found = [(account, _usage(settings, account)) for account in accounts_from(settings)]
    if as_json:
        output.document([{"api_base": account.api_base, **asdict(used)} for account, used in found])
        return
    rows = [
        [account.api_base, name, value] for account, used in found for name, value in _lines(used)
    ]
    output.table(["account", "what", "value"], rows)


@click.command()
@click.argument("model")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds to wait.",
)
@AS_JSON
def warmup(*, model: str, timeout: float, as_json: bool) -> None:
    """Wake MODEL and wait until an instance serves it."""
    with told():
        settings = loaded()
        account = accounts_from(settings)[0]
        bases = dict.fromkeys(base_for(kind, account.api_base) for kind in ("text", EMBEDDING))
        markets = [market_of(shared_desk(), settings, base) for base in bases]
        portal.call(look, markets, settings)
        ids = [name for market in markets if (known := market.known()) for name in known.ids]
        name = resolve_model(model, ids).id if ids else model
        statuses: list[Any] = []

        async def work(transport: Transport) -> None:
            stream = warm_up(transport, markets[0].site, account.api_key, name, timeout_s=timeout)
            with anyio.move_on_after(timeout):
                async with aclosing(stream) as found:
                    async for status in found:
                        if not as_json and (not statuses or status != statuses[-1]):
                            output.line(f"{status.get('status')}: {status.get('log', '')}")
                        statuses.append(status)
                return
            raise CapacityError(
                f"{name} was not hot within {timeout:g} s; wait on, or give a longer --timeout.",
                provider="chutes",
                model=name,
            )

        with_transport(settings, work)
        for market in markets:
            market.warmed(name)
    if as_json:
        output.document({"model": name, "status": "hot", "last": statuses[-1]})


def _account_checks(
    settings: Settings, account: Account, *, model: str | None, no_chat: bool
) -> list[Check]:
    label = f" {account.number}" if account.number else ""
    rows = [_key_check(settings, account, label)]
    market = market_of(shared_desk(), settings, account.api_base)
    portal.call(look, [market], settings)
    catalog = market.known()
    failed = market.problems.get("catalog")
    listed = f"{len(catalog.models)} models" if catalog else "no models known"
    rows.append(Check(name=f"catalog{label}", ok=failed is None, detail=failed or listed))
    feed_failed = market.problems.get("feed")
    feed = f"{len(market.feed.rows)} chutes" if market.feed else "no management host known"
    rows.append(
        Check(
            name=f"utilization{label}",
            ok=None if market.site.management is None else feed_failed is None,
            detail=feed_failed or feed,
        )
    )
    best = candidates(
        market.ranked(RankRules(needs=needs_of_kind("text", require_json=True), allow_unsaid=False))
    )
    chosen = model or next(iter(best), None)
    reason = "left out by --no-chat" if no_chat else "no model to ask" if chosen is None else ""
    if rows[0].ok is False:
        reason = "the key is not known"
    for name, stream in (("JSON chat", False), ("stream", True)):
        if reason or chosen is None:
            rows.append(Check(name=f"{name}{label}", ok=None, detail=reason))
        else:
            rows.append(_chat_check(settings, account, chosen, f"{name}{label}", stream=stream))
    return rows


def _key_check(settings: Settings, account: Account, label: str) -> Check:
    name = f"key{label}"
    if site_from(settings, account.api_base).management is None:
        detail = "no management host is known (CHUTES_MANAGEMENT_BASE)"
        return Check(name=name, ok=None, detail=detail)
    try:
        used = _usage(settings, account)
    except ScillmError as error:
        return Check(name=name, ok=False, detail=error.message)
    said = "; ".join(f"{what} {value}" for what, value in _lines(used))
    return Check(name=name, ok=not used.problems, detail=said)


def _chat_check(
    settings: Settings, account: Account, model: str, name: str, *, stream: bool
) -> Check:
    arguments: dict[str, Any] = {
        "custom_llm_provider": "chutes",
        "api_base": account.api_base,
        "api_key": account.api_key,
        "max_tokens": 32,
        "timeout": 60.0,
    }
    try:
        with Router(settings=settings) as router:
            if stream:
                with router.completion(model, QUESTION, stream=True, **arguments) as chunks:
                    count = sum(1 for _chunk in chunks)
                return Check(name=name, ok=True, detail=f"{count} chunks from {model}")
            asked = {"type": "json_object"}
            answer = router.completion(model, QUESTION, response_format=asked, **arguments)
            return Check(name=name, ok=True, detail=f"{answer.model} answered {answer.text}")
    except ScillmError as error:
        return Check(name=name, ok=False, detail=error.message)


def _usage(settings: Settings, account: Account) -> Usage:
    site = site_from(settings, account.api_base)

    async def work(transport: Transport) -> Usage:
        return await usage(transport, site, account.api_key)

    return with_transport(settings, work)


def _lines(used: Usage) -> list[tuple[str, str]]:
    lines = [("user", str(used.user.get("username", "?")))]
    if "balance" in used.user:
        lines.append(("balance", f"${used.user['balance']}"))
    if used.quotas:
        lines.append(("quotas", output.plain_json(used.quotas)))
    lines += [(f"{window} resets", at) for window, at in used.resets().items()]
    lines += [(f"{what} not read", why) for what, why in used.problems.items()]
    return lines


def _plain(rows: Sequence[Check]) -> list[dict[str, Any]]:
    return [{"name": row.name, "result": WORDS[row.ok], "detail": row.detail} for row in rows]


COMMANDS: Sequence[click.Command] = (doctor, usage_command, warmup)
