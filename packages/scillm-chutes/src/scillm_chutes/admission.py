"""Whether a call to a model may leave at all, by what is known of the model; nothing is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scillm.errors import NotFoundError

from scillm_chutes.capability import lacks, needs_of_request
from scillm_chutes.errors import ColdModelError, IncapableModelError, ModelFullError

if TYPE_CHECKING:
    from scillm.records import ChatRequest, EmbeddingRequest

    from scillm_chutes.market import Market

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def refuse_incapable(market: Market, request: ChatRequest | EmbeddingRequest) -> None:
    """Raise `IncapableModelError` when the model's row denies what the request needs."""
    catalog = market.trusted()
    model = catalog.find(request.model) if catalog is not None else None
    missing = lacks(model, needs_of_request(request)) if model else ()
    if missing:
        raise IncapableModelError(
            f"{request.model} cannot do what this request needs: {', '.join(missing)}. "
            "Nothing was sent; `scillm chutes models` shows what each can."
        )


def refuse_unready(market: Market, model: str, *, label: str, mode: str) -> None:
    """Raise for a model that is not listed, has no instance, or rests.

    `mode` is the setting of name resolution; with "off" a model need not be listed.
    """
    catalog = market.trusted()
    unlisted = catalog is not None and catalog.find(model) is None
    if unlisted and mode != "off" and not _is_special(model):
        raise NotFoundError(
            f"The catalog of {label} has no model {model!r}; nothing was sent. "
            "SCILLM_CHUTES_RESOLVE=off asks anyway.",
            status_code=404,
        )
    if market.is_idle(model):
        raise ColdModelError(
            f"No instance of {model} runs; nothing was sent. Wake it with: "
            f"scillm chutes warmup {model}",
            status_code=503,
        )
    rest_s, reason = market.rest_s(model)
    if rest_s > 0:
        raise ModelFullError(
            f"{model} rests for another {rest_s:.1f} s ({reason}); nothing was sent.",
            status_code=429,
            retry_after=rest_s,
        )


def _is_special(model: str) -> bool:
    """A chute's id, a list, or a name with a suffix of the service: not for us to judge."""
    return bool(UUID.fullmatch(model)) or "," in model or ":" in model
