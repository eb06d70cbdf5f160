"""How a call deals with failure: retries, callbacks, hedging, pace, worked out once per model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from scillm.plugins.groups import RETRY_POLICIES
from scillm.resilience.retry import NoRetry, RetryOptions
from scillm.routing.pacing import Pacing
from scillm.routing.policy import callbacks, hedge_after, retry_options
from scillm.routing.retry_log import RetryLog

if TYPE_CHECKING:
    from scillm.protocols import RetryPolicy
    from scillm.routing.arguments import Arguments
    from scillm.routing.hosting import Hosting
    from scillm.routing.key_limits import KeyLimits
    from scillm.routing.policy import Callbacks

MOST_RULES = 10_000
"""Models whose rules are kept; a program that asks ever new ones does not fill the memory."""


@frozen(kw_only=True)
class Rules:
    """How a flight deals with failure."""

    options: RetryOptions
    policy: RetryPolicy
    callbacks: Callbacks
    log: RetryLog
    pacing: Pacing
    draw: Callable[[], float]
    hedge_after_s: float | None = None


class RuleBook:
    """The rules of a Router's calls. Remembers those of calls that say nothing of their own.

    `knobs_of` gives the knobs of a model's rows, `base` those of the Router.
    """

    def __init__(
        self,
        hosting: Hosting,
        *,
        knobs_of: Callable[[str], Mapping[str, Any]],
        base: Mapping[str, Any],
        redis_url: str | None,
        width: int | None,
        limits: KeyLimits,
        draw: Callable[[], float],
    ) -> None:
        self._hosting = hosting
        self._knobs_of = knobs_of
        self._base = base
        self._redis_url = redis_url
        self._width = width
        self._limits = limits
        self._draw = draw
        self._rules: dict[str, Rules] = {}
        self._made_pacing: Pacing | None = None

    def rules(self, call: Arguments) -> Rules:
        """The rules for a call."""
        if call.policy:
            return self._rules_of(call)
        # Calls that say nothing about failure share their rules, per model.
        model = call.model or ""
        rules = self._rules.get(model)
        if rules is None:
            rules = self._rules_of(call)
            if len(self._rules) < MOST_RULES:
                self._rules[model] = rules
        return rules

    def resting(self) -> dict[str, float]:
        """Whose pace rests, and for how many seconds yet."""
        return {} if self._made_pacing is None else self._made_pacing.resting()

    def forget(self) -> None:
        """The rows have changed, and their knobs with them."""
        self._rules.clear()

    async def aclose(self) -> None:
        """Close what the pace holds on the running event loop."""
        if self._made_pacing is not None:
            await self._made_pacing.aclose()

    def _rules_of(self, call: Arguments) -> Rules:
        settings = self._hosting.host().settings
        layers = [call.policy, self._knobs_of(call.model or ""), self._base]
        options = retry_options(layers, settings)
        registry = self._hosting.registry
        factory = registry.get(RETRY_POLICIES, options.policy) if options.enabled else NoRetry
        return Rules(
            options=options,
            policy=factory(options),
            callbacks=callbacks(call.policy),
            log=RetryLog(
                as_json=bool(settings.get("log_json")), every=settings.get("retry_log_every", 1)
            ),
            pacing=self._pacing(),
            draw=self._draw,
            hedge_after_s=hedge_after(layers),
        )

    def _pacing(self) -> Pacing:
        if self._made_pacing is None:
            host = self._hosting.host()
            self._made_pacing = Pacing(
                host.settings,
                redis_url=self._redis_url or host.settings.get("redis_url"),
                width=self._width,
                limits=self._limits,
                emit=host.emit,
            )
        return self._made_pacing
