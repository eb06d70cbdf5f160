"""Solving: a provider proposes, a verifier disposes, a strategy says what to try or repair next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import anyio
from attrs import define, evolve, field

from scillm import portal
from scillm.errors import (
    ContentPolicyViolationError,
    ContextWindowExceededError,
    MalformedReplyError,
    PluginError,
    SchemaError,
    ScillmError,
    StreamInterruptedError,
    UsageError,
)
from scillm.plugins.groups import STRATEGIES, VERIFIERS
from scillm.plugins.registry import Registry
from scillm.protocols import Provider, Strategy, Verifier
from scillm.records import ChatRequest, Claim, Limits, Outcome
from scillm.runs.canonical import digest
from scillm.search.budget import Budget
from scillm.search.loop import search
from scillm.search.repair import Repair
from scillm.search.tasks import Attempted, Solution, Task, draft, repair
from scillm.search.verify import verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.events import Event
    from scillm.models import Completion
    from scillm.records import Json, Trial, Verdict

VERIFIED = "verified"
NO_ANSWER = "no_answer"
ROLLOUTS = 8
"""Attempts when no budget is given."""
ABOUT_THE_ANSWER = (
    ContentPolicyViolationError,
    ContextWindowExceededError,
    MalformedReplyError,
    SchemaError,
    StreamInterruptedError,
)
"""Errors that spoil one attempt; every other one ends the search, for it would spoil them all."""


@runtime_checkable
class Asks(Protocol):
    """What a `Router` offers."""

    async def acompletion(
        self, model: str | None = None, messages: Any = None, **arguments: Any
    ) -> Any:
        """Answer one call."""
        ...


Proposer: TypeAlias = "Provider | Asks"
StrategyLike: TypeAlias = "Strategy | Callable[..., Strategy] | str | None"


async def asolve(
    task: Task | str,
    *,
    provider: Proposer,
    verifier: Verifier | str,
    strategy: StrategyLike = None,
    budget: Budget | int | None = None,
    model: str = "",
    params: Mapping[str, Json] | None = None,
    limits: Limits | None = None,
    seed: int = 0,
    width: int = 1,
    timeout_s: float = 600.0,
    emit: Callable[[Event], None] | None = None,
) -> Solution:
    """Draft, verify and repair answers to `task` until one is verified or the budget is used up.

    `provider` is a Provider or a Router, asked for `model` with `params`; `verifier` and `strategy`
    are objects or the names of installed ones. A strategy must be able to make arms of its own;
    one given by class or name is built as `(arms, seed=, generate=True)`. The default, `repair`,
    repairs the best answer so far. `budget` is a `scillm.search.Budget`, or the number of attempts
    (default 8); one verification is one execution. `limits` are those of one verification.

    With `width` above 1 so many attempts are made at once, and all of them are told before the next
    ones. What an attempt is asked depends on what the strategy was told, never on timing. An answer
    that came before is not verified again.

    Raises what the provider raises, but for errors about the one answer (refused, cut off, too
    long): these are failed attempts.
    """
    asked = Task(text=task) if isinstance(task, str) else task
    if asked.statement == {} and isinstance(task, str):
        asked = evolve(asked, statement={"task": task})
    bounds = Budget(rollouts=budget) if isinstance(budget, int) else budget
    work = _Work(
        task=asked,
        ask=partial(_asked, provider, model, dict(params or {}), timeout_s),
        verifier=_verifier(verifier),
        limits=limits or Limits(),
    )
    until = _Until(_strategy(strategy, seed=seed), work.attempts)
    found = await search(
        until,
        work.attempt,
        width=width,
        budget=bounds or Budget(rollouts=ROLLOUTS),
        emit=emit or _silent,
    )
    attempts = [work.attempts[trial.number] for trial, _ in found.trials]
    return Solution(
        task=asked.text,
        attempts=attempts,
        stopped=VERIFIED if any(row.verified for row in attempts) else found.stopped,
        spent=found.spent,
        report=found.report,
    )


def solve(task: Task | str, **arguments: Any) -> Solution:
    """The synchronous form of `asolve`, for scripts, threads and notebooks."""
    return portal.call(partial(asolve, task, **arguments))


def _silent(_event: Event) -> None:
    return


def _verifier(given: Verifier | str) -> Verifier:
    if not isinstance(given, str):
        return given
    factory = Registry().get(VERIFIERS, given)
    made = factory() if callable(factory) else factory
    if not isinstance(made, Verifier):
        raise PluginError(f"The verifier {given!r} is a {type(made).__name__} without verify.")
    return made


def _strategy(given: StrategyLike, *, seed: int) -> Strategy:
    if given is None:
        return Repair((), seed=seed, rollouts=10_000, generate=True)
    factory: Any = Registry().get(STRATEGIES, given) if isinstance(given, str) else given
    if not isinstance(factory, type) and isinstance(factory, Strategy):
        return factory
    try:
        made = factory([], seed=seed, generate=True)
    except TypeError as error:
        raise UsageError(
            f"The strategy {given!r} cannot make answers of its own: {error}. Choose one that "
            "takes generate=True, such as repair, mcts, ab or evolve, or build it yourself."
        ) from error
    if not isinstance(made, Strategy):
        raise UsageError(f"{given!r} built a {type(made).__name__}, which is no strategy.")
    return made


async def _asked(
    provider: Proposer,
    model: str,
    params: Mapping[str, Json],
    timeout_s: float,
    messages: Sequence[Mapping[str, Json]],
) -> Completion:
    if isinstance(provider, Provider):
        request = ChatRequest(model=model, messages=messages, params=params, timeout_s=timeout_s)
        return await provider.complete(request)
    if isinstance(provider, Asks):
        found: Completion = await provider.acompletion(
            model=model or None, messages=list(messages), timeout=timeout_s, **params
        )
        return found
    raise UsageError(
        f"provider must be a Provider or a Router, but is {provider!r}. For a model by name give "
        "provider=scillm.Router() and model='openai/…'."
    )


class _Until:
    """Passes on to `inner`, until an attempt was verified. Holds the attempts by trial number."""

    def __init__(self, inner: Strategy, attempts: Mapping[int, Attempted]) -> None:
        self._inner = inner
        self._attempts = attempts
        self._over = False

    def ask(self) -> Trial | None:
        return None if self._over else self._inner.ask()

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        self._over = self._over or self._attempts[trial.number].verified
        self._inner.tell(trial, outcome)

    def report(self) -> Mapping[str, Json]:
        return self._inner.report()


@define(kw_only=True)
class _Work:
    """The attempts at one task. Remembers them by trial and by arm, and verdicts by answer."""

    task: Task
    ask: Callable[..., Any]
    verifier: Verifier
    limits: Limits
    attempts: dict[int, Attempted] = field(factory=dict)
    _arms: dict[str, Attempted] = field(factory=dict)
    _verdicts: dict[str, Verdict] = field(factory=dict)
    _locks: dict[str, anyio.Lock] = field(factory=dict)

    async def attempt(self, trial: Trial) -> Outcome:
        """Ask for an answer, check it, and say what it was worth."""
        if not trial.new:
            raise UsageError(
                f"The strategy asks for the arm {trial.arm!r}, but here answers are made, not "
                "given; build it without arms and with generate=True."
            )
        row, executions = await self._tried(trial)
        self.attempts[trial.number] = row
        self._arms.setdefault(row.arm, row)
        return Outcome(
            score=row.score,
            status=row.status,
            reason=row.reason,
            arm=row.arm,
            cost={"executions": executions, "tokens": row.tokens, "usd": row.usd},
            features={"chars": float(len(row.answer)), "status": row.status},
        )

    async def _tried(self, trial: Trial) -> tuple[Attempted, float]:
        messages = self._messages(trial)
        row = Attempted(
            number=trial.number,
            arm=trial.arm,
            parent=trial.parent,
            messages=messages,
            text="",
            answer="",
            verdict=None,
            status=NO_ANSWER,
        )
        try:
            completion = await self.ask(messages)
        except ABOUT_THE_ANSWER as error:
            return evolve(row, reason=_said(error)), 0.0
        row = evolve(
            row,
            text=completion.text,
            answer=self.task.read(completion.text),
            tokens=_tokens(completion),
            usd=_usd(completion),
        )
        if not row.answer.strip():
            return evolve(row, reason="the model gave no answer"), 0.0
        arm = digest(row.answer)
        verdict, executions = await self._verified(arm, row.answer)
        return evolve(
            row,
            arm=arm,
            verdict=verdict,
            status=verdict.status,
            reason=verdict.reason,
            score=self.task.score(verdict),
        ), executions

    def _messages(self, trial: Trial) -> list[dict[str, Json]]:
        """Only from what the strategy was told: its trial, and the arms that the trial names."""
        if trial.parent is None:
            return draft(self.task, number=trial.number)
        payload = trial.payload if isinstance(trial.payload, Mapping) else {}
        others = [self._arms[arm] for arm in payload.get("inspirations", ()) if arm in self._arms]
        return repair(self.task, self._arms[trial.parent], inspirations=others)

    async def _verified(self, arm: str, answer: str) -> tuple[Verdict, float]:
        async with self._locks.setdefault(arm, anyio.Lock()):
            if arm in self._verdicts:
                return self._verdicts[arm], 0.0
            claim = Claim(
                id="answer",
                statement={**self.task.statement, self.task.slot: answer},
                context=self.task.context,
            )
            (self._verdicts[arm],) = await verify(self.verifier, [claim], limits=self.limits)
            return self._verdicts[arm], 1.0


def _said(error: ScillmError) -> str:
    return f"{type(error).__name__}: {error.message}"


def _tokens(completion: Completion) -> float:
    usage = completion.usage
    return float(usage.total_tokens or 0) if usage is not None else 0.0


def _usd(completion: Completion) -> float:
    cost = completion.scillm_meta.get("response_cost")
    return float(cost) if isinstance(cost, (int, float)) else 0.0
