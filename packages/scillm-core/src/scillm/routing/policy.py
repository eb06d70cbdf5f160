"""What a call may do about failure: knobs of call, row, Router and settings, merged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import fields, frozen

from scillm.errors import UsageError
from scillm.resilience.retry import RetryOptions
from scillm.routing.fallback import DEFAULT, Fallback, FallbackRules, read_table, read_targets

if TYPE_CHECKING:
    from scillm.records import Json

RETRY_KNOBS = {
    "retry_enabled": "enabled",
    "retry_max_attempts": "max_attempts",
    "retry_time_budget_s": "time_budget_s",
    "retry_base_s": "base_s",
    "retry_max_s": "max_s",
    "retry_after": "least_s",
    "retry_jitter_pct": "jitter_pct",
    "honor_retry_after": "honor_retry_after",
}
"""Argument and setting names, and the option each sets; `retry_after` is LiteLLM's."""

COUNTS = ("num_retries", "max_retries")
"""LiteLLM's names: this many rounds after the first, and retrying is on."""

CALLBACKS = ("on_attempt", "on_success", "on_giveup")
FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
POLICY_ARGUMENTS = (
    *RETRY_KNOBS,
    *COUNTS,
    "retry_policy",
    *CALLBACKS,
    *FALLBACKS,
    "max_fallbacks",
    "disable_fallbacks",
    "hedge_after_s",
    "mock_response",
    "mock_timeout",
    "tags",
)
"""Arguments of a call that say what happens when it fails, and where it may go."""

PER_ERROR = {
    "AuthenticationErrorRetries": "AuthenticationError",
    "BadRequestErrorRetries": "BadRequestError",
    "ContentPolicyViolationErrorRetries": "ContentPolicyViolationError",
    "InternalServerErrorRetries": "InternalServerError",
    "RateLimitErrorRetries": "RateLimitError",
    "TimeoutErrorRetries": "APITimeoutError",
}
"""Keys of LiteLLM's retry_policy, and the class each bounds."""

Callback = Callable[[Mapping[str, Any]], object]


@frozen(kw_only=True)
class Callbacks:
    """Told about a call's retries; each gets one mapping."""

    on_attempt: Callback | None = None
    on_success: Callback | None = None
    on_giveup: Callback | None = None


def retry_options(
    layers: Sequence[Mapping[str, Any]], settings: Mapping[str, Json]
) -> RetryOptions:
    """Options from `layers` (the first that says something wins) over the settings' defaults."""
    chosen: dict[str, Any] = {
        option: settings[f"retry_{option}"]
        for option in (f.name for f in fields(RetryOptions))
        if f"retry_{option}" in settings
    }
    if settings.get("num_retries") is not None:
        chosen |= read_retry({"num_retries": settings["num_retries"]})
    for layer in reversed(layers):
        chosen |= read_retry(layer)
    return RetryOptions(**chosen)


def read_retry(layer: Mapping[str, Any]) -> dict[str, Any]:
    """The retry options in one layer of arguments; `UsageError` for values that cannot be used."""
    found: dict[str, Any] = {}
    for name in COUNTS:
        if layer.get(name) is not None:
            rounds = _whole(name, layer[name])
            found |= {"enabled": rounds > 0, "max_attempts": rounds + 1}
    for name, option in RETRY_KNOBS.items():
        if layer.get(name) is not None:
            found[option] = _knob(name, layer[name])
    policy = layer.get("retry_policy")
    if isinstance(policy, str):
        found |= {"policy": policy, "enabled": policy != "none"}
    elif isinstance(policy, Mapping):
        found |= {"per_error": read_counts(policy), "enabled": True}
    elif policy is not None:
        raise UsageError(f"retry_policy must be a name or an object of counts, not {policy!r}.")
    return found


def read_counts(policy: Mapping[str, Any]) -> dict[str, int]:
    """LiteLLM's `{"RateLimitErrorRetries": 3, …}` as attempts by class name."""
    unknown = sorted(set(policy) - set(PER_ERROR))
    if unknown:
        raise UsageError(f"retry_policy has {', '.join(unknown)}; it knows {', '.join(PER_ERROR)}.")
    return {
        PER_ERROR[name]: _whole(name, count) + 1
        for name, count in policy.items()
        if count is not None
    }


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"{name} must be a whole number, 0 or more, but is {value!r}.")
    return value


def _knob(name: str, value: Any) -> Any:
    wants_bool = name in ("retry_enabled", "honor_retry_after")
    if wants_bool:
        if not isinstance(value, bool):
            raise UsageError(f"{name} must be True or False, but is {value!r}.")
        return value
    if name == "retry_max_attempts":
        return _whole(name, value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{name} must be a number, but is {value!r}.")
    return float(value)


def hedge_after(layers: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds after which a call is hedged; the first layer that names one wins, None is never."""
    for layer in layers:
        value = layer.get("hedge_after_s")
        if value is not None:
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not 0 < value < 1e9
            ):
                raise UsageError(
                    f"hedge_after_s must be a number of seconds above 0, but is {value!r}."
                )
            return float(value)
    return None


def callbacks(layer: Mapping[str, Any]) -> Callbacks:
    """The callbacks of a call; `UsageError` for what cannot be called."""
    given = {name: layer.get(name) for name in CALLBACKS}
    for name, value in given.items():
        if value is not None and not callable(value):
            raise UsageError(f"{name} must be callable, but is {value!r}.")
        if inspect.iscoroutinefunction(value):
            raise UsageError(
                f"{name} must be an ordinary function; {value!r} is a coroutine function, which "
                "nobody would await."
            )
    return Callbacks(**given)


def fallback_rules(layer: Mapping[str, Any], *, model: str, base: FallbackRules) -> FallbackRules:
    """The Router's fallbacks with a call's own in front; a call may give a plain list."""
    if not layer:
        return base
    if layer.get("disable_fallbacks"):
        return FallbackRules(most=0)
    own = {name: _own_table(name, layer[name], model) for name in FALLBACKS if layer.get(name)}
    most = layer.get("max_fallbacks")
    return FallbackRules(
        general={**base.general, **own.get("fallbacks", {})},
        context_window={**base.context_window, **own.get("context_window_fallbacks", {})},
        content_policy={**base.content_policy, **own.get("content_policy_fallbacks", {})},
        most=base.most if most is None else _whole("max_fallbacks", most),
    )


def _own_table(name: str, value: Any, model: str) -> dict[str, tuple[Fallback, ...]]:
    rows = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    is_table = all(isinstance(row, Mapping) and "model" not in row and len(row) > 0 for row in rows)
    return read_table(name, rows) if is_table else {model: read_targets(name, rows)}


def router_fallbacks(arguments: Mapping[str, Any]) -> FallbackRules:
    """The fallbacks given to a Router, `default_fallbacks` as those of `*`."""
    tables = {name: read_table(name, arguments.get(name) or []) for name in FALLBACKS}
    default = arguments.get("default_fallbacks")
    if default:
        tables["fallbacks"][DEFAULT] = read_targets("default_fallbacks", default)
    most = arguments.get("max_fallbacks")
    rules = FallbackRules(
        general=tables["fallbacks"],
        context_window=tables["context_window_fallbacks"],
        content_policy=tables["content_policy_fallbacks"],
    )
    if most is None:
        return rules
    return FallbackRules(
        general=rules.general,
        context_window=rules.context_window,
        content_policy=rules.content_policy,
        most=_whole("max_fallbacks", most),
    )


def call_tags(layer: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags of a call."""
    tags = layer.get("tags")
    if not tags:
        return ()
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise UsageError(f"tags must be a list of texts, but is {tags!r}.")
    return tuple(tags)
