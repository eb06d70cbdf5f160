"""Chutes for SciLLM: discover, resolve, rank, route — and never make an outage worse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scillm.errors import AmbiguousModelError, UnknownModelError

if TYPE_CHECKING:
    from scillm_chutes.extras import (
        ainfer_with_fallback,
        find_best_chutes_model,
        infer_with_fallback,
        preflight_models,
        warm_chutes_caches,
    )
    from scillm_chutes.jsonchat import (
        chutes_chat_json,
        hedged_json_completion,
        strict_json_completion,
    )
    from scillm_chutes.provider import Chutes
    from scillm_chutes.ranking import RankRules, rank
    from scillm_chutes.resolution import Resolution, resolve_model
    from scillm_chutes.routers import (
        RankedRouter,
        aauto_router_from_env,
        auto_router_from_env,
    )

_HOMES = {
    "Chutes": "provider",
    "RankRules": "ranking",
    "RankedRouter": "routers",
    "Resolution": "resolution",
    "aauto_router_from_env": "routers",
    "ainfer_with_fallback": "extras",
    "auto_router_from_env": "routers",
    "chutes_chat_json": "jsonchat",
    "find_best_chutes_model": "extras",
    "hedged_json_completion": "jsonchat",
    "infer_with_fallback": "extras",
    "preflight_models": "extras",
    "rank": "ranking",
    "resolve_model": "resolution",
    "strict_json_completion": "jsonchat",
    "warm_chutes_caches": "extras",
}

__all__ = [
    "AmbiguousModelError",
    "Chutes",
    "RankRules",
    "RankedRouter",
    "Resolution",
    "UnknownModelError",
    "aauto_router_from_env",
    "ainfer_with_fallback",
    "auto_router_from_env",
    "chutes_chat_json",
    "find_best_chutes_model",
    "hedged_json_completion",
    "infer_with_fallback",
    "preflight_models",
    "rank",
    "resolve_model",
    "strict_json_completion",
    "warm_chutes_caches",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
