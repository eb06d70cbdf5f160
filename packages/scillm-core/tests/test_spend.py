"""Budgets as arithmetic: what is reserved, what is settled, and what a hard bound promises."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scillm.errors import BudgetExceededError, UsageError
from scillm.models import Usage
from scillm.records import ChatRequest
from scillm.resilience.prices import (
    PerToken,
    Tokens,
    amount_of,
    most_tokens,
    per_token,
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
    account_of,
    in_pico,
    in_usd,
    read_budget,
    reserve,
)

counts = st.integers(0, 60)
amounts = st.builds(Amount, requests=st.just(1), tokens=counts, pico_usd=counts)


def under(limit, value):
    return limit is None or value <= limit


class Interleaving(RuleBasedStateMachine):
    """Any order of reserving, settling below the reservation, failing, and reserving again."""

    def __init__(self):
        super().__init__()
        self.narrow = Account(budget=Budget(tokens=100, requests=7), name="narrow")
        self.wide = Account(budget=Budget(usd=150e-12, tokens=180), name="wide")
        self.soft = Account(budget=Budget(tokens=10, hard=False), name="soft")
        self.open = []
        self.paid = NOTHING

    @rule(amount=amounts, with_narrow=st.booleans())
    def reserve(self, amount, with_narrow):
        accounts = (self.narrow, self.wide, self.soft) if with_narrow else (self.wide, self.soft)
        before = [account.reserved for account in accounts]
        try:
            self.open.append(reserve(accounts, amount))
        except BudgetExceededError:
            assert [account.reserved for account in accounts] == before

    @precondition(lambda self: self.open)
    @rule(data=st.data(), is_estimated=st.booleans())
    def settle(self, data, is_estimated):
        hold = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        cost = Amount(
            requests=data.draw(st.integers(0, 1)),
            tokens=data.draw(st.integers(0, hold.amount.tokens)),
            pico_usd=data.draw(st.integers(0, hold.amount.pico_usd)),
        )
        hold.settle(Bill(amount=cost, is_estimated=is_estimated))
        hold.settle(Bill(amount=hold.amount))  # a second settlement changes nothing
        self.paid += cost

    @invariant()
    def no_hard_budget_is_overrun(self):
        """Spent and reserved together never pass a hard bound."""
        for account in (self.narrow, self.wide):
            both = account.spent + account.reserved
            assert under(account.budget.tokens, both.tokens)
            assert under(account.budget.requests, both.requests)
            assert under(150 if account is self.wide else None, both.pico_usd)

    @invariant()
    def nothing_is_lost(self):
        """Every account that all requests pass has exactly what they cost and what is open."""
        held = sum((hold.amount for hold in self.open), NOTHING)
        assert (self.wide.spent, self.wide.reserved) == (self.paid, held)
        assert (self.soft.spent, self.soft.reserved) == (self.paid, held)
        if not self.open:
            assert self.narrow.reserved == NOTHING


TestInterleaving = Interleaving.TestCase


@given(st.lists(st.tuples(counts, counts), max_size=20), counts)
def test_an_overrun_is_at_most_what_requests_in_the_air_cost_beyond_their_reservation(pairs, limit):
    """When reality is dearer than the estimate, only the difference can pass the bound."""
    account = Account(budget=Budget(tokens=limit))
    holds = []
    for expected, actual in pairs:
        try:
            holds.append((reserve([account], Amount(tokens=expected)), expected, actual))
        except BudgetExceededError:
            continue
    for hold, _, actual in holds:
        hold.settle(Bill(amount=Amount(tokens=actual)))

    excess = sum(max(0, actual - expected) for _, expected, actual in holds)
    assert account.spent.tokens <= limit + excess
    assert account.reserved == NOTHING


def test_a_budget_of_requests_is_not_explained_with_max_tokens():
    """Shorter answers would make no room for another request."""
    account = Account(budget=Budget(requests=1), name="Router's budget")
    reserve([account], ONE_REQUEST)

    with pytest.raises(BudgetExceededError, match="allows 1 request: 0 sent and 1 under") as caught:
        reserve([account], ONE_REQUEST)

    assert "max_tokens" not in caught.value.message
    assert (caught.value.unit, caught.value.fits_later) == ("requests", True)


def test_a_refusal_says_whether_it_fits_once_what_is_in_the_air_has_landed():
    """A batch can wait for that instead of stopping early."""
    account = Account(budget=Budget(tokens=10), name="Router's budget")
    hold = reserve([account], Amount(tokens=8))
    with pytest.raises(BudgetExceededError, match="8 tokens reserved") as later:
        reserve([account], Amount(tokens=5))
    hold.settle(Bill(amount=Amount(tokens=8)))
    with pytest.raises(BudgetExceededError, match="8 tokens are spent") as never:
        reserve([account], Amount(tokens=5))

    assert (later.value.fits_later, never.value.fits_later) == (True, False)
    assert later.value.unit == "tokens"


@given(st.floats(0, 1e9))
def test_money_is_never_rounded_in_the_spenders_favour(usd):
    """A limit is rounded down, a price up, both by less than a picodollar."""
    exact = Decimal(str(usd))

    assert Decimal(in_pico(usd, up=False)) <= exact * 10**12 <= Decimal(in_pico(usd, up=True))
    assert in_pico(usd, up=True) - in_pico(usd, up=False) <= 1


def test_a_thousandth_of_a_cent_a_thousand_times_is_a_cent():
    """Sums are exact: 0.00001 USD a thousand times, which floats do not add up to 0.01."""
    account = Account()
    for _ in range(1000):
        reserve([account], NOTHING).settle(Bill(amount=Amount(pico_usd=in_pico(0.00001, up=True))))

    assert account.report().usd == 0.01
    assert sum([0.00001] * 1000) != 0.01


def test_estimates_and_unknowns_are_told_apart():
    """The report says how much of the sum nobody has confirmed."""
    account = Account()
    reserve([account], NOTHING).settle(Bill(amount=Amount(requests=1, tokens=3)))
    reserve([account], NOTHING).settle(
        Bill(amount=Amount(requests=1, tokens=5), is_estimated=True, is_unpriced=True)
    )
    reserve([account], NOTHING).settle(Bill(amount=Amount(requests=1), is_unknown=True))

    told = account.report().to_dict()
    assert (told["requests"], told["tokens"], told["estimated_tokens"]) == (3, 8, 5)
    assert (told["unknown_requests"], told["unpriced_requests"]) == (1, 1)


# -- prices --------------------------------------------------------------------------------------


def test_the_price_of_tokens_is_in_plus_out():
    """GPT-4o's list price of 2024: 2.50 in, 10.00 out, 1.25 cached, per million; by hand."""
    given = {
        "input_cost_per_million": 2.5,
        "output_cost_per_million": 10,
        "cache_read_cost_per_million": 1.25,
    }
    price = per_token(given, "row")
    same = per_token({"input_cost_per_token": 2.5e-6, "output_cost_per_token": 1e-5}, "row")

    used = Tokens(prompt=1000, completion=100)
    assert in_usd(price.cost(used)) == in_usd(same.cost(used)) == 0.0025 + 0.001
    assert in_usd(price.cost(Tokens(prompt=1000, cached=800))) == 0.0005 + 0.001
    assert same.cost(Tokens(prompt=1000, cached=800)) == same.cost(Tokens(prompt=1000))


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ([], "by model"),
        ({"m": 3}, "must be an object"),
        ({"m": {}}, "names no price"),
        ({"m": {"input_cost_per_token": 1}}, "needs both"),
        ({"m": {"input_cost_per_token": -1, "output_cost_per_token": 1}}, "0 or more"),
        ({"m": {"input_cost_per_token": 1, "input_cost_per_million": 1}}, "twice"),
        ({"m": {"input": 1}}, "must be an object"),
    ],
)
def test_a_price_that_cannot_be_used_is_named(prices, said):
    """A misspelt price is not a price of zero."""
    with pytest.raises(UsageError, match=said):
        read_prices(prices)


@given(
    st.lists(st.tuples(st.sampled_from(["user", "system"]), st.text(max_size=80)), max_size=5),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(1, 1000)),
)
def test_the_estimate_covers_every_byte_of_the_prompt_and_the_longest_answer(turns, n, bound):
    """No byte-level tokenizer can make more tokens than bytes; `n` answers are paid n times."""
    messages = [{"role": role, "content": text} for role, text in turns]
    params = {"n": n} if bound is None else {"n": n, "max_tokens": bound}
    budget = Budget(assumed_output_tokens=77)
    tokens = most_tokens(ChatRequest(model="m", messages=messages, params=params), budget)

    assert tokens.prompt >= sum(len(text.encode()) for _, text in turns)
    assert tokens.completion == n * (77 if bound is None else bound)


def test_an_image_counts_as_so_many_tokens_whatever_its_bytes():
    """A data URL of a megabyte is not a million tokens; tools and schemas count as text."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}
    message = {"role": "user", "content": [{"type": "text", "text": "look"}, image, image]}
    budget = Budget(image_tokens=1000)
    bare = most_tokens(ChatRequest(model="m", messages=[message]), budget)
    tools = [{"type": "function", "function": {"name": "f" * 500}}]
    more = most_tokens(ChatRequest(model="m", messages=[message], params={"tools": tools}), budget)

    assert 2000 < bare.prompt < 2100
    assert more.prompt > bare.prompt + 500


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, None),
        (Usage(total_tokens=9), None),
        (Usage(prompt_tokens=4), None),
        (Usage(prompt_tokens=4, total_tokens=9), Tokens(prompt=4, completion=5)),
        (Usage(prompt_tokens=4, completion_tokens=2), Tokens(prompt=4, completion=2)),
        (
            Usage(prompt_tokens=4, completion_tokens=2, prompt_tokens_details={"cached_tokens": 3}),
            Tokens(prompt=4, completion=2, cached=3),
        ),
    ],
)
def test_usage_is_believed_where_it_says_both_sides(usage, tokens):
    """What the upstream does not say is not made up."""
    assert tokens_used(usage) == tokens


def test_an_amount_without_a_price_costs_no_money_but_counts():
    """Tokens and requests count all the same."""
    assert amount_of(Tokens(prompt=3, completion=2), None) == Amount(requests=1, tokens=5)
    assert amount_of(Tokens(prompt=3), PerToken(input=2, output=9)).pico_usd == 6


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        3,
        {"euro": 3},
        {"usd": -1},
        {"usd": float("nan")},
        {"usd": "1"},
        {"tokens": 1.5},
        {"tokens": True},
        {"requests": 10**16},
        {"hard": 1},
        {"image_tokens": None},
    ],
)
def test_a_budget_that_cannot_be_used_is_refused(value):
    """Nobody runs with a bound that is not one."""
    with pytest.raises(UsageError, match=r"budget|Budget"):
        read_budget(value)


def test_a_budget_an_object_and_an_account_all_serve():
    """An account given by the caller is used as it is, so that calls can share it."""
    account = Account(budget=Budget(tokens=3))

    assert read_budget({"tokens": 3}) == account_of(Budget(tokens=3), name="b").budget
    assert account_of(account, name="b") is account
    assert account_of({"usd": 1}, name="b").name == "b"
