"""The settings of Chutes, and the accounts and pinned models they describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scillm.errors import SettingsError
from scillm.plugins import settings as core
from scillm.records import Setting

from scillm_chutes.pacing import PaceRules
from scillm_chutes.records import Account
from scillm_chutes.sites import OFFICIAL_BASE, Site, site_of

if TYPE_CHECKING:
    from scillm.records import Json

NUMBERS = range(1, 6)
PIN_KINDS = ("text", "vlm", "tools")
"""Kinds that know alternates; vectors of an alternate would be of no use."""
ALTERNATES = ("_alt1", "_alt2")
NO_KEY = (
    "No key for Chutes is set: put one into CHUTES_API_KEY (or CHUTES_API_KEY_1 … _5); "
    "`scillm chutes fake` serves a fake to try without an account."
)


def _numbered(name: str, env: tuple[str, ...], doc: str, **more: Any) -> list[Setting]:
    numbered = [
        Setting(
            name=f"{name}_{number}",
            env=(f"{env[0]}_{number}",),
            doc=f"Account {number}: {doc[0].lower()}{doc[1:]}",
            **more,
        )
        for number in NUMBERS
    ]
    return [Setting(name=name, env=env, doc=doc, **more), *numbered]


def _pins() -> list[Setting]:
    rows: list[Setting] = []
    for kind in PIN_KINDS:
        name = f"chutes_{kind}_model"
        doc = f"The model that routers of kind {kind} ask first."
        rows += _numbered(name, (name.upper(),), doc)
        for suffix in ALTERNATES:
            alternate = name + suffix
            doc = f"An alternate of the pinned {kind} model."
            rows.append(Setting(name=alternate, env=(alternate.upper(),), doc=doc))
    name = "chutes_embedding_model"
    doc = "The model that routers of kind embedding stay with."
    return [*rows, *_numbered(name, (name.upper(),), doc)]


SETTINGS: tuple[Setting, ...] = (
    *_numbered(
        "chutes_api_base",
        ("CHUTES_API_BASE", "CHUTES_BASE"),
        f"Base URL of inference; {OFFICIAL_BASE} where a key is set without one.",
    ),
    *_numbered(
        "chutes_api_key",
        ("CHUTES_API_KEY", "CHUTES_API_TOKEN"),
        "Key, sent as a bearer token to its base URL and the management host only.",
        secret=True,
    ),
    Setting(
        name="chutes_management_base",
        env=("CHUTES_MANAGEMENT_BASE",),
        doc="Base URL of the management host; known for chutes.ai and for the fake.",
    ),
    *_pins(),
    Setting(
        name="chutes_resolve",
        env=("SCILLM_CHUTES_RESOLVE",),
        default="strict",
        doc="How model names become ids of the catalog: strict, smart, or off.",
    ),
    Setting(
        name="chutes_qps",
        env=("SCILLM_CHUTES_QPS",),
        kind="float",
        default=0.8,
        doc="Calls per second and key to begin with; never exceeded unless Chutes announces more.",
    ),
    Setting(
        name="chutes_feed_ttl_s",
        env=("SCILLM_UTIL_TTL_S",),
        kind="float",
        default=45.0,
        doc="Seconds between two looks at the utilization feed.",
    ),
    Setting(
        name="chutes_cache_dir",
        env=("SCILLM_CHUTES_CACHE_DIR",),
        kind="path",
        default="~/.cache/scillm/chutes",
        doc="Folder of the persisted catalogs.",
    ),
    Setting(
        name="chutes_tenacious",
        env=("SCILLM_TENACIOUS",),
        kind="bool",
        default=False,
        doc="chutes_chat_json goes on until its model answers or the wall time ends.",
    ),
)


def loaded(environ: Mapping[str, str] | None = None) -> core.Settings:
    """The core's settings and these."""
    return core.load(environ, more=SETTINGS)


def accounts_from(settings: Mapping[str, Json]) -> tuple[Account, ...]:
    """Every account with a key, numbered ones first; `SettingsError` when there is none."""
    found = []
    shared_key, shared_base = settings.get("chutes_api_key"), settings.get("chutes_api_base")
    for number in (*NUMBERS, 0):
        suffix = f"_{number}" if number else ""
        key = settings.get(f"chutes_api_key{suffix}")
        base = settings.get(f"chutes_api_base{suffix}")
        if number and not (key or base):
            continue
        key = key or shared_key
        if key:
            base = base or shared_base or OFFICIAL_BASE
            found.append(Account(api_base=base, api_key=key, number=number))
    unique = {(account.api_base.rstrip("/"), account.api_key): account for account in found[::-1]}
    if not unique:
        raise SettingsError(NO_KEY)
    return tuple(sorted(unique.values(), key=lambda account: account.number or len(NUMBERS) + 1))


def first_base(settings: Mapping[str, Json]) -> str:
    """The base URL of what needs no key."""
    names = ("chutes_api_base", *(f"chutes_api_base_{number}" for number in NUMBERS))
    return next((settings[name] for name in names if settings.get(name)), OFFICIAL_BASE)


def pins_from(settings: Mapping[str, Json], kind: str, number: int) -> tuple[str, ...]:
    """The pinned model of an account and the alternates, in order; empty where none is set."""
    name = f"chutes_{kind}_model"
    primary = settings.get(f"{name}_{number}") if number else None
    alternates = ALTERNATES if kind in PIN_KINDS else ()
    names = (primary or settings.get(name), *(settings.get(name + a) for a in alternates))
    return tuple(dict.fromkeys(pin for pin in names if pin))


def site_from(settings: Mapping[str, Json], api_base: str) -> Site:
    """The site of a base URL."""
    return site_of(api_base, settings.get("chutes_management_base"))


def pace_from(settings: Mapping[str, Json]) -> PaceRules:
    """The pace of a key; `SettingsError` for one that would never start."""
    per_s = settings.get("chutes_qps", PaceRules().per_s)
    if not per_s > 0:
        raise SettingsError(f"SCILLM_CHUTES_QPS must be above 0, but is {per_s}.")
    return PaceRules(per_s=per_s)
