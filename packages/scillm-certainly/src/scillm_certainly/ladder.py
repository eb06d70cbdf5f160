"""From what a worker saw to a verdict. Pure.

The order of the rungs is the meaning: a file that was tampered with is unsound whatever else is
wrong with it, and nothing is proved unless every rung below was passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve, frozen

from scillm_certainly import grade
from scillm_certainly.limits import limit_of
from scillm_certainly.records import (
    INCOMPLETE,
    INCONCLUSIVE,
    MISMATCH,
    PROVED,
    PROVED_UNREPLAYED,
    REJECTED,
    UNAVAILABLE,
    UNSOUND,
    CheckRequest,
    Declaration,
    Facts,
    Lean,
    ProofVerdict,
)

SORRY = "sorryAx"
SAID_CHARS = 200
LIMIT_TEXTS = {
    "heartbeats": "Lean's own bound on work was reached; raise heartbeats or help the tactic",
    "recursion_depth": "Lean's bound on recursion depth was reached",
    "memory": "Lean ran out of memory",
    "missing_import": "a module that the file imports is not installed with this Lean",
    "no_code": "the embedded library lacks the compiled code this needs; use a native Lean",
    "library_body_hidden": "the embedded library hides the body of a definition that this step "
    "unfolds; use a native Lean",
}


@frozen(kw_only=True)
class Finding:
    """A rung that was not passed."""

    status: str
    reason: str
    limit: str = ""
    culprits: Sequence[str] = ()


Rung = Callable[[CheckRequest, Facts], "Finding | None"]


def decide(request: CheckRequest, facts: Facts, lean: Lean) -> ProofVerdict:
    """The verdict on `request` after `facts`, seen by `lean`."""
    finding = first_failure(request, facts)
    accepted = theorems(facts) if finding is None else ()
    used = sorted({axiom for row in facts.declarations for axiom in row.axioms})
    verdict = ProofVerdict(
        id=request.id,
        status=PROVED,
        theorems=accepted,
        diagnostics=facts.diagnostics,
        sorries=facts.sorries,
        axioms=used,
        axioms_complete=facts.axioms_complete,
        replay=replay_of(facts),
        judged=facts.judged,
        grade=grade.grade_of(lean.version),
        caveats=() if facts.fault else grade.caveats_of(facts, lean),
        lean=lean,
        us=facts.us,
        declarations=facts.declarations,
    )
    if finding is not None:
        return evolve(
            verdict,
            status=finding.status,
            reason=finding.reason,
            limit=finding.limit,
            culprits=finding.culprits,
        )
    if not facts.replayed:
        return evolve(
            verdict,
            status=PROVED_UNREPLAYED,
            reason="this backend has no second kernel pass; Lean itself accepted the file",
        )
    if facts.examples:
        return evolve(
            verdict,
            status=PROVED_UNREPLAYED,
            reason=f"{facts.examples} of the claims are examples, which leave nothing to put "
            "through the kernel again; state them as theorems",
        )
    return verdict


def first_failure(request: CheckRequest, facts: Facts) -> Finding | None:
    """The first rung that was not passed."""
    for rung in RUNGS:
        finding = rung(request, facts)
        if finding is not None:
            return finding
    return None


def theorems(facts: Facts) -> tuple[Declaration, ...]:
    """The theorems that the file itself states."""
    return tuple(row for row in facts.declarations if row.kind == "theorem" and row.written)


def replay_of(facts: Facts) -> str:
    """How the second kernel pass went, in one word."""
    if facts.fault or not facts.replayed:
        return "not run"
    return "failed" if facts.replay_errors else "ok"


def _fault(_request: CheckRequest, facts: Facts) -> Finding | None:
    if not facts.fault:
        return None
    if facts.fault_kind in ("unavailable", "busy"):
        return Finding(status=UNAVAILABLE, reason=facts.fault, limit=facts.fault_kind)
    limit = {"import": "missing_import"}.get(facts.fault_kind, facts.fault_kind)
    if facts.fault_kind == "lean":
        limit = "worker"
    return Finding(status=INCONCLUSIVE, reason=facts.fault, limit=limit)


def _reference(request: CheckRequest, facts: Facts) -> Finding | None:
    """A reference that is itself wrong decides nothing about the answer."""
    if request.reference is None and facts.judged is None:
        return None
    if facts.judged is None:
        # A backend without a judge must not pass for one that found no difference.
        return Finding(
            status=INCONCLUSIVE,
            limit="no_judge",
            reason="this backend cannot compare with a reference",
        )
    if facts.judged.errors:
        return Finding(
            status=INCONCLUSIVE,
            limit="reference",
            reason=f"the reference itself is not accepted: {facts.judged.errors[0]}",
        )
    if not facts.judged.targets:
        return Finding(
            status=INCONCLUSIVE,
            limit="reference",
            reason="the reference declares nothing to compare with",
        )
    return None


def _tampering(_request: CheckRequest, facts: Facts) -> Finding | None:
    if not facts.replay_errors or _refused_at_once(facts):
        return None
    names = facts.replay_errors
    return Finding(
        status=UNSOUND,
        culprits=names,
        reason=f"the kernel refuses {_listed(names)} when asked a second time",
    )


def _refused_at_once(facts: Facts) -> bool:
    """Whether Lean's own kernel refused something: then it was an error, and is told as one."""
    return any(
        row.severity == "error" and row.text.startswith("(kernel)") for row in facts.diagnostics
    )


def _axioms(request: CheckRequest, facts: Facts) -> Finding | None:
    declared = () if facts.judged is None else facts.judged.axioms
    permitted = {*request.policy.axioms, *declared, SORRY}
    culprits = [
        row.name
        for row in facts.declarations
        if row.kind != "axiom" and not permitted.issuperset(row.axioms)
    ]
    if not culprits:
        return None
    first = next(row for row in facts.declarations if row.name == culprits[0])
    foreign = [axiom for axiom in first.axioms if axiom not in permitted]
    return Finding(
        status=UNSOUND,
        culprits=culprits,
        reason=f"{first.name} rests on {_listed(foreign)}, which the policy does not permit",
    )


def _errors(_request: CheckRequest, facts: Facts) -> Finding | None:
    errors = [row for row in facts.diagnostics if row.severity == "error"]
    if not errors:
        return None
    first = errors[0]
    limit = limit_of(errors, library_hidden=not facts.axioms_complete)
    where = f"line {first.start.line}, column {first.start.column}"
    text = _shortened(first.text)
    if limit:
        return Finding(
            status=INCONCLUSIVE, limit=limit, reason=f"{LIMIT_TEXTS[limit]} ({where}: {text})"
        )
    return Finding(status=REJECTED, reason=f"{where}: {text}")


def _sorries(request: CheckRequest, facts: Facts) -> Finding | None:
    culprits = [row.name for row in facts.declarations if SORRY in row.axioms]
    warned = [row for row in facts.diagnostics if row.kind == "hasSorry"]
    if not culprits and not warned and not facts.sorries:
        return None
    if SORRY in request.policy.axioms:
        return None
    where = f"{_listed(culprits)} rests on sorry" if culprits else "the file contains sorry"
    return Finding(status=INCOMPLETE, culprits=culprits, reason=where)


def _mismatch(_request: CheckRequest, facts: Facts) -> Finding | None:
    if facts.judged is None:
        return None
    wrong = [row for row in facts.judged.targets if not row.same]
    if not wrong:
        return None
    return Finding(
        status=MISMATCH,
        culprits=[row.name for row in wrong],
        reason=f"{wrong[0].name} is not what the reference states: {wrong[0].detail}",
    )


def _claims(_request: CheckRequest, facts: Facts) -> Finding | None:
    if theorems(facts) or facts.examples or facts.judged is not None:
        return None
    return Finding(
        status=INCONCLUSIVE,
        limit="no_theorem",
        reason="the code is accepted, but it states no theorem",
    )


def _shortened(text: str) -> str:
    """Its first paragraph on one line; the whole of it stands among the messages."""
    line = " ".join(text.strip().split("\n\n", 1)[0].split())
    return line if len(line) <= SAID_CHARS else f"{line[:SAID_CHARS]}…"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


RUNGS: Sequence[Rung] = (
    _fault,
    _tampering,
    _axioms,
    _errors,
    _reference,
    _sorries,
    _mismatch,
    _claims,
)
