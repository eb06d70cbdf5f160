"""445 pieces of Lean with known answers: nothing false, unfinished or tampered is ever proved.

The files under `cases/` hold them: `-- case NAME: STATUS [LIMIT]`, code, and where there is one a
reference after `-- reference`. Every run takes a sample, and all of the tampering that needs no
program inside Lean (each of which costs a new reader); the deep run takes everything.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import frozen
from scillm import portal
from scillm_certainly.records import STATUSES, CheckRequest, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scillm_certainly.pool.resident import Resident

CASES = Path(__file__).with_name("cases")
HEAD = re.compile(r"^-- case (\S+): (\S+)(?: (\S+))?$", re.MULTILINE)
EVERY = {"accepted": 9, "refused": 7, "tampered": 1}
ONE_WITH_USER_CODE = "kernel_bypassed"
PROGRAM = re.compile(r"import Lean|eval|macro|notation|infix|syntax|native|unsafe|reduceBool")
"""Most files with programs, each of which costs a new reader: seconds, and nothing else."""


@frozen
class Case:
    """One piece of Lean and its known answer."""

    file: str
    name: str
    status: str
    limit: str
    code: str
    reference: str | None


def cases(file: str) -> Iterator[Case]:
    text = (CASES / f"{file}.lean").read_text(encoding="utf-8")
    heads = list(HEAD.finditer(text))
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.end() : None if following is None else following.start()].strip("\n")
        code, _, reference = body.partition("\n-- reference\n")
        yield Case(file, head[1], head[2], head[3] or "", code, reference or None)


ALL = [case for file in EVERY for case in cases(file)]


def is_quick(number: int, case: Case) -> bool:
    if PROGRAM.search(case.code):
        return case.name == ONE_WITH_USER_CODE
    return number % EVERY[case.file] == 0


def marked(number: int, case: Case) -> object:
    marks = () if is_quick(number, case) else (pytest.mark.deep,)
    return pytest.param(case, id=f"{case.file}-{case.name}", marks=marks)


@pytest.mark.parametrize("case", [marked(number, case) for number, case in enumerate(ALL)])
def test_each_piece_gets_its_known_answer(lean: Resident, case: Case) -> None:
    """The verdict is the known one; some were corrected after Lean was asked."""
    request = CheckRequest(
        id=case.name, code=case.code, reference=case.reference, policy=Policy(time_s=120)
    )
    verdict = portal.call(lean.check, request)

    assert (verdict.status, verdict.reason) == (case.status, verdict.reason)
    assert not case.limit or verdict.limit == case.limit
    assert verdict.id == case.name
    assert verdict.lean is not None
    assert verdict.lean.commit
    assert verdict.proved == (case.status == "proved")


def test_the_set_is_large_and_a_third_of_it_must_not_be_accepted() -> None:
    """At least 300 pieces, at least a third of them false, unfinished or tampered."""
    names = [case.name for case in ALL]
    refused = [case for case in ALL if case.status != "proved"]

    assert len(ALL) >= 300
    assert len(refused) * 3 >= len(ALL)
    assert len(set(names)) == len(names)
    assert {case.status for case in ALL} == {*STATUSES} - {"unavailable"}


def test_a_verdict_says_what_it_rests_on(lean: Resident) -> None:
    """Statement, axioms, replay, times and the Lean that answered come with every proof."""
    code = "theorem t (n : Nat) : n + 0 = n ∧ (n = n ↔ True) := by simp"
    verdict = portal.call(lean.check, CheckRequest(id="a", code=code))

    assert [row.name for row in verdict.theorems] == ["t"]
    assert verdict.theorems[0].statement == "∀ (n : Nat), n + 0 = n ∧ (n = n ↔ True)"
    assert set(verdict.axioms) <= {"propext", "Quot.sound", "Classical.choice"}
    assert not verdict.axioms_complete
    assert verdict.replay == "ok"
    assert verdict.grade == "old_kernel"
    assert {"import", "elab", "replay", "judge"} <= set(verdict.us)
    assert verdict.lean is not None
    assert verdict.lean.package.startswith("sha512-")


def test_a_policy_decides_about_axioms(lean: Resident) -> None:
    """An axiom is permitted by its name, for the request that names it and for no other."""
    code = "axiom ground : 2 + 2 = 5\ntheorem t : 2 + 2 = 5 := ground"
    refused = portal.call(lean.check, CheckRequest(code=code))
    policy = Policy(axioms=("ground",))
    permitted = portal.call(lean.check, CheckRequest(code=code, policy=policy))

    assert (refused.status, refused.culprits) == ("unsound", ["t"])
    assert permitted.status == "proved"
    assert permitted.axioms == ["ground"]


def test_goals_are_shown_where_something_is_missing(lean: Resident) -> None:
    """Each `sorry` comes with its goal and its place."""
    code = "theorem t (n : Nat) (h : n > 3) : n > 2 := by\n  sorry"
    verdict = portal.call(lean.check, CheckRequest(code=code))

    assert verdict.sorries[0].goal == "n : Nat\nh : n > 3\n⊢ n > 2"
    assert verdict.sorries[0].start is not None
    assert (verdict.sorries[0].start.line, verdict.sorries[0].start.column) == (2, 2)


def test_no_request_sees_another(lean: Resident) -> None:
    """What one request declares is unknown to the next, and may be declared again."""
    first = portal.call(lean.check, CheckRequest(code="theorem mine : 1 = 1 := rfl"))
    again = portal.call(lean.check, CheckRequest(code="theorem mine : 1 = 1 := by rfl"))
    seen = portal.call(lean.check, CheckRequest(code="theorem t : 1 = 1 := mine"))

    assert (first.status, again.status, seen.status) == ("proved", "proved", "rejected")
