"""The provider `chutes`: a chat server that is never asked in vain if we can know it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from copy import copy
from functools import partial
from typing import TYPE_CHECKING

from scillm.errors import (
    APIConnectionError,
    NotFoundError,
    ScillmError,
    SettingsError,
    UsageError,
)
from scillm.http.choice import make_transport
from scillm.providers.openai_like import OpenAILike
from scillm.records import evolve

from scillm_chutes.admission import refuse_incapable, refuse_unready
from scillm_chutes.desk import Desk, shared_desk
from scillm_chutes.pacing import announced_limit
from scillm_chutes.refusals import Asked, refused
from scillm_chutes.resolution import resolve_model
from scillm_chutes.settings import NO_KEY, accounts_from, first_base, pace_from, site_from

if TYPE_CHECKING:
    from scillm.errors import ProviderError
    from scillm.models import Completion, CompletionChunk
    from scillm.protocols import Host
    from scillm.records import ChatRequest, Endpoint, HttpReply, Json

PROVIDER = "chutes"
CONNECTION_REST_S = 1.0
LIMIT_HEADER = "x-chutes-rl-user"
STAMPED_HEADERS = (
    "x-chutes-invocationid",
    "x-chutes-quota-used",
    "x-chutes-quota-remaining",
    LIMIT_HEADER,
)


class Chutes(OpenAILike):
    """Asks Chutes. The key's gate, the catalog and what was met before decide what leaves.

    Base URL and key come from the endpoint, else from CHUTES_API_BASE and CHUTES_API_KEY; a key
    from the settings is sent to its own base URL only.
    """

    def __init__(self, endpoint: Endpoint, host: Host, *, desk: Desk | None = None) -> None:
        endpoint = _completed(endpoint, host)
        super().__init__(endpoint, host)
        settings = host.settings
        self._desk = desk or shared_desk()
        site = site_from(settings, endpoint.api_base or "")
        self.market = self._desk.market(
            site,
            cache_dir=settings.get("chutes_cache_dir"),
            feed_ttl_s=settings.get("chutes_feed_ttl_s", 45.0),
        )
        self.gate = self._desk.gate(
            site,
            endpoint.api_key or "",
            pace_from(settings),
            cache_dir=settings.get("chutes_cache_dir"),
        )
        self._mode = settings.get("chutes_resolve", "strict")
        self._asked: Asked | None = None

    async def complete(self, request: ChatRequest, /) -> Completion:
        """Answer `request`; nothing is sent while key or model rest, or to a model that cannot."""
        try:
            return await self._complete_once(request)
        except NotFoundError as error:
            other = await self._resolved_again(request, error)
            if other is None:
                raise
            return await self._complete_once(other)

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, /
    ) -> AsyncIterator[AsyncIterator[CompletionChunk]]:
        """Open the streamed answer to `request`; as careful as `complete`."""
        async with AsyncExitStack() as stack:
            try:
                chunks = await self._opened(request, stack)
            except NotFoundError as error:
                other = await self._resolved_again(request, error)
                if other is None:
                    raise
                chunks = await self._opened(other, stack)
            self.market.answered(request.model)
            yield chunks

    async def models(self) -> tuple[str, ...]:
        """The ids of the catalog in the server's order, fetched when it is due."""
        await self.market.refresh(self.host.transport)
        catalog = self.market.known()
        if catalog is None:
            raise APIConnectionError(
                f"The models of {self.endpoint.label} cannot be listed: "
                f"{self.market.problems.get('catalog', 'no reason given')}",
                provider=self.endpoint.provider,
            )
        return catalog.ids

    def parse(self, reply: HttpReply) -> Completion:
        """The completion, with what Chutes says about the call in additional_kwargs."""
        completion = super().parse(reply)
        said = {
            name.removeprefix("x-chutes-").replace("-", "_"): value
            for name, value in _stamped(reply.headers).items()
        }
        return evolve(
            completion, additional_kwargs={**completion.additional_kwargs, PROVIDER: said}
        )

    def side(self, headers: Mapping[str, str]) -> Mapping[str, Json]:
        """Quota and announced limit, of answers and of streams; the gate hears of the limit."""
        self.gate.answered(limit_per_min=announced_limit(headers.get(LIMIT_HEADER, "")))
        side = super().side(headers)
        said = _stamped(headers)
        return {**side, "additional_headers": {**side.get("additional_headers", {}), **said}}

    def refusal(self, reply: HttpReply) -> ProviderError:
        """The error of a refusal; key and model rest as long as it asks for."""
        plain = super().refusal(reply)
        if self._asked is None:  # a reply to something else than a call
            return plain
        return refused(reply, plain, self._asked, now=self._desk.wall())

    # -- one call ------------------------------------------------------------------------------

    async def _complete_once(self, request: ChatRequest) -> Completion:
        asking = await self._admitted(request)
        with self._connected(request):
            completion = await OpenAILike.complete(asking, request)
        self.market.answered(request.model)
        return completion

    async def _opened(
        self, request: ChatRequest, stack: AsyncExitStack
    ) -> AsyncIterator[CompletionChunk]:
        asking = await self._admitted(request)
        with self._connected(request):
            return await stack.enter_async_context(OpenAILike.stream(asking, request))

    @contextmanager
    def _connected(self, request: ChatRequest) -> Iterator[None]:
        try:
            yield
        except APIConnectionError:
            self.market.refused(request.model, rest_s=CONNECTION_REST_S, reason="connection")
            raise

    async def _admitted(self, request: ChatRequest) -> Chutes:
        """A copy of the provider that knows its call, once nothing speaks against asking."""
        self.market.keep_fresh(partial(make_transport, self.host.settings))
        with self.named(request):
            self.gate.check()
            refuse_incapable(self.market, request)
            self._refuse_unready(request)
            started_at = await self.gate.turn(max_wait_s=request.timeout_s)
            try:
                # Much can be learned about a model while a call waits for its turn.
                self._refuse_unready(request)
            except ScillmError:
                self.gate.unused()
                raise
        asking = copy(self)
        asking._asked = Asked(
            model=request.model, started_at=started_at, gate=self.gate, market=self.market
        )
        return asking

    def _refuse_unready(self, request: ChatRequest) -> None:
        refuse_unready(self.market, request.model, label=self.endpoint.label, mode=self._mode)

    async def _resolved_again(
        self, request: ChatRequest, error: NotFoundError
    ) -> ChatRequest | None:
        """The request with the id that the newest catalog has, once; None where it is the same."""
        if "nothing was sent" not in error.message:
            await self.market.refresh_catalog(self.host.transport)
        catalog = self.market.known()
        if catalog is None or self._mode == "off":
            return None
        try:
            found = resolve_model(request.model, catalog.ids, mode=self._mode).id
        except UsageError:
            return None
        return None if found == request.model else evolve(request, model=found)


def _stamped(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in STAMPED_HEADERS if name in headers}


def _completed(endpoint: Endpoint, host: Host) -> Endpoint:
    """The endpoint with the base URL and key of the settings where it has none."""
    settings = host.settings
    base = endpoint.api_base
    if endpoint.api_key:
        return evolve(endpoint, api_base=base or first_base(settings))
    try:
        accounts = accounts_from(settings)
    except SettingsError:
        accounts = ()
    wanted = base.rstrip("/") if base else None
    for account in accounts:
        if wanted is None or account.api_base.rstrip("/") == wanted:
            return evolve(endpoint, api_base=account.api_base, api_key=account.api_key)
    raise SettingsError(NO_KEY)
