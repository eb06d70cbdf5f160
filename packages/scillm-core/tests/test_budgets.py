"""Budgets of requests, tokens and money, through the Router and real HTTP."""

from __future__ import annotations

import subprocess
import sys
import time

import anyio
import pytest
import scillm
from scillm import errors
from scillm.events import BudgetReached
from scillm.plugins.groups import HOOKS
from scillm.resilience.spend import Account
from support.faulty import CHAT_PATH, FaultyServer, Html, Json, RefuseAfterAccept, Sse, Stall, event

MESSAGES = [{"role": "user", "content": "one two three"}]
PRICE = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.01}


def usage_of(server):
    """What one call of MESSAGES uses at this server, asked without any budget."""
    with scillm.Router() as router:
        usage = router.completion("openai/m", MESSAGES, api_base=server.base_url).usage
    server.requests.clear()
    return usage


def cost_of(usage):
    return usage.prompt_tokens * 0.001 + usage.completion_tokens * 0.01


@pytest.fixture
def server():
    with FaultyServer() as one:
        yield one


@pytest.fixture
def ask(server):
    def asked(router, **more):
        return router.completion("openai/m", MESSAGES, api_base=server.base_url, **more)

    return asked


@pytest.fixture
def process_budget():
    yield
    scillm.set_budget()


def hooked(router, seen):
    class Plugin:
        def scillm_event(self, event):
            if isinstance(event, BudgetReached):
                seen.append(event)

    router.registry.register(HOOKS, "listener", Plugin())


def test_what_was_spent_can_be_read_and_is_on_the_answer(server, ask):
    """Requests, tokens and money as the upstream counted them, times the given price."""
    usage = usage_of(server)
    with scillm.Router(prices={"m": PRICE}) as router:
        answer = ask(router)
        told = router.spend()

    assert (told.requests, told.tokens) == (1, usage.total_tokens)
    assert told.usd == pytest.approx(cost_of(usage))
    assert answer._hidden_params["response_cost"] == pytest.approx(cost_of(usage))
    assert told.reserved_requests == told.estimated_tokens == told.unknown_requests == 0


def test_without_a_price_there_is_no_cost(server, ask):
    """Nothing is made up: no stamp, and the spend says that it is not complete."""
    with scillm.Router() as router:
        answer = ask(router)
        told = router.spend()

    assert "response_cost" not in answer.scillm_meta
    assert (told.usd, told.unpriced_requests) == (0.0, 1)


@pytest.mark.parametrize(
    "budget", [{"requests": 2}, {"tokens": 700}, {"usd": 0.4}], ids=["requests", "tokens", "usd"]
)
def test_a_hard_budget_refuses_before_anything_is_sent(server, ask, budget):
    """The call that does not fit never reaches the server, and the bound is never passed."""

    def ask_often(router):
        for _ in range(200):
            ask(router, max_tokens=10)

    with scillm.Router(budget=scillm.Budget(**budget), prices={"m": PRICE}) as router:
        with pytest.raises(errors.BudgetExceededError, match="Nothing was sent") as caught:
            ask_often(router)
        told = router.spend()

    ((unit, limit),) = budget.items()
    assert caught.value.unit == unit
    assert 0 < getattr(told, unit) <= limit
    assert len(server.requests) == told.requests < 200


def test_64_calls_at_once_cannot_overrun_together(server):
    """What is in the air is reserved: of 64 simultaneous calls only those that fit are sent."""
    server.route(CHAT_PATH, lambda request: Stall(0.1, Json(completion(tokens=20))))
    requests = [
        {"model": "openai/m", "messages": MESSAGES, "api_base": server.base_url, "max_tokens": 10}
    ] * 64

    async def run():
        async with scillm.Router(budget={"usd": 2.0}, prices={"m": PRICE}) as router:
            results = await router.parallel_acompletions(requests, max_concurrency=64)
            return results, router.spend()

    results, told = anyio.run(run)

    refused = [r for r in results if isinstance(r.error, errors.BudgetExceededError)]
    assert 0 < len(server.requests) == 64 - len(refused) < 64
    assert told.usd <= 2.0
    assert told.reserved_usd == told.reserved_tokens == 0


class Heard:
    """A plugin that remembers the names of events."""

    def __init__(self):
        self.names = []

    def scillm_event(self, event):
        self.names.append(type(event).__name__)


def test_what_a_budget_refuses_is_no_attempt_and_takes_no_turn(server, ask):
    """It is refused at once, though its turn would come in a minute; no event says it was tried."""
    heard = Heard()
    settings = {"rate_limit_qps": 1 / 60}
    with scillm.Router(budget={"requests": 1}, settings=settings) as router:
        router.registry.register(HOOKS, "heard", heard)
        ask(router)
        heard.names.clear()
        began = time.monotonic()
        with pytest.raises(errors.BudgetExceededError):
            ask(router, retry_enabled=True)
        took_s = time.monotonic() - began

    assert took_s < 10
    assert heard.names == ["BudgetReached", "GaveUp"]


def test_what_waits_for_its_turn_is_paid_for_and_gives_that_back(server):
    """Cut off in line, or refused because the wait does not fit: nothing is spent or reserved."""
    call = {"api_base": server.base_url, "retry_enabled": True, "max_tokens": 10}

    async def main():
        settings = {"rate_limit_qps": 0.01}
        async with scillm.Router(budget={"tokens": 10_000}, settings=settings) as router:
            await router.acompletion("openai/m", MESSAGES, **call)
            sent = router.spend()
            with anyio.move_on_after(0.2):
                await router.acompletion("openai/m", MESSAGES, **call)
            cut_off = router.spend()
            with pytest.raises(errors.RateLimitError, match="Nothing was sent"):
                await router.acompletion("openai/m", MESSAGES, retry_time_budget_s=1, **call)
            return sent, cut_off, router.spend()

    sent, cut_off, refused = anyio.run(main)

    assert sent.requests == 1
    assert cut_off == refused == sent


def test_a_hedge_without_room_in_the_budget_is_not_sent(server):
    """The slow request goes on alone, and nothing says that there was another one."""
    server.route(CHAT_PATH, lambda request: Stall(0.5, Json(completion(tokens=20))))
    heard = Heard()
    with scillm.Router(budget={"requests": 1}) as router:
        router.registry.register(HOOKS, "heard", heard)
        answer = router.completion(
            "openai/m", MESSAGES, api_base=server.base_url, hedge_after_s=0.1
        )

    assert answer.text == "x"
    assert len(server.requests) == 1
    assert len(answer.scillm_meta["attempts"]) == 1
    assert "Hedged" not in heard.names


def completion(tokens):
    return {
        "id": "c", "object": "chat.completion", "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 10, "total_tokens": tokens + 10},
    }  # fmt: skip


def test_a_missing_usage_keeps_the_reservation(server, ask):
    """An upstream that does not say what was used is taken at the estimate, and that is said."""
    silent = {k: v for k, v in completion(5).items() if k != "usage"}
    server.route(CHAT_PATH, Json(silent))
    with scillm.Router(budget={"tokens": 10_000}) as router:
        ask(router, max_tokens=100)
        told = router.spend()

    assert told.tokens == told.estimated_tokens > 100
    assert told.reserved_tokens == 0


def test_without_bounds_a_missing_usage_is_unknown(server, ask):
    """Nothing was estimated, so the request is counted as one whose tokens nobody knows."""
    silent = {k: v for k, v in completion(5).items() if k != "usage"}
    server.route(CHAT_PATH, Json(silent))
    with scillm.Router() as router:
        ask(router)
        told = router.spend()

    assert (told.requests, told.tokens, told.unknown_requests) == (1, 0, 1)


@pytest.mark.parametrize(
    ("behaviour", "requests", "estimated"),
    [
        (Json({"error": {"message": "no"}}, 400), 1, False),
        (Json({"error": {"message": "busy"}}, 429), 1, False),
        (Json({"error": {"message": "down"}}, 500), 1, False),
        (Json({"error": {"message": "slow"}}, 504), 1, True),
        (Html(status=200), 1, True),
        (RefuseAfterAccept(), 1, True),
        (Stall(5.0, Json({})), 1, True),
    ],
    ids=["400", "429", "500", "504", "html", "reset", "timeout"],
)
def test_a_failed_attempt_counts_as_what_is_known_of_it(
    server, ask, behaviour, requests, estimated
):
    """A refusal is not billed; whatever broke on the way may have been, and keeps its estimate."""
    server.route(CHAT_PATH, behaviour)
    with scillm.Router(budget={"tokens": 10_000}) as router:
        with pytest.raises(errors.ProviderError):
            ask(router, timeout=0.3)
        told = router.spend()

    assert told.requests == requests
    assert (told.tokens > 0) == estimated
    assert told.estimated_tokens == told.tokens
    assert told.reserved_tokens == told.reserved_requests == 0


def test_what_never_left_costs_nothing():
    """No connection, no request: an outage does not eat the budget."""
    with scillm.Router(budget={"requests": 1}) as router:
        for _ in range(3):
            with pytest.raises(errors.APIConnectionError):
                router.completion("openai/m", MESSAGES, api_base="http://127.0.0.1:9/v1")
        told = router.spend()

    assert (told.requests, told.reserved_requests) == (0, 0)


def test_every_attempt_is_a_request(server, ask):
    """Retries are paid too."""
    server.queue(CHAT_PATH, Json({"error": {"message": "busy"}}, 429, {"retry-after-ms": "1"}))
    with scillm.Router(budget={"requests": 2}) as router:
        ask(router, num_retries=2)
        told = router.spend()
        with pytest.raises(errors.BudgetExceededError):
            ask(router, num_retries=2)

    assert told.requests == len(server.requests) == 2


def test_a_deployment_that_was_refused_money_is_not_ill(server):
    """A used-up budget lets no deployment rest."""
    params = {"model": "openai/m", "api_base": server.base_url}
    rows = [{"model_name": "g", "litellm_params": {**params, "seed": n}} for n in range(2)]
    with scillm.Router(rows, budget={"requests": 0}, allowed_fails=0) as router:
        for _ in range(4):
            with pytest.raises(errors.BudgetExceededError):
                router.completion("g", MESSAGES)

    assert server.requests == []


def test_a_stream_is_settled_with_its_usage_when_it_ends(server):
    """While it is open its estimate is reserved; at its end the server's count stands."""

    async def run():
        async with scillm.Router(budget={"tokens": 10_000}, prices={"m": PRICE}) as router:
            stream = await router.acompletion(
                "openai/m",
                MESSAGES,
                api_base=server.base_url,
                stream=True,
                stream_options={"include_usage": True},
            )
            await anext(stream)
            during = router.spend()
            async for _ in stream:
                pass
            return during, router.spend(), stream.completion

    during, after, completion = anyio.run(run)

    assert during.reserved_tokens > 0 == during.tokens
    assert after.tokens == completion.usage.total_tokens
    assert after.reserved_tokens == after.estimated_tokens == 0
    assert completion.scillm_meta["response_cost"] == pytest.approx(cost_of(completion.usage))


def test_a_stream_that_says_nothing_or_is_left_keeps_its_estimate(server, ask):
    """Leaving early does not make it free."""
    with scillm.Router(budget={"tokens": 10_000}) as router:
        with ask(router, stream=True) as stream:
            next(iter(stream))
        told = router.spend()

    assert told.tokens == told.estimated_tokens > 0
    assert told.reserved_tokens == 0


def test_an_event_stream_that_fails_before_its_first_chunk_is_settled(server, ask):
    """No reservation outlives its request."""
    server.route(CHAT_PATH, Sse([event({"error": {"message": "overloaded", "code": 503}})]))
    with scillm.Router(budget={"tokens": 10_000}) as router:
        with pytest.raises(errors.ProviderError):
            ask(router, stream=True)
        told = router.spend()

    assert (told.requests, told.reserved_requests, told.reserved_tokens) == (1, 0, 0)


def test_a_soft_budget_says_so_once_and_goes_on(server, ask):
    """One event, however many calls follow."""
    seen = []
    with scillm.Router(budget={"requests": 1, "hard": False}) as router:
        hooked(router, seen)
        for _ in range(4):
            ask(router)
        told = router.spend()

    assert told.requests == 4
    assert seen == [BudgetReached(name="Router's budget", unit="requests", hard=False)]


def test_a_hard_budget_tells_its_listeners_once(server, ask):
    """A thousand refused calls are one event."""
    seen = []
    with scillm.Router(budget={"requests": 0}) as router:
        hooked(router, seen)
        for _ in range(3):
            with pytest.raises(errors.BudgetExceededError):
                ask(router)

    assert seen == [BudgetReached(name="Router's budget", unit="requests", hard=True)]


def test_money_without_a_price_is_refused_not_counted_as_zero(server, ask):
    """A bound in dollars does not silently let unpriced models through."""
    with (
        scillm.Router(budget={"usd": 1000.0}) as router,
        pytest.raises(errors.UnknownPriceError, match="input_cost_per_token") as caught,
    ):
        ask(router)
    with scillm.Router(budget={"usd": 1000.0, "hard": False}) as router:
        ask(router)
        told = router.spend()

    assert caught.value.model == "m"
    assert len(server.requests) == 1
    assert told.unpriced_requests == 1


def test_a_rows_own_costs_are_its_price(server):
    """LiteLLM's names in model_list; one side alone is no price."""
    params = {"model": "openai/m", "api_base": server.base_url}
    whole = {"model_name": "whole", "litellm_params": {**params, **PRICE}}
    half = {"model_name": "half", "litellm_params": {**params, "input_cost_per_token": 1}}
    with scillm.Router([whole, half], budget={"usd": 100.0}) as router:
        answer = router.completion("whole", MESSAGES)
        with pytest.raises(errors.UnknownPriceError):
            router.completion("half", MESSAGES)

    assert answer.scillm_meta["response_cost"] == pytest.approx(cost_of(answer.usage))


def test_a_call_has_a_budget_of_its_own(server, ask):
    """All its attempts together; the next call starts afresh."""
    busy = Json({"error": {"message": "busy"}}, 429, {"retry-after-ms": "1"})
    server.queue(CHAT_PATH, busy, busy, busy)
    with scillm.Router(prices={"m": PRICE}) as router:
        with pytest.raises(errors.BudgetExceededError, match="call's budget"):
            ask(router, num_retries=5, budget_requests=2)
        sent = len(server.requests)
        ask(router, num_retries=5, budget_requests=2)
        with pytest.raises(errors.BudgetExceededError):
            ask(router, max_budget=0.0001)
        with pytest.raises(errors.BudgetExceededError):
            ask(router, budget_tokens=3)
        with pytest.raises(errors.UsageError, match="say the same"):
            ask(router, budget_usd=1, budget={"usd": 2})

    assert sent == 2


def test_rounds_of_checked_json_share_the_calls_budget(server, ask):
    """A repair turn is a request of the same call."""
    server.route(CHAT_PATH, Json(completion(5)))
    with scillm.Router() as router, pytest.raises(errors.BudgetExceededError):
        ask(router, response_format={"type": "json_object"}, repair_rounds=5, budget_requests=2)

    assert len(server.requests) == 2


def test_an_account_can_be_shared_by_calls(server, ask):
    """Whoever makes the account reads from it what these calls cost."""
    account = Account(budget=scillm.Budget(requests=3), name="my budget")
    with scillm.Router() as one, scillm.Router() as other:
        ask(one, budget=account)
        ask(other, budget=account)

    assert account.report().requests == 2
    assert account.report().tokens > 0


def test_a_row_cannot_have_a_budget_that_nobody_keeps():
    """What would be ignored is refused."""
    row = {"model_name": "g", "litellm_params": {"model": "echo/m", "budget_usd": 1}}

    with pytest.raises(errors.UsageError, match="budget_usd"):
        scillm.Router([row])


@pytest.mark.usefixtures("process_budget")
def test_a_process_budget_holds_for_all_routers(server, ask):
    """`set_budget` bounds every Router, calls back once, and goes away when set to nothing."""
    called = []
    scillm.set_budget(max_requests=2, on_exhaust=lambda: called.append(1))
    with scillm.Router() as one, scillm.Router() as other:
        ask(one)
        ask(other)
        for router in (one, other):
            with pytest.raises(errors.BudgetExceededError, match="process budget"):
                ask(router)
        spent = scillm.spend()
        scillm.set_budget()
        ask(one)

    assert spent.requests == 2
    assert called == [1]
    assert scillm.spend().requests == 0


@pytest.mark.usefixtures("process_budget")
def test_a_callback_that_raises_stops_the_call_and_holds_nothing_back(server, ask):
    """What `on_exhaust` raises reaches the caller; the reservation is released."""

    def stop():
        raise KeyError("enough")

    scillm.set_budget(max_requests=0, on_exhaust=stop, hard=False)
    with scillm.Router() as router:
        with pytest.raises(KeyError):
            ask(router)
        told = router.spend()

    assert (told.requests, told.reserved_requests) == (0, 0)
    assert server.requests == []


def test_a_cancelled_call_keeps_its_estimate(server):
    """The upstream may bill what the caller no longer wants."""
    server.route(CHAT_PATH, Stall(5.0, Json({})))

    async def run():
        async with scillm.Router(budget={"tokens": 10_000}) as router:
            with anyio.move_on_after(0.2):
                await router.acompletion("openai/m", MESSAGES, api_base=server.base_url)
            return router.spend()

    told = anyio.run(run)

    assert told.tokens == told.estimated_tokens > 0
    assert told.reserved_requests == 0


def test_a_hedge_is_a_second_request(server):
    """Both requests count; the cancelled one at its estimate."""
    server.queue(CHAT_PATH, Stall(5.0, Json({})))

    async def run():
        async with scillm.Router(budget={"tokens": 100_000}) as router:
            answer = await router.acompletion(
                "openai/m", MESSAGES, api_base=server.base_url, hedge_after_s=0.1
            )
            return answer, router.spend()

    answer, told = anyio.run(run)

    assert told.requests == len(server.requests) == 2
    assert told.tokens == answer.usage.total_tokens + told.estimated_tokens
    assert told.reserved_requests == 0


def test_listed_prices_come_from_genai_prices():
    """Known services are known by their address; a server of one's own has no listed price."""
    pytest.importorskip("genai_prices")
    from scillm.resilience.price_list import listed_price
    from scillm.resilience.prices import Tokens

    price = listed_price("gpt-4o", "https://api.openai.com/v1")

    assert price.cost(Tokens(prompt=1000, completion=100)) > 0
    assert listed_price("gpt-4o", "http://127.0.0.1:8000/v1") is None
    assert listed_price("no-such-model-9", "https://api.openai.com/v1") is None
    assert listed_price("gpt-4o", None) is None


def test_a_usage_that_tells_only_the_sum_is_paid_at_the_dearer_price(server, ask):
    """Nobody knows how much of it was output; it is called an estimate."""
    server.route(CHAT_PATH, Json({**completion(5), "usage": {"total_tokens": 10}}))
    with scillm.Router(prices={"m": PRICE}) as router:
        ask(router)
        told = router.spend()

    assert (told.tokens, told.estimated_tokens) == (10, 10)
    assert told.usd == pytest.approx(10 * 0.01)


def test_the_list_can_be_asked_for_every_cost(server, ask):
    """A server of one's own has no listed price; that is no error without a budget in money."""
    pytest.importorskip("genai_prices")
    with scillm.Router(prices="genai-prices") as router:
        answer = ask(router)

    assert "response_cost" not in answer.scillm_meta


def test_without_the_extra_the_error_says_what_to_install():
    """Whoever asks for the list must have it; a budget in money names the other ways too."""
    script = """
import sys
sys.modules["genai_prices"] = None
import scillm
for options in ({"prices": "genai-prices"}, {"budget": {"usd": 1}}):
    try:
        scillm.Router(**options).completion(
            "m", [{"role": "user", "content": "hi"}], api_base="http://127.0.0.1:9/v1"
        )
    except scillm.UsageError as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    first, second = done.stdout.splitlines()
    assert "pip install 'scillm-core[prices]'" in first
    assert second.startswith("UnknownPriceError")
    assert "scillm-core[prices]" in second
