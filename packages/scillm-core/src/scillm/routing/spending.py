"""Spending of a Router: every request is paid from its accounts, reserved first, settled after."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from scillm.errors import (
    BudgetExceededError,
    UnknownPriceError,
    UsageError,
)
from scillm.events import BudgetReached
from scillm.models import Answered
from scillm.resilience.prices import (
    Price,
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
    limits_of,
    reserve,
)
from scillm.routing.bills import NO_NOTES, bill_of, bill_of_failure, expected, noted
from scillm.routing.opened import OpenStream

if TYPE_CHECKING:
    from scillm.events import Event
    from scillm.records import Json
    from scillm.resilience.prices import Price
    from scillm.resilience.spend import Spend
    from scillm.routing.legs import Leg

Answer = TypeVar("Answer")

LISTED = "genai-prices"
ANY = "*"
"""In `prices`: every model that is not named."""

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


class Paid(Generic[Answer]):
    """A request whose cost is set aside. Remembers whether it was sent.

    `send` settles what it cost, when it has ended. `drop` is for one that is not sent after all.
    """

    __slots__ = ("_ask", "_hold", "_is_sent", "_leg", "_notes", "_price")

    def __init__(
        self,
        leg: Leg,
        ask: Callable[[Leg], Awaitable[Answer]],
        hold: Hold,
        price: Price | None,
        notes: Mapping[str, Json],
    ) -> None:
        self._leg = leg
        self._ask = ask
        self._hold = hold
        self._price = price
        self._notes = notes
        self._is_sent = False

    async def send(self) -> Answer:
        """Send it; the answer, with its cost noted on it."""
        self._is_sent = True
        try:
            answer = await self._ask(self._leg)
        except BaseException as error:
            _settle(self._hold, bill_of_failure(error, self._hold.amount))
            raise
        return cast("Answer", self._landed(answer))

    def drop(self) -> None:
        """Give back what was set aside, unless the request was sent."""
        if not self._is_sent:
            _settle(self._hold, Bill(amount=NOTHING))

    def _landed(self, answer: object) -> object:
        hold, price, notes = self._hold, self._price, self._notes
        if isinstance(answer, OpenStream):
            stream = answer

            def closed() -> None:
                usage = stream.usage()
                _settle(hold, bill_of(tokens_used(usage), usage, hold.amount, price))

            stream.at_close.append(closed)
            stream.finish = lambda completion: noted(
                completion, tokens_used(completion.usage), price, notes
            )
            return stream
        if not isinstance(answer, Answered):
            _settle(hold, Bill(amount=hold.amount, is_estimated=True))
            return answer
        tokens = tokens_used(answer.usage)
        _settle(hold, bill_of(tokens, answer.usage, hold.amount, price))
        return noted(answer, tokens, price, notes)


def _settle(hold: Hold, bill: Bill) -> None:
    with _lock:
        hold.settle(bill)


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
    ) -> Callable[[Leg], Paid[Answer]]:
        """Requests of `ask`, paid for; `notes` are stamped on the answer with its cost.

        What has no room is refused when it is to be paid, before it waits for its turn: a function
        made here raises `BudgetExceededError` or `UnknownPriceError`.
        """

        def paid(leg: Leg) -> Paid[Answer]:
            accounts = (*_process, self._account)
            if account is not None:
                accounts += (account,)
            bounded = [account for account in accounts if account.limits]
            price = self._price(leg, bounded)
            amount = expected(leg.request, bounded, price) if bounded else ONE_REQUEST
            hold = self._reserved(accounts, amount)
            if bounded:
                self._tell_soft(bounded, hold)
            return Paid(leg, ask, hold, price, notes or NO_NOTES)

        return paid

    def _reserved(self, accounts: Sequence[Account], amount: Amount) -> Hold:
        try:
            with _lock:
                hold = reserve(accounts, amount)
        except BudgetExceededError:
            self._tell([a for a in accounts if a.budget.hard and a.refusal(amount)], amount)
            raise
        return hold

    def _tell_soft(self, accounts: Sequence[Account], hold: Hold) -> None:
        soft = [a for a in accounts if not a.budget.hard and not a.is_told]
        self._tell([a for a in soft if a.refusal(NOTHING)], NOTHING, hold)

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
                        _settle(hold, Bill(amount=NOTHING))
                    raise

    def _price(self, leg: Leg, accounts: Sequence[Account]) -> Price | None:
        row, request = leg.deployment, leg.request
        if row is not None and row.price is not None:
            return row.price
        if self._book:
            for model in (request.model, request.requested_model, leg.group, ANY):
                if model in self._book:
                    return self._book[model]
        bounded = accounts and [a for a in accounts if a.budget.usd is not None]
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
