"""Spending of a Router: every request is paid from its accounts, reserved first, settled after."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from scillm.errors import (
    APIConnectionError,
    BudgetExceededError,
    ProviderError,
    UnknownPriceError,
    UsageError,
)
from scillm.events import BudgetReached
from scillm.models import Completion
from scillm.resilience.prices import (
    Price,
    Tokens,
    amount_of,
    most_tokens,
    read_prices,
    tokens_used,
)
from scillm.resilience.spend import (
    NOTHING,
    ONE_REQUEST,
    Account,
    Amount,
    Bill,
    Budget,
    Hold,
    account_of,
    in_usd,
    limits_of,
    reserve,
)
from scillm.routing.opened import OpenStream

if TYPE_CHECKING:
    from scillm.events import Event
    from scillm.models import Usage
    from scillm.records import Json
    from scillm.resilience.spend import Spend
    from scillm.routing.legs import Leg

Answer = TypeVar("Answer")

LISTED = "genai-prices"
NO_NOTES: Mapping[str, Any] = {}
ANY = "*"
"""In `prices`: every model that is not named."""
MAYBE_BILLED = frozenset({408, 502, 504, 524})
"""Statuses by which somebody on the way gave up; the model may have answered nevertheless."""

# One lock for all accounts: a request is paid from several of them at once, in a microsecond.
_lock = threading.Lock()
_process: list[Account] = []


def set_budget(
    max_tokens: int | None = None,
    max_requests: int | None = None,
    on_exhaust: Callable[[], object] | None = None,
    hard: bool = True,
    *,
    max_usd: float | None = None,
) -> None:
    """Bound what all Routers of this process spend together from now on.

    Without bounds the budget is taken away. A hard budget refuses with `BudgetExceededError`
    before anything is sent; `on_exhaust` is called once, when something is first refused (or, for
    a soft budget, when it is first passed), and what it raises is raised by that call.
    """
    budget = Budget(usd=max_usd, tokens=max_tokens, requests=max_requests, hard=hard)
    with _lock:
        _process.clear()
        if limits_of(budget):
            _process.append(Account(budget=budget, name="process budget", on_exhaust=on_exhaust))


def spend() -> Spend:
    """What this process has spent since `set_budget`; zeros while there is no such budget."""
    with _lock:
        return (_process[0] if _process else Account()).report()


class Spending:
    """What the requests of a Router cost. Remembers its account, and prices once looked up."""

    def __init__(
        self,
        budget: Any = None,
        prices: Any = None,
        *,
        settings: Callable[[], Mapping[str, Json]],
        emit: Callable[[Event], None],
    ) -> None:
        self._account = account_of({} if budget is None else budget, name="Router's budget")
        self._wants_list = prices == LISTED
        self._book = read_prices(None if self._wants_list else prices)
        self._settings = settings
        self._emit = emit
        self._found: dict[tuple[str, str | None, str], Price | None] = {}

    def report(self) -> Spend:
        """What the Router has spent."""
        with _lock:
            return self._account.report()

    def bound(self, budget: Budget, on_exhaust: Callable[[], object] | None) -> None:
        """Another budget from now on; what was spent before does not count for it."""
        with _lock:
            self._account = Account(budget=budget, name="Router's budget", on_exhaust=on_exhaust)

    def asking(
        self,
        ask: Callable[[Leg], Awaitable[Answer]],
        account: Account | None,
        notes: Mapping[str, Json] | None = None,
    ) -> Callable[[Leg], Awaitable[Answer]]:
        """`ask`, paid for; `notes` are stamped on the answer together with its cost."""

        async def asked(leg: Leg) -> Answer:
            accounts = self._accounts(account)
            price = self._price(leg, accounts)
            amount = _expected(leg, accounts, price)
            hold = self._reserved(accounts, amount)
            try:
                answer = await ask(leg)
            except BaseException as error:
                self._settle(hold, _bill_of_failure(error, amount))
                raise
            return cast("Answer", self._landed(answer, hold, price, notes or NO_NOTES))

        return asked

    def _accounts(self, account: Account | None) -> tuple[Account, ...]:
        found = (*_process, self._account)
        return found if account is None else (*found, account)

    def _reserved(self, accounts: Sequence[Account], amount: Amount) -> Hold:
        try:
            with _lock:
                hold = reserve(accounts, amount)
        except BudgetExceededError:
            self._tell([a for a in accounts if a.budget.hard and a.refusal(amount)], amount)
            raise
        soft = [a for a in accounts if not a.budget.hard and not a.is_told]
        if soft:
            self._tell([a for a in soft if a.refusal(NOTHING)], NOTHING, hold)
        return hold

    def _settle(self, hold: Hold, bill: Bill) -> None:
        with _lock:
            hold.settle(bill)

    def _tell(self, reached: Sequence[Account], amount: Amount, hold: Hold | None = None) -> None:
        for account in reached:
            with _lock:
                refusal = account.refusal(amount)
                is_new, account.is_told = not account.is_told, True
            if not is_new or refusal is None:
                continue
            self._emit(
                BudgetReached(name=account.name, unit=refusal.unit, hard=account.budget.hard)
            )
            if account.on_exhaust is not None:
                try:
                    account.on_exhaust()
                except BaseException:
                    if hold is not None:
                        self._settle(hold, Bill(amount=NOTHING))
                    raise

    # -- what it cost --------------------------------------------------------------------------

    def _landed(
        self, answer: object, hold: Hold, price: Price | None, notes: Mapping[str, Json]
    ) -> object:
        if isinstance(answer, OpenStream):
            answer.at_close.append(
                lambda: self._settle(hold, _bill_of(answer.usage(), hold.amount, price))
            )
            answer.finish = lambda completion: _noted(
                completion, tokens_used(completion.usage), price, notes
            )
            return answer
        if not isinstance(answer, Completion):
            self._settle(hold, Bill(amount=hold.amount, is_estimated=True))
            return answer
        tokens = tokens_used(answer.usage)
        self._settle(hold, _bill(tokens, answer.usage, hold.amount, price))
        return _noted(answer, tokens, price, notes)

    def _price(self, leg: Leg, accounts: Sequence[Account]) -> Price | None:
        row, request = leg.deployment, leg.request
        if row is not None and row.price is not None:
            return row.price
        if self._book:
            for model in (request.model, request.requested_model, leg.group, ANY):
                if model in self._book:
                    return self._book[model]
        bounded = [a for a in accounts if a.budget.usd is not None]
        if not bounded and not self._wants_list:
            return None
        from scillm.providers.openai_like import resolved

        endpoint = resolved(leg.endpoint, self._settings())
        place = (endpoint.provider, endpoint.api_base, request.model)
        if place not in self._found:
            self._found[place] = self._listed(request.model, endpoint.api_base)
        price = self._found[place]
        if price is None and any(account.budget.hard for account in bounded):
            raise UnknownPriceError(
                f"Money is bounded, but the price of {request.model!r} at {leg.endpoint.label} is "
                "not known; nothing was sent. Give input_cost_per_token and output_cost_per_token "
                "in its row of model_list, or Router(prices={model: {…}}), or install "
                "scillm-core[prices] for the prices of known services.",
                model=request.model,
            )
        return price

    def _listed(self, model: str, api_base: str | None) -> Price | None:
        from scillm.resilience.price_list import listed_price

        try:
            return listed_price(model, api_base)
        except UsageError:
            # Without the extra there is no list; only who asked for the list must have it.
            if self._wants_list:
                raise
            return None


def _expected(leg: Leg, accounts: Sequence[Account], price: Price | None) -> Amount:
    measured = [a.budget for a in accounts if a.budget.is_measured]
    if not measured:
        return ONE_REQUEST
    widest = Budget(
        assumed_output_tokens=max(b.assumed_output_tokens for b in measured),
        image_tokens=max(b.image_tokens for b in measured),
    )
    return amount_of(most_tokens(leg.request, widest), price)


def _bill_of(usage: Usage | None, reserved: Amount, price: Price | None) -> Bill:
    return _bill(tokens_used(usage), usage, reserved, price)


def _bill(
    tokens: Tokens | None, usage: Usage | None, reserved: Amount, price: Price | None
) -> Bill:
    """What the upstream says; where it says nothing, what was reserved is kept."""
    if tokens is not None:
        return Bill(amount=amount_of(tokens, price), is_unpriced=price is None)
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


def _bill_of_failure(error: BaseException, reserved: Amount) -> Bill:
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


def _noted(
    completion: Completion, tokens: Tokens | None, price: Price | None, notes: Mapping[str, Json]
) -> Completion:
    if price is None and not notes:
        return completion
    added = dict(notes)
    if price is not None and tokens is not None:
        added["response_cost"] = in_usd(price.cost(tokens))
    if not added:
        return completion
    side = {**completion.additional_kwargs.get("scillm", {}), **added}
    return completion.with_additional({**completion.additional_kwargs, "scillm": side})
