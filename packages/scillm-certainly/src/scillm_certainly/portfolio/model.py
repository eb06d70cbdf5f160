"""Asking a model for a formal statement, or for a proof, until Lean is content with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen
from scillm.records import Limits, Verdict
from scillm.search import Budget
from scillm.search.solve import asolve
from scillm.search.tasks import Task

from scillm_certainly.portfolio.statements import Statement, statement_of
from scillm_certainly.records import INCOMPLETE, CheckRequest, ProofVerdict, Requirement

if TYPE_CHECKING:
    from scillm.records import Claim
    from scillm.search.solve import Proposer

    from scillm_certainly.pool.pool import Checker

SHOWN = 3
STATEMENT = (
    "Write the following requirement as one Lean 4 theorem statement, with `sorry` for its proof. "
    "Use core Lean only (no Mathlib). Name the theorem `requirement`. State exactly what is asked, "
    "nothing weaker. Answer with one code block that begins with `theorem requirement`."
)
PROOF = (
    "Prove this Lean 4 theorem. Use core Lean only (no Mathlib), no axioms and no sorry. Answer "
    "with one code block that holds the whole file: the statement unchanged, with its proof."
)


@frozen(kw_only=True)
class Model:
    """Who may be asked: a Provider or a Router, a model's name, and how many answers per task."""

    provider: Proposer = field(repr=False)
    name: str
    attempts: int = 6


async def ask_statement(
    model: Model, checker: Checker, requirement: Requirement, *, time_s: float
) -> Statement | None:
    """A statement that Lean can read, written by the model; None when it gave none."""
    parts = [STATEMENT, f"Requirement:\n{requirement.text}"]
    if requirement.preamble:
        parts.append(f"These definitions stand before it:\n{requirement.preamble}")
    if requirement.notes:
        parts.append(f"What else is known:\n{json.dumps(dict(requirement.notes))}")
    reader = _Readable(checker, requirement)
    solution = await asolve(
        Task(text="\n\n".join(parts), slot="code", complain=complaint),
        provider=model.provider,
        model=model.name,
        verifier=reader,
        budget=Budget(rollouts=model.attempts, seconds=max(0.1, time_s)),
        limits=Limits(time_s=max(0.1, time_s)),
    )
    return None if solution.answer is None else written(solution.answer, requirement)


async def ask_proof(
    model: Model, checker: Checker, statement: Statement, requirement: Requirement, *, time_s: float
) -> str | None:
    """A file that proves the statement, written by the model and checked; None without one."""
    from scillm_certainly.verifier import LeanVerifier

    policy = requirement.policy
    task = Task(
        text=f"{PROOF}\n\n{statement.code('sorry')}",
        statement={
            "reference": statement.code("sorry"),
            "axioms": list(policy.axioms),
            "heartbeats": policy.heartbeats,
        },
        slot="code",
        complain=complaint,
    )
    solution = await asolve(
        task,
        provider=model.provider,
        model=model.name,
        verifier=LeanVerifier(checker),
        budget=Budget(rollouts=model.attempts, seconds=max(0.1, time_s)),
        limits=Limits(time_s=max(0.1, time_s)),
    )
    return solution.answer


def written(answer: str, requirement: Requirement) -> Statement | None:
    """The model's answer as a statement."""
    return statement_of(evolve(requirement, text=answer))


def complaint(verdict: Verdict) -> str:
    """What the model is told: the reason, Lean's first messages, and the goals that are open."""
    lines = [f"{verdict.status}: {verdict.reason}"]
    lines += [
        f"line {row['line']}, column {row['column']}: {row['severity']}: {row['text']}"
        for row in verdict.evidence.get("messages", ())[:SHOWN]
    ]
    lines += [f"open goal:\n{row['goal']}" for row in verdict.evidence.get("sorries", ())[:SHOWN]]
    return "\n".join(lines)


class _Readable:
    """A verifier of statements: does Lean read it as one theorem with a hole?"""

    def __init__(self, checker: Checker, requirement: Requirement) -> None:
        self._checker = checker
        self._requirement = requirement

    async def verify(self, claims: Sequence[Claim], /, *, limits: Limits) -> Sequence[Verdict]:
        """One verdict per claim, in order."""
        return [await self._one(claim, limits) for claim in claims]

    async def _one(self, claim: Claim, limits: Limits) -> Verdict:
        from scillm_certainly.results import result_of

        statement = written(claim.statement["code"], self._requirement)
        if statement is None or statement.bare:
            reason = "the answer must be `theorem requirement … := sorry` and nothing else"
            return Verdict(claim_id=claim.id, holds=False, status="malformed", reason=reason)
        policy = evolve(
            self._requirement.policy, time_s=min(limits.time_s, self._requirement.policy.time_s)
        )
        found = await self._checker.check(CheckRequest(code=statement.code("sorry"), policy=policy))
        return Verdict(
            claim_id=claim.id,
            holds=_reads(found),
            status="readable" if _reads(found) else found.status,
            reason=found.reason,
            evidence=result_of(found),
        )


def _reads(found: ProofVerdict) -> bool:
    return found.status == INCOMPLETE
