"""The provider `chutes`: a chat server that is never asked in vain if we can know it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from scillm.errors import (
    APIConnectionError,
    NotFoundError,
    ScillmError,
    SettingsError,
    UsageError,
)
from scillm.http.choice import make_transport
from scillm.providers.openai_like import OpenAILike
from scillm.records import ChatRequest, EmbeddingRequest, evolve

from scillm_chutes.admission import refuse_incapable, refuse_unready
from scillm_chutes.desk import Desk, shared_desk
from scillm_chutes.pacing import announced_limit
from scillm_chutes.refusals import Asked, refused
from scillm_chutes.resolution import resolve_model
from scillm_chutes.settings import NO_KEY, accounts_from, first_base, pace_from, site_from
from scillm_chutes.sites import embedding_base

if TYPE_CHECKING:
    from scillm.errors import ProviderError
    from scillm.models import Completion, CompletionChunk, EmbeddingResponse
    from scillm.protocols import Host
    from scillm.records import Endpoint, HttpReply, Json

    from scillm_chutes.market import Market
    from scillm_chutes.sites import Site

Request = TypeVar("Request", ChatRequest, EmbeddingRequest)
PROVIDER = "chutes"
CONNECTION_REST_S = 1.0
LEAST_S = 1.0
"""A call that had its turn is given at least this long for its answer."""
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
        self.market = self._market_at(site)
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

    async def embed(self, request: EmbeddingRequest, /) -> EmbeddingResponse:
        """Vectors from the host that makes them; as careful as `complete`."""
        asking = self._for_vectors()
        try:
            return await asking._embed_once(request)
        except NotFoundError as error:
            other = await asking._resolved_again(request, error)
            if other is None:
                raise
            return await asking._embed_once(other)

    def embeddings_url(self) -> str:
        """On the host beside the one for chats."""
        return f"{self.market.site.api_base}/embeddings"

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
        asking, left = await self._in_time(request)
        with self._connected(request):
            completion = await OpenAILike.complete(asking, left)
        asking._has_answered()
        return completion

    async def _embed_once(self, request: EmbeddingRequest) -> EmbeddingResponse:
        asking, left = await self._in_time(request)
        with self._connected(request):
            answer = await OpenAILike.embed(asking, left)
        asking._has_answered()
        return answer

    async def _in_time(self, request: Request) -> tuple[Chutes, Request]:
        """The provider once it may ask, and the request with what is left of its time.

        A turn that comes too late for an answer in time is not waited for: it would be billed, and
        taken from a call that can still use it.
        """
        limit_s, began = request.timeout_s, self._desk.clock()
        patience_s = self.market.patience_s(request.model, limit_s)
        asking = await self._admitted(request, max_wait_s=patience_s)
        waited_s = self._desk.clock() - began
        return asking, evolve(request, timeout_s=max(limit_s - waited_s, min(limit_s, LEAST_S)))

    def _has_answered(self) -> None:
        if self._asked is not None:
            took_s = self._desk.clock() - self._asked.started_at
            self.market.answered(self._asked.model, took_s=took_s)

    def _for_vectors(self) -> Chutes:
        """This provider with the market of the base for vectors."""
        site = site_from(self.host.settings, embedding_base(self.market.site.api_base))
        if site == self.market.site:
            return self
        other = copy(self)
        other.market = self._market_at(site)
        return other

    def _market_at(self, site: Site) -> Market:
        settings = self.host.settings
        return self._desk.market(
            site,
            cache_dir=settings.get("chutes_cache_dir"),
            feed_ttl_s=settings.get("chutes_feed_ttl_s", 45.0),
        )

    async def _opened(
        self, request: ChatRequest, stack: AsyncExitStack
    ) -> AsyncIterator[CompletionChunk]:
        asking = await self._admitted(request, max_wait_s=request.timeout_s)
        with self._connected(request):
            return await stack.enter_async_context(OpenAILike.stream(asking, request))

    @contextmanager
    def _connected(self, request: Request) -> Iterator[None]:
        try:
            yield
        except APIConnectionError:
            self.market.refused(request.model, rest_s=CONNECTION_REST_S, reason="connection")
            raise

    async def _admitted(self, request: Request, *, max_wait_s: float) -> Chutes:
        """A copy of the provider that knows its call, once nothing speaks against asking."""
        self.market.keep_fresh(partial(make_transport, self.host.settings))
        with self.named(request):
            self.gate.check()
            refuse_incapable(self.market, request)
            self._refuse_unready(request)
            started_at = await self.gate.turn(max_wait_s=max_wait_s)
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

    def _refuse_unready(self, request: Request) -> None:
        refuse_unready(self.market, request.model, label=self.endpoint.label, mode=self._mode)

    async def _resolved_again(self, request: Request, error: NotFoundError) -> Request | None:
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
        own = account.api_base.rstrip("/")
        if wanted in (None, own, embedding_base(own)):
            return evolve(endpoint, api_base=base or own, api_key=account.api_key)
    raise SettingsError(NO_KEY)
