"""What a batch run spends: one account for all its runs, and one for each request of this run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import anyio
from attrs import asdict

from scillm.errors import BudgetExceededError, UnknownPriceError, UsageError
from scillm.http.outcomes import shown
from scillm.resilience.spend import Account, Amount, Budget, in_usd
from scillm.routing.spending import ANY

if TYPE_CHECKING:
    from scillm.cli.batch_plan import Plan
    from scillm.errors import ScillmError
    from scillm.records import Json

Answer = TypeVar("Answer")
SHOWN_RESTS = 2


class Till:
    """Pays for a batch. Remembers what each request in flight has cost so far.

    `spent` is what the journal says about earlier runs: the budget is that of the whole batch.
    """

    def __init__(self, plan: Plan, spent: Mapping[str, int]) -> None:
        self.account = Account(
            budget=Budget(
                usd=plan.budget_usd, tokens=plan.budget_tokens, requests=plan.budget_requests
            ),
            name="batch's budget",
            spent=Amount(**spent),
        )
        self._items: dict[str, Account] = {}
        self._landed: anyio.Event | None = None

    async def paid(self, id: str, ask: Callable[[Account], Awaitable[Answer]]) -> Answer:
        """The answer of `ask`, which is given the request's account.

        What has no room beside what is in the air waits until something has landed.
        """
        account = self._items[id] = Account(name=f"account of {id}")
        while True:
            # The event of now: what lands while the request is being refused is not missed.
            landed = self._landed = self._landed or anyio.Event()
            try:
                answer = await ask(account)
            except BudgetExceededError as error:
                if not error.fits_later:
                    self._land()
                    raise
            except BaseException:
                self._land()
                raise
            else:
                self._land()
                return answer
            await landed.wait()

    def spend_of(self, id: str) -> dict[str, int]:
        """What the request has cost; asked once, when its outcome is written down."""
        account = self._items.pop(id, None)
        return {} if account is None else asdict(account.spent)

    def told(self) -> str:
        """What the batch has spent, of how much, in a few words."""
        spent, budget = self.account.spent, self.account.budget
        parts = []
        if spent.pico_usd or budget.usd is not None:
            parts.append(_of(_dollars(in_usd(spent.pico_usd)), budget.usd, "${:g}"))
        if budget.tokens is not None:
            parts.append(_of(f"{spent.tokens}", budget.tokens, "{} tokens"))
        if budget.requests is not None:
            parts.append(_of(f"{spent.requests}", budget.requests, "{} requests"))
        return f"spent {' and '.join(parts)}" if parts else ""

    def _land(self) -> None:
        event, self._landed = self._landed, None
        if event is not None:
            event.set()


def prices_of(plan: Plan) -> dict[str, Json] | None:
    """The prices on the command line, for every model."""
    if (plan.input_price is None) != (plan.output_price is None):
        raise UsageError("--input-price and --output-price go together; give both.")
    if plan.input_price is None:
        return None
    both = {
        "input_cost_per_million": plan.input_price,
        "output_cost_per_million": plan.output_price,
    }
    return {ANY: both}


def reason_of(error: ScillmError | None) -> str:
    """Why the run ended early, with what to do on the command line."""
    if isinstance(error, UnknownPriceError):
        return (
            f"--budget-usd needs a price, but that of {error.model!r} is not known. Give "
            "--input-price and --output-price, in dollars per million tokens, or install "
            "scillm-core[prices] for the prices of known services. Nothing was sent."
        )
    if isinstance(error, BudgetExceededError):
        return f"{error.message} The budget is that of the whole batch, earlier runs included."
    return "" if error is None else error.message


def rests_told(resting: Mapping[str, float], now: datetime) -> list[str]:
    """Who rests until when, for the progress line; keys and passwords are not shown."""
    lines = [
        f"{_name(name)} rests until {now + timedelta(seconds=rest_s):%H:%M:%S}"
        for name, rest_s in sorted(resting.items(), key=lambda row: -row[1])
    ]
    more = [f"{len(lines) - SHOWN_RESTS} more rest"] if len(lines) > SHOWN_RESTS else []
    return [*lines[:SHOWN_RESTS], *more]


def _name(name: str) -> str:
    words = [word for word in name.split(" ") if word and not word.startswith("key-")]
    return " ".join(shown(word) if "://" in word else word for word in words)


def _dollars(usd: float) -> str:
    return f"${usd:.4g}" if usd >= 1e-4 or not usd else f"${usd:.6f}"


def _of(spent: str, limit: float | None, form: str) -> str:
    return spent if limit is None else f"{spent} of {form.format(limit)}"
