"""The word `proved` is earned: every rung below it was passed."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from scillm_certainly.grade import grade_of
from scillm_certainly.ladder import decide
from scillm_certainly.records import (
    STATUSES,
    CheckRequest,
    Declaration,
    Diagnostic,
    Facts,
    Judged,
    Lean,
    Policy,
    Position,
    Sorry,
    Target,
)

LEAN = Lean(backend="wasm", version="4.28.0", commit="c")
AXIOMS = st.lists(st.sampled_from(["propext", "sorryAx", "bad", "Lean.ofReduceBool"]), max_size=3)
NAMES = st.lists(st.sampled_from(["t", "s"]), max_size=2)
FACTS = st.builds(
    Facts,
    diagnostics=st.lists(
        st.builds(
            Diagnostic,
            severity=st.sampled_from(["error", "warning", "info"]),
            text=st.sampled_from(["unsolved goals", "(deterministic) timeout", "not exposed"]),
            start=st.just(Position(line=1, column=0)),
            kind=st.sampled_from(["", "hasSorry"]),
        ),
        max_size=2,
    ),
    sorries=st.lists(st.builds(Sorry, goal=st.just("⊢ 1 = 2")), max_size=1),
    declarations=st.lists(
        st.builds(
            Declaration,
            name=st.sampled_from(["t", "s"]),
            kind=st.sampled_from(["theorem", "def", "axiom"]),
            written=st.booleans(),
            axioms=AXIOMS,
        ),
        max_size=2,
    ),
    replayed=st.booleans(),
    replay_errors=NAMES,
    judged=st.none()
    | st.builds(
        Judged,
        targets=st.lists(st.builds(Target, name=st.just("t"), same=st.booleans()), max_size=2),
        axioms=AXIOMS.map(tuple),
        errors=st.lists(st.just("no"), max_size=1),
    ),
    examples=st.integers(0, 1),
    axioms_complete=st.booleans(),
    fault=st.sampled_from(["", "", "gone"]),
    fault_kind=st.sampled_from(["died", "timeout", "busy", "unavailable", "import", "lean"]),
)
REQUESTS = st.builds(
    CheckRequest,
    code=st.just("code"),
    reference=st.none() | st.just("reference"),
    policy=st.builds(Policy, axioms=st.sampled_from([("propext",), ("propext", "bad"), ()])),
)


@given(request=REQUESTS, facts=FACTS)
def test_proved_means_every_rung_was_passed(request: CheckRequest, facts: Facts) -> None:
    """No fault, error, gap, foreign axiom, refused replay or difference is ever called proved."""
    verdict = decide(request, facts, LEAN)

    assert verdict.status in STATUSES
    assert verdict.proved == (verdict.status == "proved")
    assert verdict.proved or verdict.reason
    if not verdict.proved:
        return
    permitted = {*request.policy.axioms, *(facts.judged.axioms if facts.judged else ())}
    assert not facts.fault
    assert facts.replayed
    assert not facts.replay_errors
    assert not facts.sorries
    assert not facts.examples
    assert all(row.severity != "error" for row in facts.diagnostics)
    assert all(set(row.axioms) <= permitted for row in facts.declarations if row.kind != "axiom")
    assert request.reference is None or facts.judged is not None
    if facts.judged is not None:
        assert facts.judged.targets
        assert all(target.same for target in facts.judged.targets)
    else:
        assert verdict.theorems


@given(request=REQUESTS, facts=FACTS)
def test_a_fault_decides_nothing_about_the_proof(request: CheckRequest, facts: Facts) -> None:
    """Whatever went wrong with Lean itself is inconclusive or unavailable."""
    verdict = decide(request, evolve(facts, fault="gone"), LEAN)

    assert verdict.status in ("inconclusive", "unavailable")
    assert verdict.limit


PROVED = Facts(declarations=[Declaration(name="t", kind="theorem")], replayed=True)


def error(text: str) -> Diagnostic:
    return Diagnostic(severity="error", text=text, start=Position(line=1, column=0))


@pytest.mark.parametrize(
    ("changes", "status", "limit"),
    [
        ({}, "proved", ""),
        ({"replayed": False}, "proved_unreplayed", ""),
        ({"examples": 2}, "proved_unreplayed", ""),
        ({"replay_errors": ["t"]}, "unsound", ""),
        ({"replay_errors": ["t"], "diagnostics": [error("(kernel) mismatch")]}, "rejected", ""),
        ({"diagnostics": [error("unsolved goals")]}, "rejected", ""),
        ({"diagnostics": [error("maximum recursion depth has been reached")]}, "inconclusive",
         "recursion_depth"),
        ({"diagnostics": [error("Unknown constant `List.map._redArg`")]}, "inconclusive",
         "no_code"),
        ({"diagnostics": [error("not unfolded because their definition is not exposed")]},
         "inconclusive", "library_body_hidden"),
        ({"diagnostics": [error("not unfolded because their definition is not exposed")],
          "axioms_complete": True}, "rejected", ""),
        ({"declarations": []}, "inconclusive", "no_theorem"),
        ({"sorries": [Sorry(goal="⊢ False")]}, "incomplete", ""),
        ({"fault": "x", "fault_kind": "import"}, "inconclusive", "missing_import"),
        ({"fault": "x", "fault_kind": "unavailable"}, "unavailable", "unavailable"),
        ({"judged": Judged(targets=[Target(name="t", same=False, detail="d")])}, "mismatch", ""),
        ({"judged": Judged()}, "inconclusive", "reference"),
        ({"judged": Judged(errors=["no"])}, "inconclusive", "reference"),
        ({"fault": "x", "fault_kind": "lean"}, "inconclusive", "worker"),
    ],
)  # fmt: skip
def test_each_rung_has_its_verdict(changes: dict[str, object], status: str, limit: str) -> None:
    """One thing wrong gives the verdict that names it."""
    verdict = decide(CheckRequest(code="c"), evolve(PROVED, **changes), LEAN)

    assert (verdict.status, verdict.limit) == (status, limit)


def test_a_backend_without_a_judge_never_meets_a_reference() -> None:
    """A reference that was not compared is not taken for one that was met."""
    verdict = decide(CheckRequest(code="c", reference="r"), PROVED, LEAN)

    assert (verdict.status, verdict.limit) == ("inconclusive", "no_judge")


@pytest.mark.parametrize(
    ("version", "grade"),
    [
        ("4.28.0", "old_kernel"),
        ("4.33.9", "old_kernel"),
        ("4.34.0-rc2", "old_kernel"),
        ("4.34.0", "full"),
        ("4.35.1", "full"),
        ("5.0.0", "full"),
        ("", "unknown"),
    ],
)
def test_a_kernel_with_published_holes_is_marked(version: str, grade: str) -> None:
    """Lean before 4.34.0 never gets the full grade (its release notes name the holes)."""
    assert grade_of(version) == grade
    if grade != "full":
        lean = evolve(LEAN, version=version)
        assert any("4.34.0" in row for row in decide(CheckRequest(code="c"), PROVED, lean).caveats)


@pytest.mark.parametrize("nested", [True, False])
def test_what_an_old_kernel_may_get_wrong_has_a_caveat(nested: bool) -> None:
    """Nested inductives under an old kernel, and programs beside the kernel, are pointed out."""
    facts = evolve(PROVED, nested=nested, user_code=True, axioms_complete=True)
    caveats = decide(CheckRequest(code="c"), facts, LEAN).caveats

    assert any(row.startswith("second_kernel") for row in caveats) == nested
    assert any(row.startswith("user_code") for row in caveats)
    assert not any(row.startswith("axioms") for row in caveats)


def test_sorry_can_be_permitted_by_name() -> None:
    """Who permits `sorryAx` gets a proof up to its gaps."""
    facts = evolve(PROVED, declarations=[Declaration(name="t", kind="theorem", axioms=["sorryAx"])])
    policy = Policy(axioms=("sorryAx",))

    assert decide(CheckRequest(code="c"), facts, LEAN).status == "incomplete"
    assert decide(CheckRequest(code="c", policy=policy), facts, LEAN).status == "proved"


def test_a_newer_kernel_with_a_whole_library_has_no_caveat() -> None:
    """Full grade, nothing hidden, no programs beside the kernel: nothing to add."""
    facts = evolve(PROVED, axioms_complete=True, nested=True)
    verdict = decide(CheckRequest(code="c"), facts, evolve(LEAN, version="4.35.0"))

    assert (verdict.grade, list(verdict.caveats)) == ("full", [])
