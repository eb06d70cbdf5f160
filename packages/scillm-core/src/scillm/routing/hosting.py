"""What a Router lends to providers, and the providers built with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from scillm.errors import PluginLoadError
from scillm.plugins.groups import PROVIDERS
from scillm.plugins.settings import load
from scillm.protocols import Closes, Host

if TYPE_CHECKING:
    from scillm.plugins.hooks import Hooks
    from scillm.plugins.registry import Registry
    from scillm.protocols import Provider, Transport
    from scillm.records import Endpoint, Json
    from scillm.routing.arguments import Arguments
    from scillm.routing.deployment import Deployment


class Hosting:
    """Builds providers. Remembers the host, made at first use, and the deployments' providers."""

    def __init__(
        self,
        registry: Registry,
        hooks: Hooks,
        settings: Mapping[str, Json] | None,
        transport: Transport | None,
    ) -> None:
        self.registry = registry
        self.hooks = hooks
        self._given_settings = settings
        self._transport = transport
        self._host: Host | None = None
        self._providers: dict[str, tuple[Deployment, Provider]] = {}
        self._replaced: list[Closes] = []
        """Those of rows that are no longer served; calls on their way may still use them."""
        self._own: WeakSet[Closes] = WeakSet()
        """Those of calls that name their own target, for as long as anybody knows them."""

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

    def _made(self, endpoint: Endpoint) -> Provider:
        provider = self.provider(endpoint)
        if isinstance(provider, Closes):
            self._own.add(provider)
        return provider

    def host(self) -> Host:
        """What is lent to providers."""
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
        kept = [provider for _row, provider in self._providers.values()]
        for provider in (*kept, *self._replaced, *self._own):
            if isinstance(provider, Closes):
                await provider.aclose()
        if self._host is not None and isinstance(self._host.transport, Closes):
            await self._host.transport.aclose()

    def builder(
        self, endpoint: Endpoint, row: Deployment | None, call: Arguments
    ) -> Callable[[], Provider]:
        """How to come by the provider of a leg, when it is asked."""
        # A deployment's provider is kept, unless this call brings headers of its own.
        if row is None or call.extra_headers != row.arguments.extra_headers:
            return cache(partial(self._made, endpoint))

        def kept() -> Provider:
            found = self._providers.get(row.id)
            if found is not None and (found[0] is row or found[0] == row):
                return found[1]
            if found is not None and isinstance(found[1], Closes):
                self._replaced.append(found[1])
            provider = self.provider(endpoint)
            self._providers[row.id] = (row, provider)
            return provider

        return kept
