"""The Router: model groups with their deployments, asked in order until one answers."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from scillm import portal
from scillm.errors import UsageError
from scillm.plugins.hooks import Hooks
from scillm.plugins.registry import Registry
from scillm.plugins.settings import load
from scillm.resilience.health import Health
from scillm.resilience.spend import Budget
from scillm.routing.answering import Answering, Determinism
from scillm.routing.caching import Caching
from scillm.routing.deployment import read_model_list
from scillm.routing.fallback import strangers
from scillm.routing.hosting import Hosting
from scillm.routing.images import read_image_policy
from scillm.routing.key_limits import key_limits
from scillm.routing.legs import Board
from scillm.routing.load import Load
from scillm.routing.options import router_arguments
from scillm.routing.parallel import ParallelResult, ResultStream, gather
from scillm.routing.planning import Planner
from scillm.routing.rules import RuleBook
from scillm.routing.spending import Spending
from scillm.routing.streams import AsyncCompletionStream, CompletionStream

if TYPE_CHECKING:
    from scillm.models import Completion, EmbeddingResponse
    from scillm.protocols import Provider, Transport
    from scillm.records import Endpoint, Json, Message
    from scillm.resilience.spend import Account, Spend
    from scillm.runs.cache import ResponseCache


log = logging.getLogger("scillm.routing")

DEFAULT_WIDTH = 8


class Router:
    """Answers calls through its deployments. Remembers the providers it has built.

    `model_list` has LiteLLM's rows: `{"model_name": group, "litellm_params": {"model", "api_base",
    "api_key", "custom_llm_provider", "extra_headers", "timeout", "order", …}, "model_info":
    {"id"}}`. A call to a group asks its deployments by `order`, among equal ones as the strategy
    says, and moves on when the error says that another may answer. Without a list every call names
    its own target.

    Further arguments, as LiteLLM's Router has them: `routing_strategy` (simple-shuffle,
    least-busy, latency-based-routing, usage-based-routing, cost-based-routing),
    `routing_strategy_args` (`ttl`, `lowest_latency_buffer`), `num_retries`, the `retry_…` knobs,
    `retry_policy`, `fallbacks`, `context_window_fallbacks`, `content_policy_fallbacks`,
    `default_fallbacks`, `max_fallbacks`, `model_group_alias`, `cooldown_time`, `allowed_fails`,
    `allowed_fails_policy`, `disable_cooldowns`, `hedge_after_s`, and `redis_url` (or `redis_host`,
    `redis_port`, `redis_password`, `redis_db`), `default_max_parallel_requests`, `key_rpm`,
    `key_tpm` and `rate_limit_scope` (see `docs/guide/pacing.md`; LiteLLM has none), `timeout`,
    `stream_timeout`, `retry_after` (the shortest wait between two tries),
    `ignore_invalid_deployments`, `enable_mid_stream_fallback_continuation`. Others are refused
    with `UsageError`.

    `deterministic` fixes the sampling parameters (temperature 0, top_p 1, given penalties 0) and
    works through parallel requests one at a time. `image_policy` (`max_count`, `max_each_bytes`,
    `max_total_bytes`, `mode` reject, downscale or off) bounds the images a request carries inside
    itself.

    `budget` (a `Budget`) bounds what all calls together may spend; `prices` has the price of models
    by id (`input_cost_per_token`, `output_cost_per_token`, or `…_per_million`), or is
    "genai-prices"; see `docs/guide/budgets.md`. `cache` ("memory", "sqlite", "redis", an object of
    `scillm.initialize_cache`'s arguments, or False) keeps answers; see `docs/guide/caching.md`.

    `registry`, `hooks`, `settings`, `transport`, `clock` (seconds, monotonic) and `draw` (uniform
    in [0, 1)) replace the defaults when the core is embedded.
    """

    def __init__(
        self,
        model_list: Sequence[Mapping[str, Any]] = (),
        *,
        registry: Registry | None = None,
        hooks: Hooks | None = None,
        settings: Mapping[str, Json] | None = None,
        transport: Transport | None = None,
        deterministic: bool = False,
        image_policy: Mapping[str, Any] | None = None,
        budget: Budget | Account | Mapping[str, Any] | None = None,
        prices: Mapping[str, Any] | str | None = None,
        cache: ResponseCache | Mapping[str, Any] | str | bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        **arguments: Any,
    ) -> None:
        given = router_arguments(arguments)
        core = load() if settings is None else settings
        self.registry = registry or Registry(disabled=core.get("plugins_disable", ()))
        self.hooks = hooks or Hooks(self.registry, strict=core.get("plugins_strict", False))
        self.deterministic = deterministic
        self.model_list = tuple(model_list)
        skipped = log.warning if given.skip_invalid else None
        self._read_rows = partial(read_model_list, skipped=skipped)
        deployments = self._read_rows(model_list)
        limits = key_limits(arguments, core)
        determinism = Determinism() if deterministic else None
        self._board = Board(
            health=Health(given.cooldown),
            load=Load(len(deployments), latency_ttl_s=given.latency_ttl_s),
            strategy=given.strategy,
            buffer=given.latency_buffer,
            key_rests=limits.key_rests,
            clock=clock,
            draw=draw,
        )
        self._hosting = Hosting(self.registry, self.hooks, settings, transport)
        self._caching = Caching(cache, emit=self.hooks.emit)
        self._spending = Spending(budget, prices, settings=self._settings, emit=self.hooks.emit)
        self._planner = Planner(
            self._hosting,
            deployments,
            aliases=given.aliases,
            board=self._board,
            timeout_s=given.timeout_s,
            stream_timeout_s=given.stream_timeout_s,
            fixed=None if determinism is None else determinism.fixed,
        )
        for name in strangers(given.fallbacks, self._planner.serves):
            log.warning(
                "The fallbacks name %r, but this Router has no such group: only calls that pass "
                "api_base or custom_llm_provider can go there.",
                name,
            )
        self._rule_book = RuleBook(
            self._hosting,
            knobs_of=self._planner.knobs,
            base=given.knobs,
            redis_url=given.redis_url,
            width=given.width,
            limits=limits,
            draw=draw,
        )
        self._answering = Answering(
            hosting=self._hosting,
            caching=self._caching,
            spending=self._spending,
            planner=self._planner,
            rule_book=self._rule_book,
            fallbacks=given.fallbacks,
            image_policy=read_image_policy(image_policy),
            determinism=determinism,
            continues=given.continues,
        )

    @overload
    async def acompletion(
        self,
        model: str | None = None,
        messages: Sequence[Message] | None = None,
        *,
        stream: Literal[False] = False,
        **arguments: Any,
    ) -> Completion: ...

    @overload
    async def acompletion(
        self,
        model: str | None = None,
        messages: Sequence[Message] | None = None,
        *,
        stream: Literal[True],
        **arguments: Any,
    ) -> AsyncCompletionStream: ...

    @overload
    async def acompletion(
        self,
        model: str | None = None,
        messages: Sequence[Message] | None = None,
        *,
        stream: bool,
        **arguments: Any,
    ) -> Completion | AsyncCompletionStream: ...

    async def acompletion(
        self,
        model: str | None = None,
        messages: Sequence[Message] | None = None,
        *,
        stream: bool = False,
        **arguments: Any,
    ) -> Completion | AsyncCompletionStream:
        """Answer one call; arguments as in `scillm.acompletion`, `model` may name a group.

        Raises `UsageError` before anything is sent, else the last `ProviderError`, whose
        `attempts` lists every endpoint that was asked.
        """
        given = {**arguments, "model": model, "messages": messages, "stream": stream}
        read = self._answering.read(given)
        if self._answering.makes_fit(read):
            read = await self._answering.fitted(read)
        if stream and read.json_mode is None:
            return await self._answering.streamed(read)
        return await self._answering.whole(read)

    @overload
    def completion(
        self,
        model: str | None = None,
        messages: Sequence[Message] | None = None,
        *,
        stream: Literal[False] = False,
        **arguments: Any,
    ) -> Completion: ...

    @overload
    def completion(
        self,
        model: str | None = None,
        messages: Sequence[Message] | None = None,
        *,
        stream: Literal[True],
        **arguments: Any,
    ) -> CompletionStream: ...

    @overload
    def completion(
        self,
        model: str | None = None,
        messages: Sequence[Message] | None = None,
        *,
        stream: bool,
        **arguments: Any,
    ) -> Completion | CompletionStream: ...

    def completion(
        self,
        model: str | None = None,
        messages: Sequence[Message] | None = None,
        *,
        stream: bool = False,
        **arguments: Any,
    ) -> Completion | CompletionStream:
        """The synchronous form of `acompletion`, run on the background loop."""
        if not stream:
            return portal.call(partial(self.acompletion, model, messages, **arguments))

        async def opened() -> AsyncCompletionStream:
            return await self.acompletion(model, messages, stream=True, **arguments)

        return CompletionStream(opened)

    async def aembedding(
        self, model: str | None = None, input: Any = None, **arguments: Any
    ) -> EmbeddingResponse:
        """Vectors for `input`; arguments as in `scillm.aembedding`, `model` may name a group."""
        return await self._answering.embedded({**arguments, "model": model, "input": input})

    def embedding(
        self, model: str | None = None, input: Any = None, **arguments: Any
    ) -> EmbeddingResponse:
        """The synchronous form of `aembedding`, run on the background loop."""
        return portal.call(partial(self.aembedding, model, input, **arguments))

    def set_model_list(self, model_list: Sequence[Mapping[str, Any]]) -> None:
        """Other deployments from now on, as if the Router had been made with them.

        Calls on their way end with the deployments they began with; rests go on by deployment id.
        Raises `UsageError` and changes nothing when a row is wrong.
        """
        self._planner.replace(self._read_rows(model_list))
        self._rule_book.forget()
        self.model_list = tuple(model_list)

    def provider(self, endpoint: Endpoint) -> Provider:
        """A provider for `endpoint`, built by the plugin of that name; see `Hosting.provider`."""
        return self._hosting.provider(endpoint)

    def set_budget(
        self,
        max_tokens: int | None = None,
        max_requests: int | None = None,
        on_exhaust: Callable[[], object] | None = None,
        hard: bool = True,
        *,
        max_usd: float | None = None,
    ) -> None:
        """Bound what this Router spends from now on; without bounds the budget is taken away.

        As `scillm.set_budget`, which bounds all Routers of the process together.
        """
        budget = Budget(usd=max_usd, tokens=max_tokens, requests=max_requests, hard=hard)
        self._spending.bound(budget, on_exhaust)

    @staticmethod
    def resolve_default_model() -> str | None:
        """The model of calls that name none (SCILLM_DEFAULT_MODEL and its aliases), or None."""
        model: str | None = load()["default_model"]
        return model

    def spend(self) -> Spend:
        """What this Router has spent so far, and what is in the air."""
        return self._spending.report()

    def resting(self) -> dict[str, float]:
        """Deployments (or `provider base model`) that rest now, and for how many seconds yet."""
        paused = self._rule_book.resting()
        cooling = self._board.health.resting(self._board.clock())
        return {
            name: max(paused.get(name, 0.0), cooling.get(name, 0.0))
            for name in {**paused, **cooling}
        }

    async def aclose(self) -> None:
        """Close idle connections of the running event loop; a second call does nothing."""
        await self._rule_book.aclose()
        await self._hosting.aclose()
        self._caching.close()

    def close(self) -> None:
        """Close the connections that synchronous calls have left idle."""
        portal.call(self.aclose)

    async def __aenter__(self) -> Router:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def parallel_acompletions(
        self,
        requests: Sequence[Any],
        preserve_order: bool = True,
        return_exceptions: bool = True,
        concurrency: int | None = None,
        max_concurrency: int | None = None,
    ) -> list[ParallelResult]:
        """Answer many requests, at most `max_concurrency` (or `concurrency`, default 8) at once.

        A request is a mapping with the arguments of `acompletion`, a `RouterParallelRequest`, or
        any record with these attributes; further arguments may also stand in `kwargs`. Streams are
        joined. Results are in the order of the requests, or with `preserve_order=False` as they
        finish; each has index, request, response, error, content, meta, timing_ms, and reads by
        key like an answer. `return_exceptions=False` raises the first error and cancels the rest.
        Deterministic mode works through them one at a time.
        """
        return await gather(
            requests,
            self._joined,
            width=self._width(concurrency if max_concurrency is None else max_concurrency),
            deterministic=self.deterministic,
            preserve_order=preserve_order,
            return_exceptions=return_exceptions,
        )

    def parallel_as_completed(
        self, requests: Sequence[Any], concurrency: int | None = None
    ) -> ResultStream:
        """The results of `parallel_acompletions` as they finish, for `async for`."""
        return ResultStream(
            requests,
            self._joined,
            width=self._width(concurrency),
            deterministic=self.deterministic,
        )

    async def _joined(self, request: Mapping[str, Any]) -> Completion:
        arguments = {name: value for name, value in request.items() if name != "stream"}
        if not request.get("stream"):
            whole: Completion = await self.acompletion(**arguments)
            return whole
        stream: AsyncCompletionStream = await self.acompletion(stream=True, **arguments)
        async with stream:
            async for _chunk in stream:
                continue
            return stream.completion

    def _settings(self) -> Mapping[str, Json]:
        return self._hosting.host().settings

    def _width(self, asked: int | None) -> int:
        if self.deterministic:
            return 1
        width = DEFAULT_WIDTH if asked is None else asked
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise UsageError(f"max_concurrency must be a whole number above 0, not {width!r}.")
        return width
