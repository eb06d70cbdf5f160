"""The Router's own arguments, checked: what is acted on is read, everything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from scillm.errors import UsageError
from scillm.resilience.health import CooldownRules
from scillm.routing.arguments import checked_timeout
from scillm.routing.choose import known_strategy
from scillm.routing.deployment import read_width
from scillm.routing.fallback import FallbackRules
from scillm.routing.key_limits import KEY_LIMITS
from scillm.routing.load import LATENCY_TTL_S
from scillm.routing.policy import (
    COUNTS,
    FALLBACKS,
    PER_ERROR,
    RETRY_KNOBS,
    hedge_after,
    read_retry,
    router_fallbacks,
)
from scillm.routing.redis_url import REDIS, redis_url_of

CONTINUES = "enable_mid_stream_fallback_continuation"
KNOBS = (*RETRY_KNOBS, *COUNTS, "retry_policy", "hedge_after_s")
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
    "default_max_parallel_requests",
    *KEY_LIMITS,
    CONTINUES,
    "ignore_invalid_deployments",
    "timeout",
    "stream_timeout",
    *REDIS,
)
NO_AFFINITY = "deployments are chosen per call; name a deployment's id to keep to one"
NO_BUDGETS = "budget=… bounds what the Router spends, prices=… says what it costs"
NO_LOGS = "listen to events with a hook plugin (scillm_event) instead"
NO_PROBES = "health is learned from the calls themselves; there are no hidden probes"
STRATEGY_ARGS = ("ttl", "lowest_latency_buffer")
ALLOWED_FAILS = {name.replace("Retries", "AllowedFails"): cls for name, cls in PER_ERROR.items()}
"""Keys of LiteLLM's allowed_fails_policy, and the class each is about."""

REASONS: Mapping[str, str] = {
    "cache_responses": "pass cache=… (memory, sqlite or redis), or call scillm.initialize_cache",
    "cache_kwargs": "pass cache={…}, the arguments of scillm.initialize_cache",
    "caching_groups": "groups are cached apart; a fallback's answer is not kept as the group's",
    **dict.fromkeys(("set_verbose", "debug_level", "alerting_config"), NO_LOGS),
    **dict.fromkeys(("provider_budget_config", "fallback_budget_check"), NO_BUDGETS),
    **dict.fromkeys(("health_check_interval", "enable_health_check_routing"), NO_PROBES),
    **dict.fromkeys(
        (
            "deployment_affinity_ttl_seconds",
            "model_group_affinity_config",
            "session_affinity_repin_on_failover",
        ),
        NO_AFFINITY,
    ),
    "assistants_config": "there are chat completions and embeddings only",
    "auto_router_capability_limit": "a call names its group; requests are not classified",
    "client_ttl": "connections are kept while they are alive, and closed with the Router",
    "default_litellm_params": "write the parameters into the rows, or give them to the calls",
    "default_priority": "calls wait in the order in which they came",
    "enable_tag_filtering": "tags on a call or a row are always acted on",
    "enable_weighted_failover": "after a failure the strategy and its weights choose again",
    "fallback_access_check": "a Router has no users whose access could be checked",
    "fallback_on_unsupported_params": "a refused request goes nowhere; its error says why",
    "guardrail_list": "check requests and answers in your own code, or in a hook plugin",
    "model_group_retry_policy": "give retry_policy in the group's rows",
    "optional_pre_call_checks": "requests are never dropped before they are sent",
    "plugins": "install them, or pass registry=… and hooks=…",
    "polling_interval": "waiting calls are woken, not polled",
    "router_general_settings": "every setting has an argument of its own",
    "routing_groups": "one strategy serves all groups; make a Router for each otherwise",
    "search_tools": "there are chat completions and embeddings only",
    "tag_filtering_match_any": "a deployment serves a call when it shares one tag with it",
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
    redis_url: str | None = field(default=None, repr=False)
    width: int | None = None
    """Calls in the air at a deployment that names no number of its own."""
    timeout_s: float | None = None
    stream_timeout_s: float | None = None
    skip_invalid: bool = False
    continues: bool = False
    """Whether a stream that breaks goes on with a fallback's words."""


def router_arguments(given: Mapping[str, Any]) -> RouterArguments:
    """Read the Router's arguments; `UsageError` names one that is not acted on, with the reason."""
    for name in given:
        if name not in KNOWN:
            reason = REASONS.get(name, f"it knows {', '.join(KNOWN)}")
            raise UsageError(f"Router has no argument {name!r}: {reason}.")
    knobs = {name: given[name] for name in KNOBS if name in given}
    read_retry(knobs)
    hedge_after([knobs])
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
        redis_url=redis_url_of(given),
        width=read_width("default_max_parallel_requests", given),
        timeout_s=checked_timeout("timeout", given.get("timeout")),
        stream_timeout_s=checked_timeout("stream_timeout", given.get("stream_timeout")),
        continues=bool(given.get(CONTINUES, False)),
        skip_invalid=bool(given.get("ignore_invalid_deployments", False)),
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
