"""Solving: propose, verify, repair until it holds or the budget is used up, with real HTTP."""

from __future__ import annotations

import json
import threading

import anyio
import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import AuthenticationError, PluginNotFoundError, UsageError
from scillm.models import ChatMessage, Choice, Completion, Usage
from scillm.plugins.registry import Registry
from scillm.records import Outcome, Trial, Verdict
from scillm.search import Budget, Sweep
from scillm.search.repair import Repair
from scillm.search.tasks import ALMOST, Task, answer_in, draft, fenced, score_of
from scillm.testing import StrategyConformance
from support.behaviours import Json
from support.strict_chat import CHAT_PATH, completion_object

SQUARE = Task(text="Which whole number is 144 the square of?", statement={"square": 144})


class Squares:
    """Verifies {"square", "answer"}: real arithmetic, and a count of what it was asked."""

    def __init__(self):
        self.asked = []

    async def verify(self, claims, /, *, limits):
        return [self._one(claim) for claim in claims]

    def _one(self, claim):
        self.asked.append(claim.statement["answer"])
        try:
            root = int(claim.statement["answer"])
        except ValueError:
            return Verdict(claim_id=claim.id, holds=None, status="malformed", reason="no number")
        square = root * root
        good = square == claim.statement["square"]
        reason = "" if good else f"its square is {square}"
        near = {"right": min(square, 144), "cases": 144}
        return Verdict(
            claim_id=claim.id,
            holds=good,
            status="ok" if good else "wrong",
            reason=reason,
            evidence=near,
        )


class Scripted:
    """A provider that gives its answers in turn, as a pure function of what it is asked."""

    def __init__(self, answers):
        self.answers = answers
        self.requests = []

    async def complete(self, request, /):
        self.requests.append(request)
        text = self.answers(request)
        return Completion(
            choices=[Choice(message=ChatMessage(content=text), finish_reason="stop")],
            usage=Usage(total_tokens=10),
        )


def counting_up(request):
    """A model that adds one to its last answer."""
    told = [row["content"] for row in request.messages if row["role"] == "assistant"]
    return str(int(told[-1]) + 1) if told else "9"


def solve(task=SQUARE, **arguments):
    arguments.setdefault("verifier", Squares())
    return scillm.solve(task, **arguments)


def test_a_wrong_answer_is_repaired_until_it_is_verified():
    """Draft 9, then 10, 11, 12: the first that holds ends it, and is the answer."""
    provider = Scripted(counting_up)

    found = solve(provider=provider)

    assert (found.answer, found.stopped, found.verified) == ("12", "verified", True)
    assert [row.answer for row in found.attempts] == ["9", "10", "11", "12"]
    assert [row.status for row in found.attempts] == ["wrong", "wrong", "wrong", "ok"]
    assert found.attempts[1].parent == found.attempts[0].arm
    assert found.spent["tokens"] == 40
    assert found.spent["executions"] == 4


def test_what_the_model_is_told_is_the_task_and_the_complaint_alone():
    """The statement goes to the verifier; the repair quotes what it said."""
    provider = Scripted(counting_up)
    solve(provider=provider, budget=2)

    first, second = (request.messages for request in provider.requests)
    assert first == [{"role": "user", "content": SQUARE.text}]
    assert second[1] == {"role": "assistant", "content": "9"}
    assert "wrong: its square is 81" in second[2]["content"]
    assert "statement" not in json.dumps([first, second])


def test_a_used_up_budget_ends_without_an_answer_and_names_the_bound():
    """The nearest miss is there, and is not called an answer."""
    found = solve(provider=Scripted(counting_up), budget=2)

    assert (found.answer, found.verified, found.stopped) == (None, False, "rollouts")
    assert found.best.answer == "10"
    assert found.best.score == pytest.approx(100 / 144)


@pytest.mark.parametrize(
    ("budget", "stopped", "attempts"),
    [
        (Budget(tokens=25), "tokens", 3),
        (Budget(executions=2), "executions", 2),
        (None, "rollouts", 8),
    ],
)
def test_every_bound_counts(budget, stopped, attempts):
    """Tokens are those of the answers, an execution is a verification; 8 attempts by default."""
    provider = Scripted(lambda request: f"{len(provider.requests)}0")

    found = solve(provider=provider, budget=budget)

    assert (found.stopped, len(found.attempts)) == (stopped, attempts)


def test_the_same_answer_is_verified_once():
    """A model that repeats itself costs tokens, not verifications."""
    verifier = Squares()

    found = solve(provider=Scripted(lambda _: "7"), verifier=verifier, budget=5, width=3)

    assert verifier.asked == ["7"]
    assert len({row.arm for row in found.attempts}) == 1
    assert found.spent["executions"] == 1


def test_an_undecided_or_missing_answer_is_a_failed_attempt_that_can_be_repaired():
    """Words instead of a number are undecided, silence is no answer; neither ends the search."""
    texts = iter(["", "twelve", "12"])

    found = solve(provider=Scripted(lambda _: next(texts)), budget=5)

    assert [row.status for row in found.attempts] == ["no_answer", "malformed", "ok"]
    assert [row.score for row in found.attempts] == [None, None, 1.0]
    assert "malformed: no number" in found.attempts[2].messages[-1]["content"]


@pytest.mark.parametrize("strategy", ["repair", "mcts", "ab", "evolve", "uniform"])
def test_any_strategy_that_makes_its_own_arms_solves(strategy):
    """By name, whichever distribution it comes from."""

    def model(request):
        return counting_up(request) if len(request.messages) > 1 else "11"

    found = solve(provider=Scripted(model), strategy=strategy, budget=30, seed=3)

    # uniform only drafts, so it is refuted every time
    assert found.verified == (strategy != "uniform")
    assert found.report["strategy"] == strategy


def test_evolution_shows_the_model_other_attempts():
    """The strategy's inspirations stand in the question, fenced."""
    provider = Scripted(lambda request: "7" * (len(provider.requests) % 5 + 1))

    solve(provider=provider, strategy="evolve", budget=16, seed=1)

    told = [request.messages[-1]["content"] for request in provider.requests]
    assert any("Another answer (wrong: its square is" in text for text in told)


def test_what_is_asked_does_not_depend_on_timing():
    """With three attempts at once, answers in any order give the same attempts."""

    class Late(Scripted):
        def __init__(self, order):
            super().__init__(None)
            self.order = order

        async def complete(self, request, /):
            number = len(self.requests)
            self.answers = lambda _: str(len(json.dumps(list(request.messages))) % 11)
            found = await super().complete(request)
            for _ in range(self.order[number % 3]):
                await anyio.lowlevel.checkpoint()
            return found

    runs = [solve(provider=Late(order), budget=9, width=3, seed=4).to_dict()
            for order in ((1, 5, 9), (9, 5, 1), (5, 9, 1))]  # fmt: skip

    assert runs[0] == runs[1] == runs[2]


def test_a_router_asks_a_real_server(faulty_server):
    """Model, parameters and messages arrive; the answer is taken out of its fence."""

    def reply(request):
        body = json.loads(request.body)
        said = [row["content"] for row in body["messages"] if row["role"] == "assistant"]
        text = "So:\n```text\n12\n```\nDone." if said else "```\n11\n```"
        return Json(completion_object(text, usage={"total_tokens": 7}))

    faulty_server.route(CHAT_PATH, reply)
    with scillm.Router() as router:
        found = solve(
            provider=router,
            model="openai/bench",
            params={
                "temperature": 0,
                "api_base": faulty_server.base_url,
                "api_key": "sk-none",
            },
        )

    assert (found.answer.strip(), len(found.attempts)) == ("12", 2)
    assert json.loads(faulty_server.requests[0].body)["temperature"] == 0
    assert found.spent["tokens"] == 14


def test_a_refused_key_ends_it_at_once(faulty_server):
    """What would spoil every attempt is raised as itself."""
    refusal = Json({"error": {"message": "no", "code": "invalid_api_key"}}, 401)
    faulty_server.route(CHAT_PATH, refusal)

    with scillm.Router() as router, pytest.raises(AuthenticationError):
        solve(
            provider=router,
            model="openai/bench",
            params={"api_base": faulty_server.base_url, "api_key": "sk-bad"},
        )

    assert len(faulty_server.requests) == 1


def test_a_reply_that_is_none_spoils_one_attempt_only(faulty_server):
    """A garbled reply is a failed attempt, and the next one goes on."""
    faulty_server.route(CHAT_PATH, Json(completion_object("12")))
    faulty_server.queue(CHAT_PATH, Json(["not", "a", "completion"]))

    with scillm.Router(num_retries=0) as router:
        found = solve(
            provider=router,
            model="openai/bench",
            params={"api_base": faulty_server.base_url, "api_key": "sk-none"},
        )

    assert [row.status for row in found.attempts] == ["no_answer", "ok"]
    assert found.attempts[0].reason.startswith("MalformedReplyError")


def test_the_async_form_is_cancelled_with_its_caller():
    """Leaving the scope stops the provider's call."""
    left = []

    class Slow(Scripted):
        async def complete(self, request, /):
            try:
                await anyio.sleep_forever()
            finally:
                left.append(True)

    async def main():
        with anyio.move_on_after(0.05):
            await scillm.asolve(SQUARE, provider=Slow(None), verifier=Squares())

    anyio.run(main)

    assert left == [True]


def test_threads_may_solve_side_by_side():
    """Two callers of the one background loop do not mix."""
    answers = {}

    def work(square):
        task = Task(text=f"root of {square}", statement={"square": square})
        provider = Scripted(counting_up)
        answers[square] = solve(task, provider=provider, budget=20).answer

    threads = [threading.Thread(target=work, args=(square,)) for square in (100, 121, 144)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == {100: "10", 121: "11", 144: "12"}


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"provider": "openai/gpt"}, UsageError, "Router"),
        ({"provider": Scripted(counting_up), "strategy": "baseline"}, UsageError, "generate=True"),
        ({"provider": Scripted(counting_up), "strategy": Sweep(["a"])}, UsageError, "made, not"),
        ({"provider": Scripted(counting_up), "strategy": "none such"}, PluginNotFoundError, "none"),
        ({"provider": Scripted(counting_up), "verifier": "none such"}, PluginNotFoundError, "none"),
        ({"provider": Scripted(counting_up), "budget": 0}, UsageError, "rollouts"),
    ],
)
def test_what_cannot_work_is_refused_with_a_way_out(arguments, error, said):
    """A model's name as provider, a strategy that makes nothing, names that do not exist."""
    with pytest.raises(error, match=said):
        solve(**arguments)


@pytest.mark.parametrize("given", [{"text": " "}, {"text": "t", "statement": {"answer": 1}}])
def test_a_task_that_is_none_is_refused(given):
    """An empty text, or a statement that has the answer's place already."""
    with pytest.raises(UsageError):
        Task(**given)


def test_a_solution_is_plain_json():
    """The whole story can be kept: prompts, answers, verdicts."""
    found = solve(provider=Scripted(counting_up)).to_dict()

    assert json.loads(json.dumps(found)) == found
    assert found["attempts"][0]["messages"][0]["content"] == SQUARE.text


def test_a_text_alone_is_a_task():
    """The verifier is told the text and the answer."""

    class Long:
        async def verify(self, claims, /, *, limits):
            (claim,) = claims
            good = len(claim.statement["answer"]) > len(claim.statement["task"])
            return [Verdict(claim_id=claim.id, holds=good, status="ok" if good else "short")]

    found = solve("abc", provider=Scripted(lambda _: "abcd"), verifier=Long())

    assert found.answer == "abcd"


# -- the pure parts ----------------------------------------------------------------------------


@given(st.text())
def test_a_fence_cannot_be_closed_from_inside(text):
    """Whatever backticks an answer holds, the fence around it is longer."""
    first, *inside, last = fenced(text).split("\n")

    assert first == last
    assert set(first) == {"`"}
    assert "\n".join(inside) == text
    assert first not in text


@given(st.text(alphabet="ab`\n ", min_size=1))
def test_an_answer_without_a_fence_is_the_whole_text(text):
    """Only a line that opens a fence, and one that closes it, take part of a text as the answer."""
    if "```" not in text:
        assert answer_in(text) == text.strip()


def test_the_longest_fence_is_the_answer():
    """Models show small examples beside the program they give."""
    text = "Run\n```sh\npython x.py\n```\nof\n```python\ndef solve(x):\n    return x\n```\n"

    assert answer_in(text) == "def solve(x):\n    return x\n"


@given(st.booleans() | st.none(), st.integers(-2, 9), st.integers(-2, 9))
def test_a_verdict_that_does_not_hold_is_worth_less_than_one_that_does(holds, right, cases):
    """1 for true, None for undecided, below 1 for false, whatever the evidence says."""
    verdict = Verdict(
        claim_id="c", holds=holds, status="s", evidence={"right": right, "cases": cases}
    )

    score = score_of(verdict)

    assert (score == 1.0) == (holds is True)
    assert (score is None) == (holds is None)
    assert holds is not False or 0 <= score <= ALMOST


def test_later_drafts_are_asked_for_another_way():
    """Two drafts at temperature 0 would otherwise be one."""
    assert draft(SQUARE, number=0) != draft(SQUARE, number=1)
    assert SQUARE.text in draft(SQUARE, number=1)[0]["content"]
    system = Task(text="t", system="be brief")
    assert draft(system, number=0)[0] == {"role": "system", "content": "be brief"}


def test_repair_starts_afresh_when_it_is_stuck():
    """After `patience` repairs without gain the next trial is a draft."""
    strategy = Repair(seed=0, generate=True, rollouts=8, patience=2)
    parents = []
    while (trial := strategy.ask()) is not None:
        parents.append(trial.parent)
        strategy.tell(trial, Outcome(score=0.5, arm=f"arm-{trial.number}"))

    assert parents == [None, "arm-0", "arm-1", None, "arm-3", "arm-4", None, "arm-6"]


def test_repair_prefers_what_scored_over_what_failed():
    """A crash is repaired only while nothing has scored."""
    strategy = Repair(generate=True)
    outcomes = [Outcome(score=None, arm="crash"), Outcome(score=0.1, arm="poor"),
                Outcome(score=None, arm="crash 2")]  # fmt: skip
    parents = []
    for outcome in outcomes:
        trial = strategy.ask()
        parents.append(trial.parent)
        strategy.tell(trial, outcome)

    assert [*parents, strategy.ask().parent] == [None, "crash", "poor", "poor"]


@pytest.mark.parametrize("given", [{"rollouts": 0}, {"patience": 0}, {"arms": ["a", "a"]}])
def test_repair_refuses_what_makes_no_sense(given):
    """No rollouts, no patience, twice the same arm."""
    with pytest.raises(UsageError):
        Repair(**given)


def test_a_withdrawn_repair_costs_nothing():
    """The rollouts count what was told."""
    strategy = Repair(["a"], rollouts=1)
    strategy.tell(strategy.ask(), Outcome(score=None, withdrawn=True))

    again = strategy.ask()

    assert again == Trial(number=1, arm="a")


class TestRepair(StrategyConformance):
    """Over given arms, it keeps what every strategy keeps."""

    @pytest.fixture
    def make_strategy(self):
        return Registry().get("scillm.strategies", "repair")


class TestGrowingRepair(StrategyConformance):
    """The same when it makes arms of its own."""

    @pytest.fixture
    def make_strategy(self):
        return lambda arms, *, seed: Repair(arms, seed=seed, generate=True, patience=2)
