-- What is false, broken or unfinished: rejected or incomplete, and never proved.

-- case false_001: rejected
theorem t (n : Nat) : n + 1 = n := by simp

-- case false_002: rejected
theorem t (n : Nat) : n + 1 = n := by omega

-- case false_003: rejected
theorem t (n : Nat) : 0 < n := by omega

-- case false_004: rejected
theorem t (a b : Nat) : a + b = a := by simp

-- case false_005: rejected
theorem t (a b : Nat) : a - b + b = a := by omega

-- case false_006: rejected
theorem t (a b : Nat) : a - b = b - a := by omega

-- case false_007: rejected
theorem t (a b : Nat) (h : a ≤ b) : a < b := by omega

-- case false_008: rejected
theorem t (a b c : Nat) (h : a < b) : a < c := by omega

-- case false_009: rejected
theorem t (a b : Nat) : a < b ∨ b < a := by omega

-- case false_010: rejected
theorem t (n : Nat) : n % 2 = 1 := by omega

-- case false_011: rejected
theorem t (n : Nat) : n / 2 * 2 = n := by omega

-- case false_012: rejected
theorem t (x y : Nat) (h : x + y = 10) : x = 5 := by omega

-- case false_013: rejected
theorem t (x y : Nat) (h : 3 * x + 2 * y = 12) : y = 3 := by omega

-- case false_014: rejected
theorem t (n : Nat) (h : n < 4) : n < 3 := by omega

-- case false_015: rejected
theorem t (n : Nat) : n * n = n := by simp

-- case false_016: rejected
theorem t (a b : Nat) : max a b = a := by simp

-- case false_017: rejected
theorem t (a b : Nat) : min a b = a := by omega

-- case false_018: rejected
theorem t : 2 + 2 = 5 := rfl

-- case false_019: rejected
theorem t : 2 + 2 = 5 := by decide

-- case false_020: rejected
theorem t : 17 * 19 = 324 := by decide

-- case false_021: rejected
theorem t : 2 ^ 10 = 1000 := by decide

-- case false_022: rejected
theorem t : 100 % 7 = 3 := by decide

-- case false_023: rejected
theorem t : Nat.gcd 12 18 = 3 := by decide

-- case false_024: rejected
theorem t : (10 : Nat) = 11 := by decide

-- case false_025: rejected
theorem t : 5 ∣ 12 := by decide

-- case false_026: rejected
theorem t : ∃ n : Nat, n * n = 49 := ⟨8, rfl⟩

-- case false_027: rejected
theorem t : ∃ n : Nat, 10 < n ∧ n < 12 := ⟨12, by decide⟩

-- case false_028: rejected
theorem t : ∀ n : Fin 5, n.val < 4 := by decide

-- case false_029: rejected
theorem t : ∀ a b : Bool, (a && b) = (a || b) := by decide

-- case false_030: rejected
theorem t (a b : Int) : a - b = b - a := by omega

-- case false_031: rejected
theorem t (a : Int) : 0 ≤ a := by omega

-- case false_032: rejected
theorem t (x : Int) (h : 2 * x = 2) : x = 2 := by omega

-- case false_033: rejected
theorem t (x y : Int) (h : x + y = 5) (g : x - y = 1) : x = 2 := by omega

-- case false_034: rejected
theorem t : (-3 : Int) + 5 = -2 := by decide

-- case false_035: rejected
theorem t : (-7 : Int) / 2 = -3 := by decide

-- case false_036: rejected
theorem t (p q : Prop) (hp : p) : p ∧ q := ⟨hp, hp⟩

-- case false_037: rejected
theorem t (p q : Prop) (h : p ∨ q) : p := by grind

-- case false_038: rejected
theorem t (p q : Prop) (h : p ∨ q) : p ∧ q := by grind

-- case false_039: rejected
theorem t (p q : Prop) (h : p → q) : q → p := h

-- case false_040: rejected
theorem t (p q : Prop) (h : p → q) : ¬ p → ¬ q := by grind

-- case false_041: rejected
theorem t (p : Prop) : p := by assumption

-- case false_042: rejected
theorem t (p : Prop) : p ∧ ¬ p := by grind

-- case false_043: rejected
theorem t (p q : Prop) : ¬ (p ∧ q) ↔ ¬ p ∧ ¬ q := by grind

-- case false_044: rejected
theorem t (α : Type) (p : α → Prop) (h : ∃ x, p x) (a : α) : p a := h a

-- case false_045: rejected
theorem t (α : Type) (p : α → Prop) (h : ∃ x, p x) : ∀ x, p x := by grind

-- case false_046: rejected
theorem t (α : Type) (a b : α) : a = b := rfl

-- case false_047: rejected
theorem t (α β : Type) (f : α → β) (a b : α) (h : f a = f b) : a = b := by rw [h]

-- case false_048: rejected
theorem t (α : Type) (f g : α → α) : f = g := by funext x; rfl

-- case false_049: rejected
theorem t (α : Type) (xs ys : List α) : xs ++ ys = ys ++ xs := by simp

-- case false_050: rejected
theorem t (α : Type) (xs : List α) : xs.reverse = xs := by simp

-- case false_051: rejected
theorem t (α : Type) (xs ys : List α) : (xs ++ ys).length = xs.length := by simp

-- case false_052: rejected
theorem t (α : Type) (x : α) (xs : List α) : x ∈ xs := by simp

-- case false_053: rejected
theorem t : [1, 2, 3].length = 4 := rfl

-- case false_054: rejected
theorem t : [1, 2] ++ [3] = [1, 3, 2] := rfl

-- case false_055: rejected
theorem t : (List.range 4) = [1, 2, 3, 4] := by decide

-- case false_056: rejected
theorem t : 4 ∈ [1, 2, 3] := by decide

-- case false_057: rejected
theorem t : [1, 2, 3].map (· + 1) = [1, 2, 3] := rfl

-- case false_058: rejected
theorem t (o : Option Nat) : o ≠ none := by simp

-- case false_059: rejected
theorem t (b : Bool) : b = true := by cases b <;> rfl

-- case false_060: rejected
theorem t (a b : Bool) : (!(a && b)) = (!a && !b) := by cases a <;> cases b <;> rfl

-- case false_061: rejected
theorem t (n : Fin 3) : n.val ≤ 1 := by omega

-- case false_062: rejected
theorem t : (3 : Fin 5) + 4 = 7 - 1 := by decide

-- case false_063: rejected
theorem t : (255#8) + 1#8 = 1#8 := by decide

-- case false_064: rejected
theorem t : "ab" ++ "cd" = "abdc" := by decide

-- case false_065: rejected
theorem t (a b c d : Nat) (h : a = b) : a + c = b + d := by rw [h]

-- case false_066: rejected
theorem t (f : Nat → Nat) (h : ∀ n, f n = n + 1) : f (f 0) = 3 := by simp [h]

-- case false_067: rejected
theorem t (a b : Nat) : (a + b) * (a + b) = a * a + b * b := by grind

-- case false_068: rejected
theorem t (x y : Int) : (x + y) * (x - y) = x * x + y * y := by grind

-- case false_069: rejected
theorem t (a b : Nat) : (if a = b then 1 else 2) = 1 := by simp

-- case false_070: rejected
theorem t (n : Nat) : ∃ m, n = m + 1 := by cases n with | zero => contradiction | succ m => exact ⟨m, rfl⟩

-- case false_071: rejected
theorem t : := by

-- case false_072: rejected
theorem t (n : Nat) : n = n := by nonexistent_tactic

-- case false_073: rejected
theorem t (n : Nat) : n = n := nonexistent_lemma n

-- case false_074: rejected
theorem t (n : Nat : n = n := rfl

-- case false_075: rejected
theorem t (n : Nat) : n + 0 = n := by exact Nat.add_comm n 0

-- case false_076: rejected
theorem t : True ∧ True := trivial

-- case false_077: rejected
theorem t : 1 = 1 := by simp; rfl

-- case wrong_step: rejected
theorem t (n : Nat) : 0 + n = n := by
  induction n with
  | zero => rfl
  | succ n ih => exact Nat.le_refl n

-- case missing_case: rejected
theorem t (n : Nat) : 0 + n = n := by
  induction n with
  | zero => rfl

-- case wrong_double: rejected
def double : Nat → Nat
  | 0 => 0
  | n + 1 => double n + 2
theorem t (n : Nat) : double n = 3 * n := by
  induction n with
  | zero => rfl
  | succ n ih => simp [double, ih]

-- case not_positive: rejected
inductive Bad where
  | mk : (Bad → Nat) → Bad
theorem t : True := trivial

-- case not_terminating: rejected
def f (n : Nat) : Nat := f (n + 1)
theorem t : f 0 = 1 := by rfl

-- case universe_error: rejected
theorem t : Type 1 = (Type : Type 1) := rfl

-- case second_of_two: rejected
theorem s : 1 = 1 := rfl
theorem t : 1 = 2 := rfl

-- case first_of_two: rejected
theorem s : 1 = 2 := rfl
theorem t : 1 = 1 := rfl

-- case kernel_type: rejected
theorem t : Nat := 3

-- case ev_three: rejected
inductive Ev : Nat → Prop where
  | zero : Ev 0
  | two : Ev n → Ev (n + 2)
theorem t : Ev 3 := .two (.two .zero)

-- case prose: rejected
The sum of two even numbers is even.

-- case unclosed_comment: rejected
theorem t : 1 = 1 := rfl
/- never closed

-- case twice_declared: rejected
theorem t : 1 = 1 := rfl
theorem t : 2 = 2 := rfl

-- case by_sorry: incomplete
theorem t (n : Nat) : n = 0 := by sorry

-- case term_sorry: incomplete
theorem t (n : Nat) : n = 0 := sorry

-- case admit: incomplete
theorem t (n : Nat) : n = 0 := by admit

-- case one_case: incomplete
theorem t (n : Nat) : 0 + n = n := by
  induction n with
  | zero => rfl
  | succ n ih => sorry

-- case have_sorry: incomplete
theorem t (a b : Nat) : a = b := by
  have h : a = b := sorry
  exact h

-- case lemma_sorry: incomplete
theorem s : 1 = 2 := sorry
theorem t : 2 = 1 := s.symm

-- case def_sorry: incomplete
def x : Nat := sorry
theorem t : x = x := rfl

-- case instance_sorry: incomplete
instance : Inhabited Empty := ⟨sorry⟩
theorem t : True := trivial

-- case calc_sorry: incomplete
theorem t (a b c : Nat) : a = c :=
  calc a = b := sorry
    _ = c := sorry

-- case sorry_ax: incomplete
theorem t : 1 = 2 := sorryAx _ false

-- case sorry_synthetic: incomplete
theorem t : 1 = 2 := sorryAx _ true

-- case macro_hides_sorry: incomplete
macro "finish" : tactic => `(tactic| sorry)
theorem t (n : Nat) : n = 0 := by finish

-- case macro_redefines_omega: incomplete
macro_rules | `(tactic| omega) => `(tactic| sorry)
theorem t (n : Nat) : n = 0 := by omega

-- case term_macro_hides_sorry: incomplete
macro "obvious" : term => `(sorry)
theorem t : 1 = 2 := obvious

-- case notation_hides_sorry: incomplete
notation "qed" => sorry
theorem t : 1 = 2 := qed

-- case stop: incomplete
theorem t (n : Nat) : n = 0 := by
  stop
  omega

-- case silenced: incomplete
set_option warn.sorry false in
theorem t : 1 = 2 := sorry

-- case in_where: incomplete
theorem t (n : Nat) : n = 0 := helper n
where
  helper (n : Nat) : n = 0 := sorry

-- case through_def: incomplete
def cheat {p : Prop} : p := sorry
theorem t : 1 = 2 := cheat

-- case in_instance_argument: incomplete
class Magic (p : Prop) where out : p
instance (p : Prop) : Magic p := ⟨sorry⟩
theorem t : 1 = 2 := Magic.out

-- case first_alternative: incomplete
theorem t (n : Nat) : n = 0 := by
  first
  | omega
  | sorry

-- case repeat_sorry: incomplete
theorem t : 1 = 2 ∧ 2 = 3 := by
  constructor <;> sorry

-- case import_then_sorry: incomplete
import Std
theorem t (n : Nat) : n = 0 := by sorry

-- case unused_but_open: incomplete
theorem s : 1 = 2 := sorry
theorem t : 1 = 1 := rfl
