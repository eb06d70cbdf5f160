"""Retrying, decided: a policy proposes a wait, the budget disposes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm.errors import (
    APIConnectionError,
    APITimeoutError,
    CapacityError,
    ConflictError,
    InternalServerError,
    ProviderError,
    RateLimitError,
    ScillmError,
    UsageError,
)
from scillm.resilience.retry_after import wait_meant

if TYPE_CHECKING:
    from scillm.protocols import RetryPolicy, RetryState

UNCOUNTED = 1_000_000_000
"""Attempts of a policy that only its time budget bounds."""

REASONS: tuple[tuple[type[ScillmError], str], ...] = (
    (RateLimitError, "rate_limited"),
    (CapacityError, "capacity"),
    (APITimeoutError, "timeout"),
    (APIConnectionError, "connection"),
    (InternalServerError, "server_error"),
    (ConflictError, "conflict"),
)


@frozen(kw_only=True)
class RetryOptions:
    """The knobs of a call's retries; names and defaults as documented since the first SciLLM.

    An attempt is one round through the deployments of a group. `least_s` is the shortest wait
    between two of them, whoever proposes it. `per_error` bounds the attempts
    for single error classes, by class name.
    """

    enabled: bool = False
    policy: str = "backoff"
    max_attempts: int = 8
    time_budget_s: float = 600.0
    base_s: float = 5.0
    max_s: float = 120.0
    least_s: float = 0.0
    jitter_pct: float = 0.25
    honor_retry_after: bool = True
    per_error: Mapping[str, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.max_attempts < 1:
            raise UsageError(f"retry_max_attempts must be at least 1, but is {self.max_attempts}.")
        for name in ("time_budget_s", "base_s", "max_s", "least_s", "jitter_pct"):
            if not 0 <= getattr(self, name) < float("inf"):
                shown = "retry_after" if name == "least_s" else f"retry_{name}"
                raise UsageError(
                    f"{shown} must be a number, 0 or more, but is {getattr(self, name)}."
                )


class Backoff:
    """Waits as long as the upstream asks; otherwise full jitter under an exponential ceiling.

    Without an announced wait the delay is uniform in [0, min(max_s, base_s * 2**(attempt - 1))]
    ("full jitter", AWS Architecture Blog, Exponential Backoff And Jitter, 2015). On an announced
    wait up to `jitter_pct` of it is added, never taken off, so that callers do not come back at
    the same moment. Only errors that say they are retryable are tried again.
    """

    def __init__(self, options: RetryOptions | None = None) -> None:
        self.options = options or RetryOptions()

    def next_delay(self, error: ScillmError, state: RetryState, /) -> float | None:
        """Seconds to wait, or None when another try cannot help."""
        if not error.retryable:
            return None
        announced = announced_wait(error) if self.options.honor_retry_after else None
        if announced is not None:
            return announced * (1.0 + self.options.jitter_pct * state.draw)
        # The exponent is bounded: 2.0 ** 2000 is an OverflowError, and max_s decides long before.
        ceiling = self.options.base_s * 2.0 ** min(state.attempt - 1, 60)
        return state.draw * min(self.options.max_s, ceiling)


class Tenacious(Backoff):
    """Backoff that does not count attempts: it goes on until the time budget ends."""


class NoRetry:
    """Never tries again."""

    def __init__(self, options: RetryOptions | None = None) -> None:
        self.options = options or RetryOptions()

    def next_delay(self, _error: ScillmError, _state: RetryState, /) -> float | None:
        """None."""
        return None


@frozen(kw_only=True)
class Budget:
    """What a flight may use for all its attempts together."""

    max_attempts: int
    time_s: float


@frozen(kw_only=True)
class Decision:
    """Wait `wait_s` and try again, or give up because of `why`.

    `why` is not_retryable, attempts, time_budget or policy; `reason` names the kind of failure.
    """

    wait_s: float | None
    reason: str
    why: str = ""
    remaining_time_s: float
    remaining_attempts: int


def budget_of(options: RetryOptions, error: ScillmError | None = None) -> Budget:
    """The budget for `options`, narrowed by `per_error` for the nearest class of `error`.

    The tenacious policy does not count attempts; its time budget bounds it.
    """
    attempts = UNCOUNTED if options.policy == "tenacious" else options.max_attempts
    for cls in type(error).__mro__ if error is not None else ():
        if cls.__name__ in options.per_error:
            attempts = min(attempts, options.per_error[cls.__name__])
            break
    return Budget(max_attempts=attempts, time_s=options.time_budget_s)


def decide(
    error: ScillmError,
    state: RetryState,
    *,
    policy: RetryPolicy,
    budget: Budget,
    rest_s: float = 0.0,
) -> Decision:
    """What to do after attempt `state.attempt` failed with `error`.

    The wait is the larger of the policy's and `rest_s`, the shortest time until a deployment may
    be asked again. A wait that does not fit into the time left gives up at once: an announced
    pause is never cut short. Only what `policy` added to it for jitter may be cut.
    """
    left_s = max(0.0, budget.time_s - state.elapsed_s)
    left = max(0, budget.max_attempts - state.attempt)

    def decision(wait_s: float | None, why: str = "") -> Decision:
        return Decision(
            wait_s=wait_s,
            reason=reason_of(error),
            why=why,
            remaining_time_s=left_s,
            remaining_attempts=left,
        )

    if not error.retryable:
        return decision(None, "not_retryable")
    if left == 0:
        return decision(None, "attempts")
    proposed = policy.next_delay(error, state)
    if proposed is None:
        return decision(None, "policy")
    least = max(rest_s, announced_wait(error) or 0.0)
    wait_s = max(proposed, rest_s)
    if wait_s > left_s >= least > 0.0:
        wait_s = left_s
    if wait_s > left_s or left_s == 0.0:
        return decision(None, "time_budget")
    return decision(wait_s)


def announced_wait(error: ScillmError) -> float | None:
    """The upstream's Retry-After in seconds, 0 raised to a short wait; None if it is silent."""
    said = error.retry_after if isinstance(error, ProviderError) else None
    return None if said is None else wait_meant(said)


def reason_of(error: ScillmError) -> str:
    """The kind of failure, for logs."""
    return next((word for cls, word in REASONS if isinstance(error, cls)), "other")
