"""Requirements to verdicts: is it Lean, does a tactic prove it, is it refuted, can a model help."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from scillm_certainly.portfolio.model import Model, ask_proof, ask_statement
from scillm_certainly.portfolio.statements import Statement, statement_of
from scillm_certainly.portfolio.tactics import REFUTATIONS, Attempt, attempts
from scillm_certainly.records import (
    INCOMPLETE,
    INCONCLUSIVE,
    PROVED,
    REJECTED,
    UNAVAILABLE,
    CheckRequest,
    ProofVerdict,
    Requirement,
)

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_certainly.pool.pool import Checker

NEEDS = "needs_formalisation"
GUIDANCE = (
    "needs formalisation: Lean cannot read the requirement as a statement{said}. Give it as a Lean "
    "proposition such as '∀ n : Nat, 0 + n = n', or configure a model (SCILLM_CERTAINLY_MODEL)."
)
MODEL_WROTE = "model_statement: a model wrote the formal statement; compare it with the requirement"
LEAST_S = 0.05


class Prover:
    """Proves requirements with a checker, and with a model when it has one and may ask it."""

    def __init__(self, checker: Checker, *, model: Model | None = None) -> None:
        self._checker = checker
        self._model = model

    async def prove(self, requirement: Requirement) -> ProofVerdict:
        """The verdict on a requirement; `formal` shows what was checked in its name."""
        work = _Work(requirement=requirement, checker=self._checker)
        model = self._model if requirement.model else None
        statement = statement_of(requirement)
        seen = None if statement is None else await work.elaborated(statement)
        if seen is not None and seen.status in (INCONCLUSIVE, UNAVAILABLE):
            return work.ended(seen, statement)
        if statement is None or seen is None or seen.status != INCOMPLETE:
            said = "" if seen is None else f" ({seen.reason})"
            if model is None:
                return work.undecided(NEEDS, GUIDANCE.format(said=said), seen)
            statement = await ask_statement(model, self._checker, requirement, time_s=work.left_s)
            if statement is None:
                text = f"needs formalisation: {model.name} gave no statement that Lean can read"
                return work.undecided(NEEDS, text, seen)
            work.model_statement = True
        return await self._proved(work, statement, model)

    async def _proved(self, work: _Work, statement: Statement, model: Model | None) -> ProofVerdict:
        found = await work.portfolio(statement) or await work.refuted(statement)
        if found is not None:
            return found
        if model is not None and work.left_s > LEAST_S:
            code = await ask_proof(
                model, self._checker, statement, work.requirement, time_s=work.left_s
            )
            if code is not None:
                return await work.judged(statement, code, by=model.name)
        names = ", ".join(dict.fromkeys(row["strategy"].split()[0] for row in work.tried))
        asked = f", nor does {model.name}" if model is not None else ""
        return work.undecided(
            "no_proof_found",
            f"{len(work.tried)} attempts ({names}) do not prove it{asked}; it may still be true",
            work.seen,
            statement,
        )


@define(kw_only=True)
class _Work:
    """One requirement under way. Remembers what was tried, and when time is up."""

    requirement: Requirement
    checker: Checker
    tried: list[dict[str, Json]] = field(factory=list)
    model_statement: bool = False
    seen: ProofVerdict | None = None
    _started: float = field(factory=time.monotonic)

    @property
    def left_s(self) -> float:
        return self.requirement.policy.time_s - (time.monotonic() - self._started)

    async def elaborated(self, statement: Statement) -> ProofVerdict:
        self.seen = await self._check(statement.code("sorry"))
        return self.seen

    async def portfolio(self, statement: Statement) -> ProofVerdict | None:
        rows = attempts(
            self.requirement.strategies,
            variables=statement.variables,
            named=statement.named,
            defined=statement.defined,
        )
        for row in rows:
            verdict = await self._tried(row, statement.code(row.tactics))
            if verdict is None:
                return None
            if verdict.status == PROVED:
                code = statement.code(row.tactics)
                return self.ended(verdict, statement, by=row.strategy, code=code)
        return None

    async def refuted(self, statement: Statement) -> ProofVerdict | None:
        """Rejected, when the opposite is proved."""
        if not statement.bare:
            return None
        for name, tactics in REFUTATIONS.items():
            row = Attempt(strategy=f"refute by {name}", tactics=tactics)
            verdict = await self._tried(row, statement.negated(tactics))
            if verdict is None:
                return None
            if verdict.status == PROVED:
                reason = f"it is false: {name} proves its negation"
                ended = evolve(verdict, status=REJECTED, reason=reason, theorems=())
                code = statement.negated(tactics)
                return self.ended(ended, statement, by=row.strategy, code=code)
        return None

    async def judged(self, statement: Statement, code: str, *, by: str) -> ProofVerdict:
        """The verdict on a whole file that a model wrote, held to the statement."""
        policy = evolve(self.requirement.policy, time_s=max(LEAST_S, self.left_s))
        reference = statement.code("sorry")
        asked = CheckRequest(code=code, reference=reference, policy=policy)
        verdict = await self.checker.check(asked)
        return self.ended(verdict, statement, by=by, code=code, reference=reference, model=True)

    async def _tried(self, row: Attempt, code: str) -> ProofVerdict | None:
        """The verdict on one attempt; None when no time is left for it."""
        if self.left_s < LEAST_S:
            return None
        verdict = await self._check(code)
        self.tried.append(
            {"strategy": row.strategy, "status": verdict.status, "wall_s": verdict.wall_s}
        )
        return verdict

    async def _check(self, code: str) -> ProofVerdict:
        policy = evolve(self.requirement.policy, time_s=max(LEAST_S, self.left_s))
        return await self.checker.check(CheckRequest(code=code, policy=policy))

    def ended(
        self,
        verdict: ProofVerdict,
        statement: Statement | None,
        *,
        by: str = "",
        code: str = "",
        reference: str | None = None,
        model: bool = False,
    ) -> ProofVerdict:
        formal: Mapping[str, Json] = {
            "requirement": self.requirement.text,
            "statement": "" if statement is None else statement.head,
            "code": code,
            "reference": reference,
            "by": by,
            "statement_by_model": self.model_statement,
            "proof_by_model": model,
            "tried": list(self.tried),
        }
        caveats = [MODEL_WROTE] if self.model_statement else []
        return evolve(
            verdict,
            id=self.requirement.id,
            formal=formal,
            caveats=(*caveats, *verdict.caveats),
            wall_s=round(time.monotonic() - self._started, 6),
        )

    def undecided(
        self,
        limit: str,
        reason: str,
        seen: ProofVerdict | None,
        statement: Statement | None = None,
    ) -> ProofVerdict:
        verdict = ProofVerdict(
            id=self.requirement.id,
            status=INCONCLUSIVE,
            limit=limit,
            reason=reason,
            lean=None if seen is None else seen.lean,
            grade="" if seen is None else seen.grade,
        )
        return self.ended(verdict, statement)
