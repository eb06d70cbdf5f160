"""What the management host says about an account, and warming a model up."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from scillm.errors import (
    AuthenticationError,
    CapacityError,
    PaymentRequiredError,
    ProviderError,
)
from scillm.http.sse import SSEDecoder
from scillm.records import HttpCall

from scillm_chutes.market import detail_of, fetch_json

if TYPE_CHECKING:
    from scillm.protocols import Transport
    from scillm.records import Json

    from scillm_chutes.sites import Site

WARM_UP_S = 600.0


@frozen(kw_only=True)
class Usage:
    """What an account has used. A part that could not be read is None, and `problems` says why."""

    user: Mapping[str, Any]
    quotas: Json = None
    subscription: Mapping[str, Any] | None = None
    problems: Mapping[str, str] = field(factory=dict)

    def resets(self) -> dict[str, str]:
        """When each window of a subscription begins anew."""
        windows = self.subscription or {}
        return {
            name: str(window["reset_at"])
            for name in ("four_hour", "monthly")
            if isinstance(window := windows.get(name), Mapping) and window.get("reset_at")
        }


async def usage(transport: Transport, site: Site, key: str) -> Usage:
    """The account behind a key; raises `AuthenticationError` when the key is not known."""
    try:
        user = await fetch_json(transport, site.at_management("/users/me"), key=key)
    except ProviderError as error:
        if error.status_code in (401, 403):
            raise AuthenticationError(
                f"{site.management} does not know this key: {error.message}",
                provider="chutes",
                status_code=error.status_code,
            ) from error
        raise
    parts: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, path in (
        ("quotas", "/users/me/quotas"),
        ("subscription", "/users/me/subscription_usage"),
    ):
        try:
            parts[name] = await fetch_json(transport, site.at_management(path), key=key)
        except ProviderError as error:
            problems[name] = error.message
    subscription = parts.get("subscription")
    return Usage(
        user=user if isinstance(user, Mapping) else {},
        quotas=parts.get("quotas"),
        subscription=subscription if isinstance(subscription, Mapping) else None,
        problems=problems,
    )


async def warm_up(
    transport: Transport, site: Site, key: str, model: str, *, timeout_s: float = WARM_UP_S
) -> AsyncGenerator[Mapping[str, Any], None]:
    """The stream of a warm-up, until `status` is hot; `timeout_s` is the longest silence in it.

    Raises `CapacityError` when the stream ends before, `PaymentRequiredError` for an empty account.
    """
    call = HttpCall(
        method="GET",
        url=site.at_management("/chutes/warmup/{}", model),
        headers={"accept": "text/event-stream", "authorization": f"Bearer {key}"},
        timeout_s=timeout_s,
    )
    decoder = SSEDecoder()
    async with transport.stream(call) as head:
        if head.status != 200:
            body = b"".join([piece async for piece in head.chunks])
            cls = PaymentRequiredError if head.status == 402 else ProviderError
            raise cls(
                f"The warm-up of {model} answered {head.status}: {detail_of(body, (key,))}",
                provider="chutes",
                model=model,
                status_code=head.status,
            )
        async for piece in head.chunks:
            for event in decoder.feed(piece):
                status = _status(event.data)
                yield status
                if status.get("status") == "hot":
                    return
    raise CapacityError(
        f"The warm-up of {model} ended before an instance was hot; try again later.",
        provider="chutes",
        model=model,
        status_code=503,
    )


def _status(data: str) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        return {"status": "unknown", "log": data}
    return document if isinstance(document, Mapping) else {"status": "unknown", "log": data}
