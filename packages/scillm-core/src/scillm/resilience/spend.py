"""Spending: what requests may cost, what they are expected to cost, and what they did. Pure.

Money is counted in whole picodollars (1e-12 USD), so that sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from attrs import asdict, define, field, fields, frozen

from scillm.errors import BudgetExceededError, UsageError

PICO = 10**12
MOST = 10**15
"""Bound of every number here: more dollars or tokens than there are."""


@frozen(kw_only=True)
class Budget:
    """What may be spent: US dollars, tokens (in and out together), requests. None is no bound.

    A hard budget refuses what does not fit, before it is sent; a soft one says so once, with the
    event `BudgetReached`, and goes on. `assumed_output_tokens` are reserved for a request without
    max_tokens, `image_tokens` for each image.
    """

    usd: float | None = None
    tokens: int | None = None
    requests: int | None = None
    hard: bool = True
    assumed_output_tokens: int = 4096
    image_tokens: int = 50_000

    def __attrs_post_init__(self) -> None:
        for name in ("tokens", "requests", "assumed_output_tokens", "image_tokens"):
            _check_number(name, getattr(self, name), whole=True)
        _check_number("usd", self.usd, whole=False)
        if not isinstance(self.hard, bool):
            raise UsageError(f"Budget.hard must be True or False, but is {self.hard!r}.")

    @property
    def is_measured(self) -> bool:
        """Whether tokens or money are bounded, so that requests must be estimated."""
        return self.usd is not None or self.tokens is not None


def read_budget(value: Any, name: str = "budget") -> Budget:
    """A `Budget`, or the mapping of one; `UsageError` names what cannot be used."""
    if isinstance(value, Budget):
        return value
    known = [f.name for f in fields(Budget)]
    if not isinstance(value, Mapping) or set(value) - set(known):
        raise UsageError(f"{name} must be a Budget, or an object of {', '.join(known)}.")
    return Budget(**value)


@frozen(kw_only=True)
class Amount:
    """Requests, tokens, and picodollars."""

    requests: int = 0
    tokens: int = 0
    pico_usd: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            requests=self.requests + other.requests,
            tokens=self.tokens + other.tokens,
            pico_usd=self.pico_usd + other.pico_usd,
        )


@define(kw_only=True)
class Tally:
    """A running sum of amounts."""

    requests: int = 0
    tokens: int = 0
    pico_usd: int = 0

    @property
    def amount(self) -> Amount:
        """The sum so far."""
        return Amount(requests=self.requests, tokens=self.tokens, pico_usd=self.pico_usd)

    def add(self, amount: Amount) -> None:
        """It was spent, or set aside."""
        self.requests += amount.requests
        self.tokens += amount.tokens
        self.pico_usd += amount.pico_usd

    def take(self, amount: Amount) -> None:
        """It is no longer set aside."""
        self.requests -= amount.requests
        self.tokens -= amount.tokens
        self.pico_usd -= amount.pico_usd


NOTHING = Amount()
ONE_REQUEST = Amount(requests=1)


@frozen(kw_only=True)
class Spend:
    """What was spent. The `estimated_…` parts are in the sums, but nobody confirmed them."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0
    estimated_tokens: int = 0
    estimated_usd: float = 0.0
    unknown_requests: int = 0
    """Requests whose tokens neither the upstream said nor a budget made us estimate."""
    unpriced_requests: int = 0
    """Requests whose price is not known; they are not in `usd`."""
    reserved_requests: int = 0
    """In the air now."""
    reserved_tokens: int = 0
    reserved_usd: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@frozen(kw_only=True)
class Bill:
    """What one request cost. `is_estimated` when the upstream did not say."""

    amount: Amount
    is_estimated: bool = False
    is_unknown: bool = False
    is_unpriced: bool = False


@define(kw_only=True)
class Account:
    """One budget and what was spent of it. Remembers sums; callers hold a lock.

    `spent` is what was spent before, for a budget that covers several runs.
    """

    budget: Budget = field(factory=Budget)
    name: str = "budget"
    on_exhaust: Callable[[], object] | None = None
    _before: Amount = field(default=NOTHING, alias="spent")
    _spent: Tally = field(factory=Tally, init=False)
    _reserved: Tally = field(factory=Tally, init=False)
    is_told: bool = field(default=False, init=False)
    """Whether it was said that the budget is reached."""
    limits: Mapping[str, int] = field(factory=dict, init=False)
    """The bounds by unit; worked out once, because every request asks."""
    _estimated: Tally = field(factory=Tally, init=False)
    _unknown: int = field(default=0, init=False)
    _unpriced: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.limits = limits_of(self.budget)
        self._spent.add(self._before)

    @property
    def spent(self) -> Amount:
        """What was paid."""
        return self._spent.amount

    @property
    def reserved(self) -> Amount:
        """What is set aside for requests in the air."""
        return self._reserved.amount

    def refusal(self, wanted: Amount) -> BudgetExceededError | None:
        """What to raise when `wanted` does not fit beside what is spent and reserved."""
        if not self.limits:
            return None
        spent, reserved = self.spent, self.reserved
        after = spent + reserved + wanted
        for unit, limit in self.limits.items():
            if getattr(after, unit) > limit:
                parts = (getattr(amount, unit) for amount in (spent, reserved, wanted))
                return _exceeded(self.name, unit, limit, *parts)
        return None

    def hold(self, amount: Amount) -> None:
        """Set `amount` aside."""
        self._reserved.add(amount)

    def settle(self, held: Amount, bill: Bill) -> None:
        """Replace what was set aside by what it cost."""
        self._reserved.take(held)
        self._spent.add(bill.amount)
        if bill.is_estimated:
            self._estimated.add(bill.amount)
        self._unknown += bill.is_unknown
        self._unpriced += bill.is_unpriced

    def report(self) -> Spend:
        """What was spent so far."""
        return Spend(
            requests=self._spent.requests,
            tokens=self._spent.tokens,
            usd=in_usd(self._spent.pico_usd),
            estimated_tokens=self._estimated.tokens,
            estimated_usd=in_usd(self._estimated.pico_usd),
            unknown_requests=self._unknown,
            unpriced_requests=self._unpriced,
            reserved_requests=self._reserved.requests,
            reserved_tokens=self._reserved.tokens,
            reserved_usd=in_usd(self._reserved.pico_usd),
        )


@define
class Hold:
    """An amount set aside in several accounts. Remembers whether it was settled: once only."""

    accounts: Sequence[Account]
    amount: Amount
    is_settled: bool = False

    def settle(self, bill: Bill) -> None:
        """Replace it by what the request cost; a second call does nothing."""
        if self.is_settled:
            return
        self.is_settled = True
        for account in self.accounts:
            account.settle(self.amount, bill)


def account_of(value: Any, *, name: str) -> Account:
    """The account of a `budget` argument: a budget, the mapping of one, or an account."""
    return value if isinstance(value, Account) else Account(budget=read_budget(value), name=name)


def reserve(accounts: Sequence[Account], amount: Amount) -> Hold:
    """Set `amount` aside in all accounts, or in none: `BudgetExceededError` of a hard budget."""
    for account in accounts:
        error = account.refusal(amount) if account.limits and account.budget.hard else None
        if error is not None:
            raise error
    for account in accounts:
        account.hold(amount)
    return Hold(accounts, amount)


def limits_of(budget: Budget) -> dict[str, int]:
    """The bounds by the field of `Amount` they are about; none for what is not bounded."""
    bounds = {
        "requests": budget.requests,
        "tokens": budget.tokens,
        "pico_usd": None if budget.usd is None else in_pico(budget.usd, up=False),
    }
    return {unit: bound for unit, bound in bounds.items() if bound is not None}


def in_pico(usd: float, *, up: bool) -> int:
    """Dollars as whole picodollars, rounded up (a price) or down (a limit)."""
    exact = Decimal(str(usd)) * PICO
    return int(exact.to_integral_value(ROUND_CEILING if up else ROUND_FLOOR))


def in_usd(pico_usd: int) -> float:
    """Picodollars as dollars."""
    return pico_usd / PICO


def _exceeded(
    name: str, unit: str, limit: int, spent: int, reserved: int, wanted: int
) -> BudgetExceededError:
    def shown(amount: int) -> str:
        return f"${in_usd(amount):.6g}" if unit == "pico_usd" else f"{amount} {unit}"

    if unit == "requests":
        return BudgetExceededError(
            f"The {name} allows {limit} request{'' if limit == 1 else 's'}: {spent} sent and "
            f"{reserved} under way or in line leave none. Nothing was sent. Raise the budget.",
            unit=unit,
            fits_later=spent + wanted <= limit,
        )
    return BudgetExceededError(
        f"The {name} of {shown(limit)} has no room for a request of up to {shown(wanted)}: "
        f"{shown(spent)} are spent and {shown(reserved)} reserved for what is under way. Nothing "
        "was sent. Raise the budget, or lower max_tokens.",
        unit="usd" if unit == "pico_usd" else unit,
        fits_later=spent + wanted <= limit,
    )


def _check_number(name: str, value: Any, *, whole: bool) -> None:
    if value is None and name not in ("assumed_output_tokens", "image_tokens"):
        return
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or (whole and not isinstance(value, int))
        or not 0 <= value < MOST
    ):
        wanted = "a whole number" if whole else "a number"
        raise UsageError(f"Budget.{name} must be {wanted} from 0 to {MOST:.0e}, but is {value!r}.")
