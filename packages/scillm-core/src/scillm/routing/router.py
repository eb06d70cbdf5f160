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
from scillm.errors import PluginLoadError, UnknownModelError, UsageError
from scillm.plugins.groups import GROUPS, PROVIDERS, RETRY_POLICIES
from scillm.plugins.hooks import Hooks
from scillm.plugins.registry import Registry, not_found_message
from scillm.plugins.settings import load
from scillm.protocols import Closes, Host
from scillm.records import ChatRequest, Endpoint, evolve
from scillm.resilience.health import Health
from scillm.resilience.retry import NoRetry
from scillm.routing.arguments import Arguments, sorted_arguments
from scillm.routing.call import Call
from scillm.routing.deployment import Deployment, merged, read_model_list
from scillm.routing.deterministic import made_deterministic
from scillm.routing.fallback import filled, pattern_match
from scillm.routing.flight import Flight, Rules
from scillm.routing.legs import Board, GroupLegs, Leg, Legs, OneLeg, groups_of
from scillm.routing.load import Load
from scillm.routing.opened import OpenStream
from scillm.routing.options import router_arguments
from scillm.routing.parallel import ParallelResult, ResultStream, gather
from scillm.routing.policy import call_tags, callbacks, fallback_rules, retry_options
from scillm.routing.retry_log import RetryLog
from scillm.routing.stamps import stamped
from scillm.routing.streams import AsyncCompletionStream, CompletionStream
from scillm.routing.target import target_of

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.protocols import Provider, Transport
    from scillm.records import Json, Message


DEFAULT_WIDTH = 8


class Router:
    """Answers calls through its deployments. Remembers the providers it has built.

    `model_list` has LiteLLM's rows: `{"model_name": group, "litellm_params": {"model", "api_base",
    "api_key", "custom_llm_provider", "extra_headers", "timeout", "order", …}, "model_info":
    {"id"}}`. A call to a group asks its deployments by `order`, then as listed, and moves on when
    the error says that another may answer. Without a list every call names its own target.

    Further arguments, as LiteLLM's Router has them: `routing_strategy` (simple-shuffle,
    least-busy, latency-based-routing, usage-based-routing, cost-based-routing),
    `routing_strategy_args` (`ttl`, `lowest_latency_buffer`), `num_retries`, the `retry_…` knobs,
    `retry_policy`, `fallbacks`, `context_window_fallbacks`, `content_policy_fallbacks`,
    `default_fallbacks`, `max_fallbacks`, `model_group_alias`, `cooldown_time`, `allowed_fails`,
    `allowed_fails_policy`, `disable_cooldowns`. Others are refused with `UsageError`.

    `deterministic` fixes the sampling parameters (temperature 0, top_p 1, given penalties 0) and
    works through parallel requests one at a time.

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
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        **arguments: Any,
    ) -> None:
        given = router_arguments(arguments)
        core = load() if settings is None else settings
        self.registry = registry or Registry(disabled=core.get("plugins_disable", ()))
        self.hooks = hooks or Hooks(self.registry, strict=core.get("plugins_strict", False))
        self.deterministic = deterministic
        self._warned = False
        self._given_settings = settings
        self._transport = transport
        self._host: Host | None = None
        deployments = read_model_list(model_list)
        self._fallbacks = given.fallbacks
        self._knobs = given.knobs
        self._aliases = given.aliases
        self._board = Board(
            health=Health(given.cooldown),
            load=Load(len(deployments), latency_ttl_s=given.latency_ttl_s),
            strategy=given.strategy,
            buffer=given.latency_buffer,
            clock=clock,
            draw=draw,
        )
        self._groups = groups_of(deployments, self._board)
        self._by_id = {row.id: (position, row) for position, row in enumerate(deployments)}
        self._providers: dict[str, Provider] = {}

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
        call = self._call(self._shaped(sorted_arguments(given)))
        if not stream:
            leg, completion = await call.fly(_complete)
            return stamped(completion, call.record(leg))
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
        """A provider for `endpoint`, built by the plugin of that name.

        Raises `PluginError` when there is none, it cannot be loaded, or it has the wrong shape.
        """
        factory = self.registry.get(PROVIDERS, endpoint.provider)
        try:
            provider: Provider = factory(endpoint, self.host())
        except TypeError as error:
            raise PluginLoadError(
                f"The provider {endpoint.provider!r} could not be built from (endpoint, host): "
                f"{error}."
            ) from error
        if not callable(getattr(provider, "complete", None)):
            raise PluginLoadError(
                f"The provider {endpoint.provider!r} built a {type(provider).__name__}, "
                "which has no method complete."
            )
        return provider

    def host(self) -> Host:
        """What this Router lends to providers."""
        if self._host is None:
            settings = self._given_settings
            if settings is None:
                settings = load(more=self.hooks.settings())
            transport = self._transport
            if transport is None:
                from scillm.http.choice import make_transport

                transport = make_transport(settings)
            self._host = Host(
                transport=transport,
                plugins=self.registry,
                settings=settings,
                emit=self.hooks.emit,
            )
        return self._host

    async def aclose(self) -> None:
        """Close idle connections of the running event loop; a second call does nothing."""
        for provider in self._providers.values():
            if isinstance(provider, Closes):
                await provider.aclose()
        if self._host is not None and isinstance(self._host.transport, Closes):
            await self._host.transport.aclose()

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
        settings = self.host().settings
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
            legs_for=self._legs,
            emit=self.hooks.emit,
            with_retries=bool(settings.get("retry_meta")),
        )

    def _flight_rules(self, arguments: Arguments) -> Rules:
        settings = self.host().settings
        rows = self._groups.get(arguments.model or "")
        row_layers = [rows.knobs] if rows is not None else []
        options = retry_options([arguments.policy, *row_layers, self._knobs], settings)
        factory = self.registry.get(RETRY_POLICIES, options.policy) if options.enabled else NoRetry
        return Rules(
            options=options,
            policy=factory(options),
            callbacks=callbacks(arguments.policy),
            log=RetryLog(
                as_json=bool(settings.get("log_json")), every=settings.get("retry_log_every", 1)
            ),
            draw=self._board.draw,
        )

    def _legs(self, call: Arguments, model: str) -> Legs:
        """The legs of a call to `model`: a group, alias, deployment's id, pattern, or ad hoc."""
        name = self._aliases.get(model, model)
        stars: Sequence[str] = ()
        group = self._groups.get(name)
        if group is None:
            row = self._by_id.get(name)
            if row is not None:
                return OneLeg(self._row_leg(call, row[1], row[0], requested=model, stars=()))
            found = pattern_match(name, list(self._groups))
            if found is not None:
                group, stars = self._groups[found[0]], found[1]
        if group is not None:
            levels = group.levels(call_tags(call.policy))
            if not levels:
                raise UnknownModelError(
                    f"No deployment of {model!r} serves the tags "
                    f"{', '.join(call_tags(call.policy)) or '(none)'}."
                )
            return GroupLegs(
                group,
                levels,
                partial(self._row_leg, call, requested=model, stars=stars),
                streamed=call.stream,
            )
        if self._groups and not (call.api_base or call.provider):
            raise UnknownModelError(
                f"This Router has no model group {model!r}; it has "
                f"{', '.join(sorted(self._groups))}. To go past its list, pass api_base or "
                "custom_llm_provider.",
                candidates=sorted(self._groups),
            )
        return OneLeg(self._leg(call, requested=model))

    def _row_leg(
        self,
        call: Arguments,
        row: Deployment,
        position: int,
        *,
        requested: str,
        stars: Sequence[str],
    ) -> Leg:
        arguments = merged(call, row.arguments)
        if stars and arguments.model and "*" in arguments.model:
            arguments = evolve(arguments, model=filled(arguments.model, stars))
        leg = self._leg(arguments, requested=requested, row=row)
        return evolve(leg, position=position)

    def _leg(self, call: Arguments, *, requested: str, row: Deployment | None = None) -> Leg:
        settings = self.host().settings
        target = target_of(
            call.model or requested,
            provider=call.provider,
            api_base=call.api_base,
            known=self.registry.names(PROVIDERS),
            default_provider=settings.get("default_provider"),
            missing=self._missing,
        )
        endpoint = Endpoint(
            provider=target.provider,
            api_base=call.api_base,
            api_key=call.api_key,
            extra_headers=call.extra_headers,
            name=row.id if row else "",
        )
        request = ChatRequest(
            model=self.hooks.resolve_model(target.model, endpoint),
            messages=call.messages,
            params=call.params,
            stream=call.stream,
            timeout_s=call.timeout_s or settings.get("timeout_s", 600.0),
            requested_model=requested,
        )
        return Leg(
            endpoint=endpoint,
            request=self.hooks.shape_request(request),
            provider=self._builder(endpoint, row, call),
            group=row.group if row else "",
            deployment=row,
        )

    def _builder(
        self, endpoint: Endpoint, row: Deployment | None, call: Arguments
    ) -> Callable[[], Provider]:
        # A deployment's provider is kept, unless this call brings headers of its own.
        if row is None or call.extra_headers != row.arguments.extra_headers:
            return partial(self.provider, endpoint)

        def kept() -> Provider:
            provider = self._providers.get(row.id)
            if provider is None:
                provider = self._providers[row.id] = self.provider(endpoint)
            return provider

        return kept

    def _missing(self, name: str) -> str:
        return not_found_message(GROUPS[PROVIDERS], name, self.registry.names(PROVIDERS))


async def _complete(leg: Leg) -> Completion:
    return await leg.provider().complete(leg.request)
