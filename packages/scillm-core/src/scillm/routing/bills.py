"""Bills: what a request is expected to cost, and what it is taken to have cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from scillm.errors import APIConnectionError, ProviderError, UsageError
from scillm.resilience.prices import Tokens, amount_of, most_tokens
from scillm.resilience.spend import NOTHING, ONE_REQUEST, Amount, Bill, Budget, in_usd

if TYPE_CHECKING:
    from scillm.models import Answered, Usage
    from scillm.records import ChatRequest, EmbeddingRequest, Json
    from scillm.resilience.prices import Price
    from scillm.resilience.spend import Account

Noted = TypeVar("Noted", bound="Answered")
NO_NOTES: Mapping[str, Any] = {}
MAYBE_BILLED = frozenset({408, 502, 504, 524})
"""Statuses by which somebody on the way gave up; the model may have answered nevertheless."""


def expected(
    request: ChatRequest | EmbeddingRequest, accounts: Sequence[Account], price: Price | None
) -> Amount:
    """The most `request` may cost, as far as one of `accounts` bounds it."""
    measured = [a.budget for a in accounts if a.budget.is_measured]
    if not measured:
        return ONE_REQUEST
    widest = Budget(
        assumed_output_tokens=max(b.assumed_output_tokens for b in measured),
        image_tokens=max(b.image_tokens for b in measured),
    )
    return amount_of(most_tokens(request, widest), price)


def bill_of(
    tokens: Tokens | None, usage: Usage | None, reserved: Amount, price: Price | None
) -> Bill:
    """What the upstream says; where it says nothing, what was reserved is kept."""
    if tokens is not None:
        if price is not None:
            return Bill(amount=amount_of(tokens, price))
        return Bill(amount=Amount(requests=1, tokens=tokens.total), is_unpriced=True)
    total = usage.total_tokens if usage is not None else None
    if total is not None:
        # In and out are not told apart: the dearer of the two is taken for all.
        amount = max(
            amount_of(Tokens(prompt=total), price),
            amount_of(Tokens(completion=total), price),
            key=lambda amount: amount.pico_usd,
        )
        return Bill(amount=amount, is_estimated=True, is_unpriced=price is None)
    return Bill(
        amount=reserved,
        is_estimated=reserved.tokens > 0,
        is_unknown=reserved.tokens == 0,
        is_unpriced=price is None,
    )


def bill_of_failure(error: BaseException, reserved: Amount) -> Bill:
    """What a request without an answer is taken to have cost.

    Nothing where nothing left the process. A request and no tokens where an upstream refused it.
    All that was reserved where it broke, timed out or was cancelled: it may have been billed.
    """
    if isinstance(error, UsageError) or (
        isinstance(error, APIConnectionError) and not error.was_sent
    ):
        return Bill(amount=NOTHING)
    status = error.status_code if isinstance(error, ProviderError) else None
    if status is not None and status >= 300 and status not in MAYBE_BILLED:
        return Bill(amount=ONE_REQUEST)
    return Bill(amount=reserved, is_estimated=reserved.tokens > 0, is_unknown=reserved.tokens == 0)


def noted(
    answer: Noted, tokens: Tokens | None, price: Price | None, notes: Mapping[str, Json]
) -> Noted:
    """`answer` with `notes` and, where it is known, its cost in dollars."""
    if price is None and not notes:
        return answer
    added = dict(notes)
    if price is not None and tokens is not None:
        added["response_cost"] = in_usd(price.cost(tokens))
    if not added:
        return answer
    side = {**answer.additional_kwargs.get("scillm", {}), **added}
    return answer.with_additional({**answer.additional_kwargs, "scillm": side})
