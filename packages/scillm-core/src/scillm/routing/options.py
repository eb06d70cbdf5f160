"""The Router's own arguments, checked: what is acted on is read, everything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from scillm.errors import UsageError
from scillm.resilience.health import CooldownRules
from scillm.routing.choose import known_strategy
from scillm.routing.fallback import FallbackRules
from scillm.routing.load import LATENCY_TTL_S
from scillm.routing.policy import (
    COUNTS,
    FALLBACKS,
    PER_ERROR,
    RETRY_KNOBS,
    read_retry,
    router_fallbacks,
)

KNOBS = (*RETRY_KNOBS, *COUNTS, "retry_policy")
KNOWN = (
    *KNOBS,
    *FALLBACKS,
    "default_fallbacks",
    "max_fallbacks",
    "routing_strategy",
    "routing_strategy_args",
    "model_group_alias",
    "cooldown_time",
    "allowed_fails",
    "allowed_fails_policy",
    "disable_cooldowns",
)
STRATEGY_ARGS = ("ttl", "lowest_latency_buffer")
ALLOWED_FAILS = {name.replace("Retries", "AllowedFails"): cls for name, cls in PER_ERROR.items()}
"""Keys of LiteLLM's allowed_fails_policy, and the class each is about."""

REASONS: Mapping[str, str] = {
    "cache_responses": "this version has no response cache",
    "redis_url": "this version shares no state through Redis",
    "set_verbose": "listen to events with a hook plugin (scillm_event) instead",
    "timeout": "give timeout per deployment or per call, or set SCILLM_TIMEOUT_S",
    "retry_after": "the least wait is what the upstream announces; see retry_base_s",
    "enable_pre_call_checks": "requests are never dropped before they are sent",
}


@frozen(kw_only=True)
class RouterArguments:
    """What a Router was told besides its deployments."""

    strategy: str = "simple-shuffle"
    latency_ttl_s: float = LATENCY_TTL_S
    latency_buffer: float = 0.0
    fallbacks: FallbackRules = field(factory=FallbackRules)
    knobs: Mapping[str, Any] = field(factory=dict)
    aliases: Mapping[str, str] = field(factory=dict)
    cooldown: CooldownRules = field(factory=CooldownRules)


def router_arguments(given: Mapping[str, Any]) -> RouterArguments:
    """Read the Router's arguments; `UsageError` names one that is not acted on, with the reason."""
    for name in given:
        if name not in KNOWN:
            reason = REASONS.get(name, f"it knows {', '.join(KNOWN)}")
            raise UsageError(f"Router has no argument {name!r}: {reason}.")
    knobs = {name: given[name] for name in KNOBS if name in given}
    read_retry(knobs)
    tuning = _mapping("routing_strategy_args", given)
    unknown = sorted(set(tuning) - set(STRATEGY_ARGS))
    if unknown:
        raise UsageError(
            f"routing_strategy_args has {', '.join(unknown)}; it knows {', '.join(STRATEGY_ARGS)}."
        )
    return RouterArguments(
        strategy=known_strategy(given.get("routing_strategy", "simple-shuffle")),
        latency_ttl_s=_number("ttl", tuning, LATENCY_TTL_S),
        latency_buffer=_number("lowest_latency_buffer", tuning, 0.0),
        fallbacks=router_fallbacks(given),
        knobs=knobs,
        aliases=_aliases(given),
        cooldown=_cooldown(given),
    )


def _cooldown(given: Mapping[str, Any]) -> CooldownRules:
    policy = _mapping("allowed_fails_policy", given)
    unknown = sorted(set(policy) - set(ALLOWED_FAILS))
    if unknown:
        raise UsageError(
            f"allowed_fails_policy has {', '.join(unknown)}; it knows {', '.join(ALLOWED_FAILS)}."
        )
    allowed = given.get("allowed_fails")
    return CooldownRules(
        default_s=_number("cooldown_time", given, 5.0),
        disabled=bool(given.get("disable_cooldowns", False)),
        allowed_fails=None if allowed is None else int(_number("allowed_fails", given, 0.0)),
        allowed_fails_by_error={
            ALLOWED_FAILS[name]: int(_number(name, policy, 0.0)) for name in policy
        },
    )


def _aliases(given: Mapping[str, Any]) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for alias, target in _mapping("model_group_alias", given).items():
        group = target.get("model") if isinstance(target, Mapping) else target
        if not isinstance(group, str) or not group.strip():
            raise UsageError(f"model_group_alias[{alias!r}] must name a group, but is {target!r}.")
        aliases[alias] = group
    return aliases


def _mapping(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    value = given.get(name) or {}
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} must be an object, but is a {type(value).__name__}.")
    return value


def _number(name: str, given: Mapping[str, Any], default: float) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e300:
        raise UsageError(f"{name} must be a number, 0 or more, but is {value!r}.")
    return float(value)
