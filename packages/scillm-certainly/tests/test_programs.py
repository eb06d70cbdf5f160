"""Which texts Lean may run programs of: everything but what is known to hold none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm_certainly.programs import may_corrupt, runs_programs

PLAIN = {
    "theorem": "theorem t (a b : Nat) : a + b = b + a := by omega",
    "imports": "import Std\nimport Init.Data.List.Basic\ntheorem t : True := trivial",
    "no import": "theorem import_ : True := trivial",
    "simp lemma": "@[simp, grind =] theorem t (n : Nat) : n + 0 = n := rfl",
    "priority": "@[simp 1100, local instance] def d := 1",
    "attribute": "attribute [local simp] Nat.add_comm",
    "notation": 'local infixl:65 " <+> " => Nat.add\nnotation "two" => 2',
    "recursion": "@[elab_as_elim] def f : Nat → Nat | 0 => 0 | n + 1 => f n\ntermination_by n => n",
    "commands": "#check Nat\n#print axioms t\n#reduce 1 + 1\n#guard_msgs in #check 1",
    "array": "def a := #[1, 2, 3]\ntheorem t : #[x, y].size = 2 := rfl",
    "dollar": "def g := id <| f $ 3",
    "name literal": "theorem t : `a = `a := rfl",
    "default value": "def f (x : Nat := 3) (_h : x = x := rfl) := x\ntheorem t : f = 3 := rfl",
    "structure": "def s : S := { x := 1 }\ntheorem t : s = ⟨1⟩ := by simp only [s] -- (as in: x)",
    "own evaluator": "def eval : E → Nat | .num n => n\ntheorem t : eval (.num 1) = 1 := rfl",
}
RUNNING = {
    "eval": "#eval 1",
    "eval!": "#eval! 1",
    "unknown command": "#time theorem t : True := trivial",
    "guard": "#guard true",
    "macro": 'macro "m" : tactic => `(tactic| rfl)',
    "macro_rules": "macro_rules | `(x) => `(y)",
    "quotation alone": "def f := `(1 + 1)",
    "splice": "def f := $x",
    "syntax": 'syntax "x" evil : term',
    "elaborator": 'elab "x" : term => do pure (mkNatLit 1)',
    "by_elab": "def x : Nat := by_elab do pure (mkNatLit 1)",
    "run_cmd": "run_cmd pure ()",
    "run_tac": "theorem t : True := by run_tac pure ()",
    "initialize": "initialize x : Nat ← pure 1",
    "simproc": "simproc s (_ + _) := fun _ => pure .continue",
    "grind propagator": "grind_propagator p ↑Eq := fun _ => pure ()",
    "native_decide": "theorem t : True := by native_decide",
    "native, as an option": "theorem t : True := by decide (config := { native := true })",
    "native, as a flag": "theorem t : True := by decide +native",
    "kernel runs code": "theorem t : f = true := Lean.ofReduceBool f true rfl",
    "reduceBool by another name": "open Lean renaming reduceBool → innocent",
    "quoted name": "def x := «reduceNat»",
    "default by a constant": "theorem t (h : autoParam True tac) : True := h",
    "SAT": "theorem t : x = x := by bv_decide",
    "unsafe": "unsafe def f := 1",
    "extern": '@[extern "lean_x"] opaque f : Nat',
    "implemented_by": "@[implemented_by g] def f := 1",
    "unknown attribute": "@[command_thing] def f := 1",
    "attribute with room": "attribute\n  [init] f",
    "attribute behind a comment": "attribute /- -/ [init] f",
    "nested brackets": "@[simp [x]] def f := 1",
    "unclosed": "@[simp",
    "Lean itself": "import Lean\ntheorem t : True := trivial",
    "Lean behind a comment": "import /- -/ Lean",
    "Mathlib": "import Mathlib",
    "import all": "import all Lake",
    "Lean glued to a comment": "import/- -/Lean",
    "a quoted import": "import «Lean»",
    "meta": "meta def f := 1",
    "option": "theorem t : p := by simp (maxSteps := f 3)",
    "option with room": "theorem t : p := by grind (\n  splits\n  := f 3)",
    "option after a comment": "theorem t : p := by omega (/- ( -/ splitNatAbs /- ) -/ := f 3 == 1)",
    "option before a comment": "theorem t : p := by decide (kernel-- x\n:= f 3 == 1)",
    "quoted option": "theorem t : p := by rw («config» := f 3) [h]",
    "widget": "show_panel_widgets [w with f 3]",
}


@pytest.mark.parametrize("code", PLAIN.values(), ids=PLAIN.keys())
def test_plain_files_are_checked_by_one_worker(code: str) -> None:
    """Definitions, lemmas, notation and tactics hold nothing that Lean would run."""
    assert not runs_programs(code)


@pytest.mark.parametrize("code", RUNNING.values(), ids=RUNNING.keys())
def test_a_file_that_may_run_something_is_known(code: str) -> None:
    """Each way of Lean to run a file's own code shows in its text."""
    assert runs_programs(code)


@given(st.text(), st.sampled_from([*RUNNING.values()]), st.text())
def test_nothing_around_it_hides_a_program(before: str, code: str, after: str) -> None:
    """Whatever stands before and after, the program is seen."""
    assert runs_programs(f"{before}\n{code}\n{after}")


@pytest.mark.parametrize(
    ("code", "corrupts"),
    [("axiom a : 1 < 0\n#eval 1", True), ("#eval 1", False), ("theorem sorry_not : True", False)],
)
def test_false_proofs_wear_a_worker_out(code: str, corrupts: bool) -> None:
    """A program beside a false proof could reach past its arrays; its worker is replaced."""
    assert may_corrupt(code) == corrupts
