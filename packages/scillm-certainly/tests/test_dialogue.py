"""Tactic mode on a real Lean: goals, steps, and states that outlive its memory and its process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from scillm import portal
from scillm_certainly.backends.choose import SOURCE
from scillm_certainly.dialogue import worker
from scillm_certainly.repl import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scillm.records import Json
    from scillm_certainly.dialogue.desk import Desk
    from scillm_certainly.pool.resident import Resident

AND = "theorem both (p q r : Prop) (h : p ∧ q) (g : q → r) : p ∧ r := by sorry"
ENDLESS = "theorem t (f : Nat → Nat) (h : ∀ n, f n = f (n + 1)) : f 0 = 1 := by sorry"


@pytest.fixture
def session(lean: Resident, desk: Desk) -> Session:
    """A dialogue with the tests' Leans."""
    return Session(check=lambda request: portal.call(lean.check, request), desk=desk)


def state(session: Session, code: str, at: int = 0) -> int:
    """The number of the state at a sorry of `code`."""
    reply = session.answer({"cmd": code})
    assert "sorries" in reply, reply
    return reply["sorries"][at]["proofState"]


def step(session: Session, number: int, tactic: str) -> dict[str, Json]:
    """The reply to a tactic."""
    return session.answer({"tactic": tactic, "proofState": number})


def status(session: Session, code: str, *tactics: str, at: int = 0) -> str:
    """What is said of the proof after these tactics."""
    number, reply = state(session, code, at), {}
    for tactic in tactics:
        reply = step(session, number, tactic)
        assert "proofState" in reply, reply
        number = reply["proofState"]
    return reply["proofStatus"]


@contextmanager
def bound(desk: Desk, **changes: float) -> Iterator[None]:
    """The shared desk with another policy."""
    policy = desk.policy
    desk.policy = evolve(policy, **changes)
    try:
        yield
    finally:
        desk.policy = policy


def test_a_proof_goes_step_by_step(session: Session) -> None:
    """Every tactic gives a new state with its goals, and the last one completes the proof."""
    first = step(session, state(session, AND), "apply And.intro")
    second = step(session, first["proofState"], "exact h.left")
    third = step(session, second["proofState"], "exact g h.right")

    hypotheses = "p q r : Prop\nh : p ∧ q\ng : q → r"
    assert first["goals"] == [f"case left\n{hypotheses}\n⊢ p", f"case right\n{hypotheses}\n⊢ r"]
    assert first["proofStatus"] == second["proofStatus"] == "Incomplete: open goals remain"
    assert second["goals"] == first["goals"][1:]
    assert third == {
        "proofState": third["proofState"],
        "goals": [],
        "proofStatus": "Completed",
    }


def test_a_wrong_tactic_leaves_the_state_as_it_was(session: Session) -> None:
    """What Lean refuses is an error in its words; the state takes another tactic after it."""
    number = state(session, "theorem t (n : Nat) : n + 0 = n := by sorry")
    wrong = step(session, number, "exact Nat.zero_lt_one n")
    unknown = step(session, number, "exat 42")
    impossible = step(session, number, "cases foo")

    assert wrong["proofStatus"] == "Incomplete: contains sorry"
    assert wrong["messages"][0]["severity"] == "error"
    assert wrong["messages"][0]["pos"] == {"line": 1, "column": 6}
    assert unknown == {"message": "Lean error:\n<input>:1:1: unknown tactic"}
    assert impossible["message"].startswith("Lean error:\n")
    assert step(session, number, "rfl")["proofStatus"] == "Completed"


def test_a_branch_does_not_touch_another(session: Session) -> None:
    """One state takes many tactics, in any order."""
    number = state(session, "theorem t (p q : Prop) (hp : p) (hq : q) : p ∨ q := by sorry")  # noqa: RUF001
    left, right = step(session, number, "left"), step(session, number, "right")

    assert step(session, right["proofState"], "exact hq")["proofStatus"] == "Completed"
    assert step(session, left["proofState"], "exact hp")["proofStatus"] == "Completed"
    assert "Type mismatch" in step(session, left["proofState"], "exact hq")["message"]


def test_a_sorry_in_a_tactic_is_a_state_of_its_own(session: Session) -> None:
    """Each sorry of a step comes with its goal; the proof that holds them is not complete."""
    number = state(session, "theorem t (x : Int) : x = x := by sorry")
    cases = step(session, number, "by_cases h : x < 0")
    left = step(session, cases["proofState"], "all_goals sorry")
    have = step(session, number, "have h : 1 = 1 := by sorry")
    inner = step(session, have["sorries"][0]["proofState"], "rfl")

    assert [row["goal"].splitlines()[0] for row in left["sorries"]] == ["case pos", "case neg"]
    assert left["goals"] == []
    assert left["proofStatus"] == "Incomplete: contains sorry"
    assert have["sorries"][0]["goal"] == "x : Int\n⊢ 1 = 1"
    assert have["goals"] == ["x : Int\nh : 1 = 1\n⊢ x = x"]
    assert inner["proofStatus"] == "Incomplete: contains metavariable(s)"


@pytest.mark.parametrize(
    ("code", "tactics", "says"),
    [
        ("theorem t : 1 = 2 := sorry", ("exact t",), "Error: kernel type check failed"),
        ("theorem l : False := sorry\ntheorem t : 1 = 2 := by sorry", ("exact l.elim",), "sorry"),
        ("axiom a : 1 = 2\ntheorem t : 1 = 2 := by sorry", ("exact a",), "rests on the axiom a"),
        ("theorem t : 1 = 2 := by sorry", ("cases (sorry : False)",), "contains sorry"),
        ("theorem t : 1 = 2 := by sorry", ("exact (by native_decide)",), "contains sorry"),
        ("theorem t : 2 + 2 = 4 := by sorry", ("native_decide",), "Error: "),
        ("theorem t : 1 = 0 := sorry", ("cases 1", "rfl", "apply ?succ"), "metavariable"),
    ],
)  # fmt: skip
def test_nothing_false_is_ever_completed(
    session: Session, code: str, tactics: tuple[str, ...], says: str
) -> None:
    """A proof by itself, by a gap, by an axiom, by programs or by nothing is told as what it is."""
    told = status(session, code, *tactics, at=-1)

    assert says in told
    assert told != "Completed"


def test_what_a_program_slipped_past_the_kernel_is_found(session: Session) -> None:
    """A tactic that puts False into the environment gets an error and no completed proof."""
    code = """import Lean
open Lean Elab Tactic
elab "slip" : tactic => do
  let t := Declaration.thmDecl
    { name := `boom, levelParams := [], type := mkConst ``False, value := mkConst ``True.intro }
  match (← getEnv).addDeclCore 0 t none (doCheck := false) with
  | .ok e => setEnv e
  | .error _ => throwError "no"
theorem t : 1 = 2 := by sorry"""

    assert status(session, code, "slip", "exact boom.elim") == (
        "Error: kernel type check failed: the kernel refuses boom"
    )


def test_goals_of_every_form_are_states(session: Session) -> None:
    """Terms, instances, opened names, `match` and earlier parts of the same text are all there."""
    instance = "def d (A : Type) [Inhabited A] : A := sorry"
    opened = "open Nat in\ntheorem t (n : Nat) : succ n ≠ 0 := sorry"
    match = "theorem t (m : Nat) : (match m with | 0 => 1 | k + 1 => k) ≥ 0 := by sorry"
    earlier = "def f := 3\ntheorem t : f = 3 := by sorry"
    both = "theorem t : 1 = 1 ∧ 2 = 2 := by\n  constructor\n  sorry\n  sorry"

    assert status(session, instance, "exact default") == "Completed"
    assert status(session, opened, "exact succ_ne_zero n") == "Completed"
    assert status(session, match, "exact Nat.zero_le _") == "Completed"
    assert status(session, earlier, "rfl") == "Completed"
    assert session.answer({"cmd": both})["sorries"][0]["goal"] == "case left\n⊢ 1 = 1"
    assert status(session, both, "rfl", at=1) == "Completed"


def test_a_search_does_not_find_what_is_to_be_proved(session: Session) -> None:
    """`exact?` closes no goal with the declaration that it stands in."""
    told = step(session, state(session, "theorem only : False := by sorry"), "exact?")

    assert "could not close the goal" in told["message"]


def test_states_outlive_leans_memory(session: Session, desk: Desk) -> None:
    """A state keeps its number however many come after it; Lean itself holds few at a time."""
    root = state(session, "theorem t (a b c : Nat) (h : a = b) (g : b = c) : a = c := by sorry")
    number = root
    for turn in range(8):
        number = step(session, number, f"have h{turn} := h")["proofState"]
    early = step(session, root + 1, "exact h.trans g")
    late = step(session, number, "exact h7.trans g")

    assert early["proofStatus"] == late["proofStatus"] == "Completed"
    assert desk.held <= 4


def test_states_outlive_leans_process(session: Session, desk: Desk) -> None:
    """A tactic that does not end is ended with its Lean, in time; every state is there after it."""
    before = step(session, state(session, AND), "apply And.intro")["proofState"]
    slow = state(session, ENDLESS)
    starts = desk.starts
    with bound(desk, time_s=1.0):
        endless = step(session, slow, "repeat' rw [h]")
    after = step(session, before, "exact h.left")

    assert endless == {"message": "certainly: Lean was not done within 1 s, and was ended."}
    assert step(session, after["proofState"], "exact g h.right")["proofStatus"] == "Completed"
    assert desk.starts == starts + 1


def test_lean_counts_its_work_for_each_step(session: Session, desk: Desk) -> None:
    """A tactic has as much of Lean's own measure of work as a declaration, each one anew."""
    code = "theorem t (a b c d : Nat) : (a + b) * (c + d) = (d + c) * (b + a) := by sorry"
    number, enough = state(session, code), state(session, f"{code}\n")
    with bound(desk, heartbeats=80):
        told = step(session, number, "grind")
        for _ in range(9):
            number = step(session, number, "have h := a")["proofState"]

    assert "maximum number of heartbeats (80)" in told["message"]
    assert step(session, number, "exact sorry")["proofStatus"] == "Incomplete: contains sorry"
    assert step(session, enough, "grind")["proofStatus"] == "Completed"


def test_a_state_is_written_down_and_taken_up_again(session: Session, tmp_path: Path) -> None:
    """A pickled state is a state of any later dialogue, with its goals."""
    first = step(session, state(session, AND), "apply And.intro")
    kept = str(tmp_path / "state")
    shown = session.answer({"pickleTo": kept, "proofState": first["proofState"]})
    taken = session.answer({"unpickleProofStateFrom": kept})
    goals = taken["goals"]
    middle = step(session, taken["proofState"], "exact h.left")

    assert shown == first
    assert goals == first["goals"]
    assert step(session, middle["proofState"], "exact g h.right")["proofStatus"] == "Completed"
    assert "is no environment" in session.answer({"unpickleEnvFrom": kept})["message"]


def test_a_pickle_that_leads_nowhere_is_refused(session: Session, tmp_path: Path) -> None:
    """A document of the right form whose tactic Lean refuses is a message, not a state."""
    kept = tmp_path / "state"
    session.answer({"pickleTo": str(kept), "proofState": state(session, AND)})
    text = kept.read_text(encoding="utf-8")
    kept.write_text(text.replace('"steps": []', '"steps": [["exat", null]]'), encoding="utf-8")
    told = session.answer({"unpickleProofStateFrom": str(kept)})

    assert "cannot be reached" in told["message"]


def test_all_tactics_and_root_goals_are_told(session: Session) -> None:
    """Every tactic and every proof's first goal comes with its place and a state to step from."""
    first = session.answer({"cmd": "def one := 1\n"})
    code = "theorem t : one + 1 = 2 := by\n  have h : one = 1 := rfl\n  rw [h]"
    told = session.answer({"cmd": code, "env": first["env"], "allTactics": True, "rootGoals": True})
    have, rw = told["tactics"][0], told["tactics"][-1]
    (root,) = told["sorries"]

    assert have["tactic"] == "have h : one = 1 := rfl"
    assert have["goals"] == root["goal"] == "⊢ one + 1 = 2"
    assert have["pos"] == {"line": 2, "column": 2}
    assert "one" in have["usedConstants"]
    assert root["pos"] == root["endPos"] == {"line": 1, "column": 27}
    assert step(session, root["proofState"], "rfl")["proofStatus"] == "Completed"
    assert rw["goals"].startswith("h : one = 1")


def test_the_program_is_the_checkers_first_part_and_its_own() -> None:
    """Tactic mode's Lean has none of the checker's verdicts in it, and leaves no file behind."""
    text = worker.program()

    assert text.startswith(SOURCE.read_text(encoding="utf-8")[:1000])
    assert "judged" not in text
    assert "certainly_serve" not in text
