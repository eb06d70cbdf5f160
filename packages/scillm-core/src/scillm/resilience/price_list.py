"""Prices of known services (genai-prices' door, extra `prices`); never from the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from scillm.errors import UsageError
from scillm.resilience.spend import PICO

if TYPE_CHECKING:
    from scillm.resilience.prices import Tokens


@frozen(kw_only=True)
class Listed:
    """The price that genai-prices lists; it may depend on the length of the prompt."""

    model: str
    api_base: str

    def cost(self, tokens: Tokens, /) -> int:
        """Picodollars, rounded up; raises `LookupError` for a model that is not listed."""
        from genai_prices import Usage, calc_price

        usage = Usage(
            input_tokens=tokens.prompt,
            cache_read_tokens=min(tokens.cached, tokens.prompt),
            output_tokens=tokens.completion,
        )
        found = calc_price(usage, model_ref=self.model, provider_api_url=self.api_base)
        return -int(-(found.total_price * PICO) // 1)


def listed_price(model: str, api_base: str | None) -> Listed | None:
    """The list's price of `model` at the service of `api_base`; None when it has none.

    The service is known by its address: a server of your own that calls a model `gpt-4o` has no
    listed price. Raises `UsageError` when genai-prices is not installed.
    """
    from scillm.resilience.prices import Tokens

    try:
        import genai_prices  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise UsageError(
            "Listed prices need genai-prices: pip install 'scillm-core[prices]'. Or name the price "
            "yourself: Router(prices={model: {…}})."
        ) from error
    if not api_base:
        return None
    price = Listed(model=model, api_base=api_base)
    try:
        price.cost(Tokens(prompt=1, completion=1))
    except LookupError:
        return None
    return price
