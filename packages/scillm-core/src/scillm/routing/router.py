"""The Router: model groups with their deployments, asked in order until one answers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from scillm import portal
from scillm.errors import PluginLoadError, UnknownModelError, UsageError
from scillm.plugins.groups import GROUPS, PROVIDERS
from scillm.plugins.hooks import Hooks
from scillm.plugins.registry import Registry, not_found_message
from scillm.plugins.settings import load
from scillm.protocols import Closes, Host
from scillm.records import ChatRequest, Endpoint
from scillm.routing.arguments import Arguments, sorted_arguments
from scillm.routing.deployment import Deployment, in_order, merged, read_model_list
from scillm.routing.flight import Flight, Leg
from scillm.routing.streams import AsyncCompletionStream, CompletionStream
from scillm.routing.target import target_of

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.protocols import Provider, Transport
    from scillm.records import Json, Message


class Router:
    """Answers calls through its deployments. Remembers the providers it has built.

    `model_list` has LiteLLM's rows: `{"model_name": group, "litellm_params": {"model", "api_base",
    "api_key", "custom_llm_provider", "extra_headers", "timeout", "order", …}, "model_info":
    {"id"}}`. A call to a group asks its deployments by `order`, then as listed, and moves on when
    the error says that another may answer. Without a list every call names its own target.

    `registry`, `hooks`, `settings` and `transport` replace the defaults when the core is embedded.
    Other arguments are refused with `UsageError`.
    """

    def __init__(
        self,
        model_list: Sequence[Mapping[str, Any]] = (),
        *,
        registry: Registry | None = None,
        hooks: Hooks | None = None,
        settings: Mapping[str, Json] | None = None,
        transport: Transport | None = None,
        **unsupported: Any,
    ) -> None:
        for name in unsupported:
            raise UsageError(
                f"Router has no argument {name!r} in this version: it fails over in order and "
                "does not retry, rate-limit, cache or budget."
            )
        core = load() if settings is None else settings
        self.registry = registry or Registry(disabled=core.get("plugins_disable", ()))
        self.hooks = hooks or Hooks(self.registry, strict=core.get("plugins_strict", False))
        self._given_settings = settings
        self._transport = transport
        self._host: Host | None = None
        self._deployments = read_model_list(model_list)
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
        flight = Flight(
            self._legs(sorted_arguments(given)),
            call_id=secrets.token_hex(8),
            emit=self.hooks.emit,
        )
        if not stream:
            return await flight.complete()
        leg, source = await flight.open()
        return AsyncCompletionStream(flight, leg, source)

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
                from scillm.http.transport import HttpxTransport

                transport = HttpxTransport(
                    connect_timeout_s=settings.get("connect_timeout_s", 10.0)
                )
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

    def _legs(self, call: Arguments) -> list[Leg]:
        settings = self.host().settings
        model = call.model or settings.get("default_model")
        if not model:
            raise UsageError("No model was named: pass model=…, or set SCILLM_DEFAULT_MODEL.")
        rows = in_order(self._deployments, model) or tuple(
            row for row in self._deployments if row.id == model
        )
        if rows:
            return [
                self._leg(merged(call, row.arguments), requested=model, row=row) for row in rows
            ]
        if self._deployments and not (call.api_base or call.provider):
            groups = sorted({row.group for row in self._deployments})
            raise UnknownModelError(
                f"This Router has no model group {model!r}; it has {', '.join(groups)}. To go past "
                "its list, pass api_base or custom_llm_provider.",
                candidates=groups,
            )
        return [self._leg(call, requested=model)]

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
