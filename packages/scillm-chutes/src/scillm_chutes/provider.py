"""The provider `chutes`: a chat server that is never asked in vain if we can know it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from copy import copy
from functools import partial
from typing import TYPE_CHECKING

from scillm.errors import (
    APIConnectionError,
    NotFoundError,
    ProviderError,
    SettingsError,
    UsageError,
)
from scillm.http.choice import make_transport
from scillm.providers.openai_like import OpenAILike
from scillm.records import evolve

from scillm_chutes.capability import lacks, needs_of_request
from scillm_chutes.classify import (
    NEXT,
    PAUSE_KEY,
    STOP_AT_MOST_S,
    STOP_KEY,
    WARM_UP,
    Failure,
    classify,
)
from scillm_chutes.desk import Desk, shared_desk
from scillm_chutes.errors import (
    ColdModelError,
    DisabledModelError,
    IncapableModelError,
    KeyPausedError,
    ModelFullError,
    QuotaError,
)
from scillm_chutes.pacing import announced_limit
from scillm_chutes.resolution import resolve_model
from scillm_chutes.settings import NO_KEY, accounts_from, first_base, pace_from, site_from

if TYPE_CHECKING:
    from scillm.models import Completion, CompletionChunk
    from scillm.protocols import Host
    from scillm.records import ChatRequest, Endpoint, HttpReply

PROVIDER = "chutes"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LONG_RESTS = (DisabledModelError, NotFoundError)
CONNECTION_REST_S = 1.0

STAMPED_HEADERS = (
    "x-chutes-invocationid",
    "x-chutes-quota-used",
    "x-chutes-quota-remaining",
    "x-chutes-rl-user",
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
        self.gate = self._desk.gate(site, endpoint.api_key or "", pace_from(settings))
        self._mode = settings.get("chutes_resolve", "strict")
        self._asked: ChatRequest | None = None
        self._started_at = 0.0

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
                chunks = await stack.enter_async_context(await self._opened(request))
            except NotFoundError as error:
                other = await self._resolved_again(request, error)
                if other is None:
                    raise
                chunks = await stack.enter_async_context(await self._opened(other))
            self.gate.answered()
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
        self.gate.answered(limit_per_min=announced_limit(reply.headers.get(STAMPED_HEADERS[3], "")))
        said = {
            name.removeprefix("x-chutes-").replace("-", "_"): reply.headers[name]
            for name in STAMPED_HEADERS
            if name in reply.headers
        }
        return evolve(
            completion, additional_kwargs={**completion.additional_kwargs, PROVIDER: said}
        )

    # -- one call ------------------------------------------------------------------------------

    async def _complete_once(self, request: ChatRequest) -> Completion:
        asking = await self._admitted(request)
        try:
            completion = await OpenAILike.complete(asking, request)
        except APIConnectionError:
            self.market.refused(request.model, rest_s=CONNECTION_REST_S, reason="connection")
            raise
        self.market.answered(request.model)
        return completion

    async def _opened(
        self, request: ChatRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[CompletionChunk]]:
        asking = await self._admitted(request)
        return OpenAILike.stream(asking, request)

    async def _admitted(self, request: ChatRequest) -> Chutes:
        """A copy of the provider that knows its call, once nothing speaks against asking."""
        self.market.keep_fresh(partial(make_transport, self.host.settings))
        with self._named(request):
            self._refuse_the_hopeless(request)
            started_at = await self.gate.turn(max_wait_s=request.timeout_s)
        asking = copy(self)
        asking._asked, asking._started_at = request, started_at
        return asking

    def _refuse_the_hopeless(self, request: ChatRequest) -> None:
        self.gate.check()
        catalog = self.market.trusted()
        model = catalog.find(request.model) if catalog is not None else None
        if catalog is not None and model is None and self._must_be_listed(request.model):
            raise NotFoundError(
                f"The catalog of {self.endpoint.label} has no model {request.model!r}; nothing was "
                "sent. SCILLM_CHUTES_RESOLVE=off asks anyway.",
                status_code=404,
            )
        missing = lacks(model, needs_of_request(request.messages, request.params)) if model else ()
        if missing:
            raise IncapableModelError(
                f"{request.model} cannot do what this request needs: {', '.join(missing)}. "
                "Nothing was sent; `scillm chutes models` shows what each can."
            )
        if self.market.is_idle(request.model):
            raise ColdModelError(
                f"No instance of {request.model} runs; nothing was sent. Wake it with: "
                f"scillm chutes warmup {request.model}",
                status_code=503,
            )
        rest_s, reason = self.market.rest_s(request.model)
        if rest_s > 0:
            raise ModelFullError(
                f"{request.model} rests for another {rest_s:.1f} s ({reason}); nothing was sent.",
                status_code=429,
                retry_after=rest_s,
            )

    def _must_be_listed(self, model: str) -> bool:
        special = UUID.fullmatch(model) or "," in model or ":" in model
        return self._mode != "off" and not special

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

    # -- refusals ------------------------------------------------------------------------------

    def _failure(self, reply: HttpReply) -> ProviderError:
        plain = super()._failure(reply)
        failure = classify(
            reply.status,
            reply.body,
            now=self._desk.wall(),
            content_type=reply.headers.get("content-type", ""),
        )
        plain.request_id = reply.headers.get("x-chutes-invocationid") or plain.request_id
        message = f"{plain.message} [{failure.kind}: {failure.reaction}]"
        if failure.reaction == PAUSE_KEY:
            return self._paused(failure, message, plain)
        if failure.reaction == STOP_KEY:
            return self._stopped(failure, message, plain)
        model = self._asked.model if self._asked is not None else ""
        if model and failure.rest_s:
            self.market.refused(model, rest_s=failure.rest_s, reason=failure.kind)
        if failure.reaction in (NEXT, WARM_UP):
            self.gate.hurry()
        if failure.error is type(plain) or failure.kind == "refused":
            # The core tells context windows and content policies apart; it knows better here.
            plain.args = (message,)
            return plain
        return failure.error(
            message,
            status_code=plain.status_code,
            retry_after=plain.retry_after,
            body=plain.body,
            request_id=plain.request_id,
        )

    def _paused(self, failure: Failure, message: str, plain: ProviderError) -> ProviderError:
        wait_s = self.gate.limited(
            started_at=self._started_at,
            why="the edge limits the key" if failure.wait_s is None else failure.text,
            announced_s=plain.retry_after or failure.wait_s,
        )
        return KeyPausedError(
            message,
            sent=True,
            status_code=plain.status_code,
            retry_after=wait_s,
            body=plain.body,
            request_id=plain.request_id,
        )

    def _stopped(self, failure: Failure, message: str, plain: ProviderError) -> ProviderError:
        wait_s = failure.wait_s or 0.0
        self.gate.stop(min(wait_s, STOP_AT_MOST_S), why=failure.text, resets_at=failure.resets_at)
        return QuotaError(
            message,
            resets_at=failure.resets_at,
            status_code=plain.status_code,
            retry_after=wait_s,
            body=plain.body,
            request_id=plain.request_id,
        )


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
