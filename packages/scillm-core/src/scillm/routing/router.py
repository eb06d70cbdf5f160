"""The Router: model groups with their deployments, asked in order until one answers."""

from __future__ import annotations

import random
import secrets
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from scillm import portal
from scillm.errors import UsageError
from scillm.plugins.groups import RETRY_POLICIES
from scillm.plugins.hooks import Hooks
from scillm.plugins.registry import Registry
from scillm.plugins.settings import load
from scillm.records import ChatRequest, Endpoint, evolve
from scillm.resilience.health import Health
from scillm.resilience.retry import NoRetry
from scillm.routing.arguments import Arguments, sorted_arguments
from scillm.routing.call import Call
from scillm.routing.deployment import read_model_list
from scillm.routing.deterministic import made_deterministic
from scillm.routing.flight import Flight, Rules
from scillm.routing.hosting import Hosting
from scillm.routing.images import check_images, read_image_policy
from scillm.routing.jsonmode import JsonMode, with_setting
from scillm.routing.legs import Board, Leg
from scillm.routing.load import Load
from scillm.routing.opened import OpenStream
from scillm.routing.options import router_arguments
from scillm.routing.pacing import Pacing
from scillm.routing.parallel import ParallelResult, ResultStream, gather
from scillm.routing.planning import Planner
from scillm.routing.policy import callbacks, fallback_rules, retry_options
from scillm.routing.retry_log import RetryLog
from scillm.routing.stamps import stamped
from scillm.routing.streams import AsyncCompletionStream, CompletionStream

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.protocols import Provider, Transport
    from scillm.records import Json, Message


DEFAULT_WIDTH = 8
MOST_RULES = 10_000
"""Models whose rules are kept; a program that asks ever new ones does not fill the memory."""


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
    `allowed_fails_policy`, `disable_cooldowns`. Others are refused with `UsageError`.

    `deterministic` fixes the sampling parameters (temperature 0, top_p 1, given penalties 0) and
    works through parallel requests one at a time. `image_policy` (`max_count`, `max_each_bytes`,
    `max_total_bytes`, `mode` reject or off) bounds the images a request carries inside itself.

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
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        **arguments: Any,
    ) -> None:
        given = router_arguments(arguments)
        core = load() if settings is None else settings
        self.registry = registry or Registry(disabled=core.get("plugins_disable", ()))
        self.hooks = hooks or Hooks(self.registry, strict=core.get("plugins_strict", False))
        self.deterministic = deterministic
        self._image_policy = read_image_policy(image_policy)
        self._warned = False
        self._made_pacing: Pacing | None = None
        self._rules: dict[str, Rules] = {}
        deployments = read_model_list(model_list)
        self._fallbacks = given.fallbacks
        self._knobs = given.knobs
        self._board = Board(
            health=Health(given.cooldown),
            load=Load(len(deployments), latency_ttl_s=given.latency_ttl_s),
            strategy=given.strategy,
            buffer=given.latency_buffer,
            clock=clock,
            draw=draw,
        )
        self._hosting = Hosting(self.registry, self.hooks, settings, transport)
        self._planner = Planner(
            self._hosting, deployments, aliases=given.aliases, board=self._board
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
        read = self._shaped(sorted_arguments(given))
        if read.json_mode is not None:
            return await self._checked_json(read, read.json_mode)
        if not stream:
            return await self._answer(read)
        call = self._call(read)
        leg, source = await call.fly(OpenStream.begin)
        return AsyncCompletionStream(call.record(leg), source)

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

    def provider(self, endpoint: Endpoint) -> Provider:
        """A provider for `endpoint`, built by the plugin of that name; see `Hosting.provider`."""
        return self._hosting.provider(endpoint)

    async def aclose(self) -> None:
        """Close idle connections of the running event loop; a second call does nothing."""
        await self._hosting.aclose()

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

    def _width(self, asked: int | None) -> int:
        if self.deterministic:
            return 1
        width = DEFAULT_WIDTH if asked is None else asked
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise UsageError(f"max_concurrency must be a whole number above 0, not {width!r}.")
        return width

    def _shaped(self, call: Arguments) -> Arguments:
        check_images(call.messages, self._image_policy)
        if not self.deterministic:
            return call
        params, changed = made_deterministic(call.params)
        if changed and not self._warned:
            self._warned = True
            warnings.warn(
                f"Deterministic mode overrides {', '.join(changed)}.", UserWarning, stacklevel=3
            )
        return evolve(call, params=params)

    def _call(self, arguments: Arguments) -> Call:
        settings = self._hosting.host().settings
        model = arguments.model or settings.get("default_model")
        if not model:
            raise UsageError("No model was named: pass model=…, or set SCILLM_DEFAULT_MODEL.")
        rules = self._flight_rules(arguments)
        flight = Flight(
            model=model, call_id=secrets.token_hex(8), rules=rules, emit=self.hooks.emit
        )
        return Call(
            flight=flight,
            model=model,
            arguments=arguments,
            fallbacks=fallback_rules(arguments.policy, model=model, base=self._fallbacks),
            legs_for=self._planner.legs,
            emit=self.hooks.emit,
            with_retries=bool(settings.get("retry_meta")),
        )

    async def _answer(self, arguments: Arguments) -> Completion:
        call = self._call(arguments)
        leg, completion = await call.fly(_complete)
        return stamped(completion, call.record(leg))

    async def _checked_json(self, arguments: Arguments, asked: JsonMode) -> Completion:
        from scillm.structured.loop import complete_json

        mode = with_setting(asked, self._hosting.host().settings)
        request = ChatRequest(
            model=arguments.model or "",
            messages=arguments.messages,
            params=arguments.params,
            stream=arguments.stream,
        )

        async def ask(shaped: ChatRequest) -> Completion:
            return await self._answer(
                evolve(arguments, messages=shaped.messages, params=shaped.params)
            )

        return await complete_json(
            ask,
            request,
            response_format=mode.response_format,
            repair_rounds=mode.repair_rounds,
            sanitize=mode.sanitize,
        )

    def _pacing(self) -> Pacing:
        if self._made_pacing is None:
            self._made_pacing = Pacing(self._hosting.host().settings)
        return self._made_pacing

    def _flight_rules(self, arguments: Arguments) -> Rules:
        if arguments.policy:
            return self._rules_of(arguments)
        # Calls that say nothing about failure share their rules, per model.
        model = arguments.model or ""
        rules = self._rules.get(model)
        if rules is None:
            rules = self._rules_of(arguments)
            if len(self._rules) < MOST_RULES:
                self._rules[model] = rules
        return rules

    def _rules_of(self, arguments: Arguments) -> Rules:
        settings = self._hosting.host().settings
        layers = [arguments.policy, self._planner.knobs(arguments.model or ""), self._knobs]
        options = retry_options(layers, settings)
        factory = self.registry.get(RETRY_POLICIES, options.policy) if options.enabled else NoRetry
        return Rules(
            options=options,
            policy=factory(options),
            callbacks=callbacks(arguments.policy),
            log=RetryLog(
                as_json=bool(settings.get("log_json")), every=settings.get("retry_log_every", 1)
            ),
            pacing=self._pacing(),
            draw=self._board.draw,
        )


async def _complete(leg: Leg) -> Completion:
    return await leg.provider().complete(leg.request)
