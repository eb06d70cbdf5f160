"""A host to lend to a provider under test: a real transport that never leaves this machine."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from scillm.plugins.registry import Registry
from scillm.protocols import Host, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from scillm.events import Event
    from scillm.protocols import Plugins
    from scillm.records import HttpCall, HttpReply, HttpStream, Json


class LoopbackTransport:
    """Carries calls to this machine only; a call to anywhere else is an `AssertionError`.

    `inner` does the work (default: the transport SciLLM itself uses). The refusal is deliberately
    no `ScillmError`: a provider that translates errors must not be able to hide it.
    """

    def __init__(self, inner: Transport | None = None) -> None:
        if inner is None:
            from scillm.http.transport import HttpxTransport

            inner = HttpxTransport()
        self._inner = inner

    async def send(self, call: HttpCall, /) -> HttpReply:
        """Send and read the whole reply."""
        refuse_strangers(call.url)
        return await self._inner.send(call)

    def stream(self, call: HttpCall, /) -> AbstractAsyncContextManager[HttpStream]:
        """Send and hand over the body as it arrives."""
        refuse_strangers(call.url)
        return self._inner.stream(call)


def refuse_strangers(url: str) -> None:
    """Raise `AssertionError` unless `url` is on this machine."""
    host = urlsplit(url).hostname or ""
    if not is_loopback(host):
        raise AssertionError(
            f"The provider called {host!r}, but a conformance test never leaves this machine. "
            "Override the fixture `api_base` with the URL of a server on 127.0.0.1, or the fixture "
            "`host` with host_for(transport=RecordedTransport([...]))."
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def host_for(
    *,
    transport: Transport | None = None,
    plugins: Plugins | None = None,
    settings: Mapping[str, Json] | None = None,
    emit: Callable[[Event], None] | None = None,
) -> Host:
    """A host for tests.

    Defaults: a `LoopbackTransport`, a registry without any plugin, no settings, and events that go
    nowhere.
    """
    return Host(
        transport=LoopbackTransport() if transport is None else transport,
        plugins=Registry(offers=()) if plugins is None else plugins,
        settings={} if settings is None else settings,
        emit=_drop if emit is None else emit,
    )


def _drop(_event: Event) -> None:
    return
