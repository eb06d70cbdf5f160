"""Prices: what tokens cost, and how many a request may use at most. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

from scillm.errors import UsageError
from scillm.records import EmbeddingRequest
from scillm.resilience.spend import MOST, Amount, in_pico

if TYPE_CHECKING:
    from scillm.models import Usage
    from scillm.records import ChatRequest, Json
    from scillm.resilience.spend import Budget

PER_TOKEN = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
"""LiteLLM's names, in US dollars."""
MARKS = 8
"""Tokens that a model of vectors may put around a text, at most; BERT's two are usual."""
PER_MILLION = ("input_cost_per_million", "output_cost_per_million", "cache_read_cost_per_million")


@frozen(kw_only=True)
class Tokens:
    """What a request used. `cached` is the part of `prompt` that the upstream had in its cache."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        """In and out together."""
        return self.prompt + self.completion


class Price(Protocol):
    """Says what tokens cost."""

    def cost(self, tokens: Tokens, /) -> int:
        """Picodollars, rounded up."""
        ...


@frozen(kw_only=True)
class PerToken:
    """So many picodollars per token. Cached input costs as much as other unless it is said."""

    input: int
    output: int
    cached_input: int | None = None

    def cost(self, tokens: Tokens, /) -> int:
        """Picodollars."""
        cached = min(tokens.cached, tokens.prompt)
        cached_price = self.input if self.cached_input is None else self.cached_input
        fresh = (tokens.prompt - cached) * self.input
        return fresh + cached * cached_price + tokens.completion * self.output


def per_token(row: Mapping[str, Any], where: str) -> PerToken | None:
    """The price in a row: dollars per token or per million; None when it has none.

    `UsageError` when one of input and output is missing, or a price is given twice.
    """
    found: dict[str, int] = {}
    for names, divisor in ((PER_TOKEN, 1), (PER_MILLION, 10**6)):
        for part, name in zip(("input", "output", "cached_input"), names, strict=True):
            value = row.get(name)
            if value is None:
                continue
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not 0 <= value < MOST:
                raise UsageError(f"{where}: {name} must be a number, 0 or more, but is {value!r}.")
            if part in found:
                raise UsageError(f"{where}: the price of {part} is given twice.")
            pico = in_pico(value, up=True)
            found[part] = -(-pico // divisor)
    if not found:
        return None
    if "input" not in found or "output" not in found:
        raise UsageError(f"{where}: a price needs both {PER_TOKEN[0]} and {PER_TOKEN[1]}.")
    return PerToken(**found)


def read_prices(prices: Any) -> dict[str, PerToken]:
    """The Router's `prices`: model id → its price."""
    if prices is None:
        return {}
    if not isinstance(prices, Mapping):
        raise UsageError(f"prices must be an object by model, but is a {type(prices).__name__}.")
    book: dict[str, PerToken] = {}
    for model, row in prices.items():
        where = f"prices[{model!r}]"
        known = (*PER_TOKEN, *PER_MILLION)
        if not isinstance(row, Mapping) or set(row) - set(known):
            raise UsageError(f"{where} must be an object of {', '.join(known)}.")
        price = per_token(row, where)
        if price is None:
            raise UsageError(f"{where} names no price.")
        book[model] = price
    return book


# -- how much a request may use ----------------------------------------------------------------


def most_tokens(request: ChatRequest | EmbeddingRequest, budget: Budget) -> Tokens:
    """The most a request is expected to use.

    In: a token for every UTF-8 byte of its JSON (no byte-level tokenizer makes more, and the JSON
    around the words stands for the template's own tokens), and `image_tokens` for each image. Out:
    max_completion_tokens or max_tokens, the larger, else `assumed_output_tokens`; times `n`.
    Vectors have no tokens out.
    """
    if isinstance(request, EmbeddingRequest):
        pieces = request.pieces
        return Tokens(prompt=sum(_most_in_piece(piece) for piece in pieces))
    images: list[Json] = []
    messages = [_without_images(message, images) for message in request.messages]
    text = json.dumps([messages, dict(request.params)], ensure_ascii=False, default=repr)
    prompt = len(text.encode("utf-8", "surrogatepass")) + len(images) * budget.image_tokens
    params = request.params
    bounds = [params[k] for k in ("max_completion_tokens", "max_tokens") if _is_count(params, k)]
    answers = params["n"] if _is_count(params, "n") else 1
    return Tokens(
        prompt=prompt, completion=max(bounds, default=budget.assumed_output_tokens) * answers
    )


def _most_in_piece(piece: str | Sequence[int]) -> int:
    if isinstance(piece, str):
        return len(piece.encode("utf-8", "surrogatepass")) + MARKS
    return len(piece) + MARKS


def amount_of(tokens: Tokens, price: Price | None) -> Amount:
    """One request of so many tokens."""
    return Amount(
        requests=1, tokens=tokens.total, pico_usd=0 if price is None else price.cost(tokens)
    )


def tokens_used(usage: Usage | None) -> Tokens | None:
    """What the upstream says a request used; None when it does not say both in and out."""
    if usage is None or usage.prompt_tokens is None:
        return None
    completion = usage.completion_tokens
    if completion is None:
        if usage.total_tokens is None:
            return None
        completion = usage.total_tokens - usage.prompt_tokens
    details = usage.prompt_tokens_details
    cached = details.get("cached_tokens") if details and isinstance(details, Mapping) else None
    return Tokens(
        prompt=max(0, usage.prompt_tokens),
        completion=max(0, completion),
        cached=max(0, cached) if isinstance(cached, int) else 0,
    )


def _is_count(params: Mapping[str, Json], name: str) -> bool:
    value = params.get(name)
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _without_images(message: Mapping[str, Json], images: list[Json]) -> Mapping[str, Json]:
    content = message.get("content")
    if isinstance(content, str) or not isinstance(content, Sequence):
        return message
    kept: list[Json] = []
    for part in content:
        is_image = isinstance(part, Mapping) and ("image_url" in part or "input_image" in part)
        (images if is_image else kept).append(part)
    return {**message, "content": kept}
