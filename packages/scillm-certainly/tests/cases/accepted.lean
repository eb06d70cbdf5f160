-- Statements that hold, with proofs: each is proved.

-- case line_001: proved
theorem t (n : Nat) : n + 0 = n := rfl

-- case line_002: proved
theorem t (n : Nat) : 0 + n = n := by simp

-- case line_003: proved
theorem t (n : Nat) : 0 + n = n := Nat.zero_add n

-- case line_004: proved
theorem t (a b : Nat) : a + b = b + a := Nat.add_comm a b

-- case line_005: proved
theorem t (a b : Nat) : a + b = b + a := by omega

-- case line_006: proved
theorem t (a b c : Nat) : a + b + c = a + (b + c) := Nat.add_assoc a b c

-- case line_007: proved
theorem t (a b c : Nat) : a + b + c = c + b + a := by omega

-- case line_008: proved
theorem t (a b : Nat) : a * b = b * a := Nat.mul_comm a b

-- case line_009: proved
theorem t (a b c : Nat) : a * (b + c) = a * b + a * c := Nat.mul_add a b c

-- case line_010: proved
theorem t (a b c : Nat) : (a + b) * c = a * c + b * c := Nat.add_mul a b c

-- case line_011: proved
theorem t (n : Nat) : n * 1 = n := by simp

-- case line_012: proved
theorem t (n : Nat) : 1 * n = n := by simp

-- case line_013: proved
theorem t (n : Nat) : n * 0 = 0 := rfl

-- case line_014: proved
theorem t (n : Nat) : n < n + 1 := Nat.lt_succ_self n

-- case line_015: proved
theorem t (n : Nat) : n ≤ n := Nat.le_refl n

-- case line_016: proved
theorem t (a b : Nat) (h : a < b) : a + 1 ≤ b := by omega

-- case line_017: proved
theorem t (a b : Nat) (h : a ≤ b) : a ≤ b + 7 := by omega

-- case line_018: proved
theorem t (a b c : Nat) (h : a < b) (g : b < c) : a < c := Nat.lt_trans h g

-- case line_019: proved
theorem t (a b c : Nat) (h : a < b) (g : b < c) : a + 1 < c := by omega

-- case line_020: proved
theorem t (a b : Nat) (h : a ≤ b) (g : b ≤ a) : a = b := Nat.le_antisymm h g

-- case line_021: proved
theorem t (a b : Nat) : a ≤ b ∨ b ≤ a := Nat.le_total a b

-- case line_022: proved
theorem t (a b : Nat) : a < b ∨ a = b ∨ b < a := by omega

-- case line_023: proved
theorem t (a b : Nat) : a - b ≤ a := Nat.sub_le a b

-- case line_024: proved
theorem t (a b : Nat) (h : b ≤ a) : a - b + b = a := Nat.sub_add_cancel h

-- case line_025: proved
theorem t (a b : Nat) : a + b - b = a := by simp

-- case line_026: proved
theorem t (n : Nat) : n - n = 0 := by simp

-- case line_027: proved
theorem t (n : Nat) (h : n % 2 = 1) : ∃ k, n = 2 * k + 1 := ⟨n / 2, by omega⟩

-- case line_028: proved
theorem t (n : Nat) : n % 2 = 0 ∨ n % 2 = 1 := by omega

-- case line_029: proved
theorem t (n : Nat) : n % 3 < 3 := by omega

-- case line_030: proved
theorem t (n : Nat) (h : 0 < n) : n / n = 1 := Nat.div_self h

-- case line_031: proved
theorem t (n : Nat) : n / 1 = n := by simp

-- case line_032: proved
theorem t (n : Nat) : n / 2 ≤ n := by omega

-- case line_033: proved
theorem t (a b : Nat) (h : 2 * a = 2 * b) : a = b := by omega

-- case line_034: proved
theorem t (a b : Nat) (h : a + 3 = b + 3) : a = b := by omega

-- case line_035: proved
theorem t (x y : Nat) (h : x + y = 10) (g : x - y = 4) (k : y ≤ x) : x = 7 := by omega

-- case line_036: proved
theorem t (x y : Nat) (h : 3 * x + 2 * y = 12) (g : x = 2) : y = 3 := by omega

-- case line_037: proved
theorem t (n : Nat) (h : n < 4) : n * n < 16 := by have := Nat.mul_lt_mul'' h h; omega

-- case line_038: proved
theorem t (n : Nat) (h : n ≠ 0) : 0 < n := Nat.pos_of_ne_zero h

-- case line_039: proved
theorem t (n : Nat) : ¬ n < n := Nat.lt_irrefl n

-- case line_040: proved
theorem t (n : Nat) : n.succ ≠ 0 := Nat.succ_ne_zero n

-- case line_041: proved
theorem t (m n : Nat) (h : m.succ = n.succ) : m = n := Nat.succ.inj h

-- case line_042: proved
theorem t (n : Nat) : 2 ∣ 2 * n := ⟨n, rfl⟩

-- case line_043: proved
theorem t (n : Nat) : 2 ∣ n * 2 := ⟨n, Nat.mul_comm n 2⟩

-- case line_044: proved
theorem t (a b c : Nat) (h : a ∣ b) (g : b ∣ c) : a ∣ c := Nat.dvd_trans h g

-- case line_045: proved
theorem t (a b : Nat) : min a b ≤ a := Nat.min_le_left a b

-- case line_046: proved
theorem t (a b : Nat) : max a b = max b a := Nat.max_comm a b

-- case line_047: proved
theorem t (a b : Nat) : a ≤ max a b := Nat.le_max_left a b

-- case line_048: proved
theorem t : 2 + 2 = 4 := rfl

-- case line_049: proved
theorem t : 2 + 2 = 4 := by decide

-- case line_050: proved
theorem t : 17 * 19 = 323 := by decide

-- case line_051: proved
theorem t : 2 ^ 10 = 1024 := by decide

-- case line_052: proved
theorem t : 100 % 7 = 2 := by decide

-- case line_053: proved
theorem t : Nat.gcd 12 18 = 6 := by decide

-- case line_054: proved
theorem t : (10 : Nat) ≠ 11 := by decide

-- case line_055: proved
theorem t : ¬ (5 ∣ 12) := by decide

-- case line_056: proved
theorem t : ∃ n : Nat, n * n = 49 := ⟨7, rfl⟩

-- case line_057: proved
theorem t : ∃ n : Nat, 10 < n ∧ n < 12 := ⟨11, by decide⟩

-- case line_058: proved
theorem t : ∀ n : Fin 5, n.val < 5 := by decide

-- case line_059: proved
theorem t : ∀ a b : Bool, (a && b) = (b && a) := by decide

-- case line_060: proved
theorem t : ∀ a b c : Bool, (a || (b && c)) = ((a || b) && (a || c)) := by decide

-- case line_061: proved
theorem t : ∀ n : Nat, ∃ m, n < m := fun n => ⟨n + 1, Nat.lt_succ_self n⟩

-- case line_062: proved
theorem t (a b : Int) : a + b = b + a := Int.add_comm a b

-- case line_063: proved
theorem t (a : Int) : a - a = 0 := by simp

-- case line_064: proved
theorem t (a b : Int) : a - b = -(b - a) := by omega

-- case line_065: proved
theorem t (a : Int) : -(-a) = a := by simp

-- case line_066: proved
theorem t (a b : Int) (h : a < b) : ¬ b ≤ a := by omega

-- case line_067: proved
theorem t (a b c : Int) (h : a ≤ b) : a + c ≤ b + c := by omega

-- case line_068: proved
theorem t (x y : Int) (h : x + y = 5) (g : x - y = 1) : x = 3 := by omega

-- case line_069: proved
theorem t (x : Int) (h : 2 * x = 1) : False := by omega

-- case line_070: proved
theorem t (x : Int) (h : 0 ≤ x) : 0 ≤ 3 * x := by omega

-- case line_071: proved
theorem t (a b c : Int) : a * (b + c) = a * b + a * c := Int.mul_add a b c

-- case line_072: proved
theorem t : (-3 : Int) + 5 = 2 := by decide

-- case line_073: proved
theorem t : (-7 : Int) / 2 = -4 := by decide

-- case line_074: proved
theorem t (p q : Prop) (hp : p) (hq : q) : p ∧ q := ⟨hp, hq⟩

-- case line_075: proved
theorem t (p q : Prop) (h : p ∧ q) : q ∧ p := ⟨h.2, h.1⟩

-- case line_076: proved
theorem t (p q : Prop) (h : p ∧ q) : q ∧ p := by grind

-- case line_077: proved
theorem t (p q : Prop) (h : p ∨ q) : q ∨ p := h.symm

-- case line_078: proved
theorem t (p q : Prop) (h : p ∨ q) : q ∨ p := by cases h with | inl h => exact .inr h | inr h => exact .inl h

-- case line_079: proved
theorem t (p q r : Prop) (h : p → q) (g : q → r) : p → r := g ∘ h

-- case line_080: proved
theorem t (p q r : Prop) (h : p → q) (g : q → r) : p → r := fun x => g (h x)

-- case line_081: proved
theorem t (p q r : Prop) : (p ∧ q → r) ↔ (p → q → r) := ⟨fun h a b => h ⟨a, b⟩, fun h c => h c.1 c.2⟩

-- case line_082: proved
theorem t (p q r : Prop) : p ∧ (q ∨ r) ↔ (p ∧ q) ∨ (p ∧ r) := by grind

-- case line_083: proved
theorem t (p q r : Prop) : p ∨ (q ∧ r) ↔ (p ∨ q) ∧ (p ∨ r) := by grind

-- case line_084: proved
theorem t (p : Prop) : p → p := id

-- case line_085: proved
theorem t (p : Prop) : ¬ (p ∧ ¬ p) := fun h => h.2 h.1

-- case line_086: proved
theorem t (p : Prop) (h : p) : ¬ ¬ p := fun g => g h

-- case line_087: proved
theorem t (p : Prop) : ¬ ¬ p → p := Classical.byContradiction

-- case line_088: proved
theorem t (p : Prop) : p ∨ ¬ p := Classical.em p

-- case line_089: proved
theorem t (p q : Prop) : ¬ (p ∨ q) ↔ ¬ p ∧ ¬ q := by grind

-- case line_090: proved
theorem t (p q : Prop) : ¬ (p ∧ q) ↔ ¬ p ∨ ¬ q := by grind

-- case line_091: proved
theorem t (p q : Prop) (h : p → q) : ¬ q → ¬ p := fun nq hp => nq (h hp)

-- case line_092: proved
theorem t (p q : Prop) : ((p → q) → p) → p := by grind

-- case line_093: proved
theorem t (p : Prop) : False → p := False.elim

-- case line_094: proved
theorem t (p : Prop) : p ∧ True ↔ p := by simp

-- case line_095: proved
theorem t (p : Prop) : p ∨ False ↔ p := by simp

-- case line_096: proved
theorem t (p : Prop) : (p ↔ p) := Iff.rfl

-- case line_097: proved
theorem t (p q : Prop) (h : p ↔ q) (hp : p) : q := h.mp hp

-- case line_098: proved
theorem t (α : Type) (p : α → Prop) (h : ∀ x, p x) (a : α) : p a := h a

-- case line_099: proved
theorem t (α : Type) (p : α → Prop) (a : α) (h : p a) : ∃ x, p x := ⟨a, h⟩

-- case line_100: proved
theorem t (α : Type) (p : α → Prop) (h : ¬ ∃ x, p x) : ∀ x, ¬ p x := fun x hx => h ⟨x, hx⟩

-- case line_101: proved
theorem t (α : Type) (p q : α → Prop) (h : ∃ x, p x ∧ q x) : ∃ x, q x := h.elim fun x hx => ⟨x, hx.2⟩

-- case line_102: proved
theorem t (α : Type) (p q : α → Prop) : (∀ x, p x ∧ q x) ↔ (∀ x, p x) ∧ (∀ x, q x) := ⟨fun h => ⟨fun x => (h x).1, fun x => (h x).2⟩, fun h x => ⟨h.1 x, h.2 x⟩⟩

-- case line_103: proved
theorem t (α : Type) (a b : α) (h : a = b) : b = a := h.symm

-- case line_104: proved
theorem t (α : Type) (a b c : α) (h : a = b) (g : b = c) : a = c := h.trans g

-- case line_105: proved
theorem t (α : Type) (a b c : α) (h : a = b) (g : b = c) : a = c := by grind

-- case line_106: proved
theorem t (α β : Type) (f : α → β) (a b : α) (h : a = b) : f a = f b := by rw [h]

-- case line_107: proved
theorem t (α β : Type) (f : α → β) (a b : α) (h : a = b) : f a = f b := congrArg f h

-- case line_108: proved
theorem t (α : Type) (f g : α → α) (h : ∀ x, f x = g x) : f = g := funext h

-- case line_109: proved
theorem t (α : Type) (x : α) : id x = x := rfl

-- case line_110: proved
theorem t (α β : Type) (p : α × β) : (p.1, p.2) = p := rfl

-- case line_111: proved
theorem t (α : Type) (xs : List α) : xs ++ [] = xs := List.append_nil xs

-- case line_112: proved
theorem t (α : Type) (xs : List α) : [] ++ xs = xs := rfl

-- case line_113: proved
theorem t (α : Type) (xs ys zs : List α) : xs ++ ys ++ zs = xs ++ (ys ++ zs) := List.append_assoc xs ys zs

-- case line_114: proved
theorem t (α : Type) (xs ys : List α) : (xs ++ ys).length = xs.length + ys.length := by simp

-- case line_115: proved
theorem t (α : Type) (x : α) (xs : List α) : (x :: xs).length = xs.length + 1 := rfl

-- case line_116: proved
theorem t (α : Type) (xs : List α) : xs.reverse.reverse = xs := by simp

-- case line_117: proved
theorem t (α : Type) (xs : List α) : xs.reverse.length = xs.length := by simp

-- case line_118: proved
theorem t (α β : Type) (f : α → β) (xs : List α) : (xs.map f).length = xs.length := by simp

-- case line_119: proved
theorem t (α : Type) (xs : List α) : xs.map id = xs := by simp

-- case line_120: proved
theorem t (α : Type) (x : α) (xs : List α) : x ∈ x :: xs := by simp

-- case line_121: proved
theorem t (α : Type) (x : α) (xs ys : List α) (h : x ∈ xs) : x ∈ xs ++ ys := by simp [h]

-- case line_122: proved
theorem t (α : Type) (x y : α) (xs : List α) (h : x :: xs = y :: xs) : x = y := by injection h

-- case line_123: proved
theorem t (α : Type) (x : α) (xs : List α) : x :: xs ≠ [] := List.cons_ne_nil x xs

-- case line_124: proved
theorem t : [1, 2, 3].length = 3 := rfl

-- case line_125: proved
theorem t : [1, 2] ++ [3] = [1, 2, 3] := rfl

-- case line_126: proved
theorem t : (List.range 4) = [0, 1, 2, 3] := by decide

-- case line_127: proved
theorem t : [3, 1, 2].reverse = [2, 1, 3] := by decide

-- case line_128: proved
theorem t : 2 ∈ [1, 2, 3] := by decide

-- case line_129: proved
theorem t : [1, 2, 3].map (· + 1) = [2, 3, 4] := rfl

-- case line_130: proved
theorem t : [1, 2, 3, 4].filter (· % 2 == 0) = [2, 4] := by decide

-- case line_131: proved
theorem t : [1, 2, 3].foldl (· + ·) 0 = 6 := rfl

-- case line_132: proved
theorem t (o : Option Nat) (h : o = some 3) : o ≠ none := by simp [h]

-- case line_133: proved
theorem t (a b : Nat) (h : some a = some b) : a = b := by injection h

-- case line_134: proved
theorem t (o : Option Nat) : o.isSome = true ∨ o = none := by cases o <;> simp

-- case line_135: proved
theorem t (b : Bool) : (!(!b)) = b := by cases b <;> rfl

-- case line_136: proved
theorem t (b : Bool) : (b && true) = b := by simp

-- case line_137: proved
theorem t (a b : Bool) : (!(a && b)) = (!a || !b) := by cases a <;> cases b <;> rfl

-- case line_138: proved
theorem t (b : Bool) (h : b ≠ true) : b = false := by simpa using h

-- case line_139: proved
theorem t (n : Fin 3) : n.val ≤ 2 := by omega

-- case line_140: proved
theorem t (n : Fin 1) : n = 0 := by omega

-- case line_141: proved
theorem t : (3 : Fin 5) + 4 = 2 := by decide

-- case line_142: proved
theorem t (x y : BitVec 8) : x &&& y = y &&& x := BitVec.and_comm x y

-- case line_143: proved
theorem t (x : BitVec 8) : x ^^^ x = 0#8 := by simp

-- case line_144: proved
theorem t : (255#8) + 1#8 = 0#8 := by decide

-- case line_145: proved
theorem t : "ab" ++ "cd" = "abcd" := by decide

-- case line_146: proved
theorem t : 'a'.toNat = 97 := by decide

-- case line_147: proved
theorem t (s : Unit) : s = () := rfl

-- case line_148: proved
theorem t (a b c d : Nat) (h : a = b) (g : c = d) : a + c = b + d := by rw [h, g]

-- case line_149: proved
theorem t (a b c : Nat) (h : a = b) : a + c = b + c := h ▸ rfl

-- case line_150: proved
theorem t (a b : Nat) (h : a = b) (g : b = 5) : a = 5 := by subst h; exact g

-- case line_151: proved
theorem t (f : Nat → Nat) (h : ∀ n, f n = n + 1) : f (f 0) = 2 := by simp [h]

-- case line_152: proved
theorem t (f : Nat → Nat) (h : ∀ x, f x = x) : f (f 3) = 3 := by grind

-- case line_153: proved
theorem t (a b c : Nat) (h : a = b) (g : b = c) : a = c := Eq.trans h g

-- case line_154: proved
theorem t (a b : Nat) : (a + b) * (a + b) = a * a + 2 * (a * b) + b * b := by grind

-- case line_155: proved
theorem t (a b c : Nat) : a * b * c = c * b * a := by grind

-- case line_156: proved
theorem t (x y : Int) : (x + y) * (x - y) = x * x - y * y := by grind

-- case line_157: proved
theorem t (a b : Nat) (h : a < b) : ∃ c, a + c = b := ⟨b - a, by omega⟩

-- case line_158: proved
theorem t (p : Nat → Prop) (h0 : p 0) (h1 : ∀ n, p n → p (n + 1)) : p 3 := h1 2 (h1 1 (h1 0 h0))

-- case line_159: proved
theorem t (a b : Nat) (h : ¬ a = b) (g : a ≤ b) : a < b := by omega

-- case line_160: proved
theorem t (a : Nat) (h : a ∈ [1, 2]) : a < 3 := by simp at h; omega

-- case line_161: proved
theorem t (x : Nat) (h : x = 1 ∨ x = 2) : x ≤ 2 := by rcases h with rfl | rfl <;> decide

-- case line_162: proved
theorem t (a b : Nat) : (if a = b then 1 else 1) = 1 := by simp

-- case line_163: proved
theorem t (a b : Nat) (h : a = b) : (if a = b then 1 else 2) = 1 := by simp [h]

-- case line_164: proved
theorem t (a b : Nat) (h : (a, b) = (1, 2)) : a = 1 := by simp at h; exact h.1

-- case line_165: proved
theorem t (n : Nat) (h : n > 0) : ∃ m, n = m + 1 := by cases n with | zero => contradiction | succ m => exact ⟨m, rfl⟩

-- case line_166: proved
theorem t (a b : Nat) (h : a * 2 = b * 2) : a = b := by omega

-- case line_167: proved
theorem t (n k : Nat) (h : n = k * 4) : n % 4 = 0 := by omega

-- case line_168: proved
theorem t (p q : Prop) [Decidable p] (h : if p then q else False) : p := by split at h <;> simp_all

-- case line_169: proved
theorem t (a b c : Nat) (h₁ : a ≤ b) (h₂ : b ≤ c) : a ≤ c := by exact?

-- case line_170: proved
theorem t (x y z : Nat) (h : x = y) : z + x = z + y := by conv => lhs; rw [h]

-- case line_171: proved
theorem t (xs : List Nat) (h : xs = []) : xs.length = 0 := by simp [h]

-- case induction_add: proved
theorem t (n : Nat) : 0 + n = n := by
  induction n with
  | zero => rfl
  | succ n ih => rw [← Nat.add_assoc, ih]

-- case own_double: proved
def double : Nat → Nat
  | 0 => 0
  | n + 1 => double n + 2
theorem t (n : Nat) : double n = 2 * n := by
  induction n with
  | zero => rfl
  | succ n ih => simp [double, ih]; omega

-- case own_tree: proved
inductive Tree (α : Type) where
  | leaf : Tree α
  | node : Tree α → α → Tree α → Tree α
def Tree.mirror {α : Type} : Tree α → Tree α
  | .leaf => .leaf
  | .node l x r => .node r.mirror x l.mirror
theorem t {α : Type} (s : Tree α) : s.mirror.mirror = s := by
  induction s with
  | leaf => rfl
  | node l x r hl hr => simp [Tree.mirror, hl, hr]

-- case own_size: proved
inductive T where
  | a : T
  | b : T → T → T
def T.size : T → Nat
  | .a => 1
  | .b l r => l.size + r.size
theorem t (s : T) : 0 < s.size := by
  induction s with
  | a => decide
  | b l r hl hr => simp [T.size]; omega

-- case structure_eta: proved
structure Point where
  x : Nat
  y : Nat
theorem t (p : Point) : Point.mk p.x p.y = p := rfl

-- case structure_ext: proved
@[ext] structure Point where
  x : Nat
  y : Nat
theorem t (p q : Point) (h : p.x = q.x) (g : p.y = q.y) : p = q := by
  ext
  · exact h
  · exact g

-- case class_instance: proved
class Shape (α : Type) where
  sides : α → Nat
inductive Square where | mk
instance : Shape Square := ⟨fun _ => 4⟩
theorem t (s : Square) : Shape.sides s = 4 := rfl

-- case mutual_even_odd: proved
mutual
def isEven : Nat → Bool
  | 0 => true
  | n + 1 => isOdd n
def isOdd : Nat → Bool
  | 0 => false
  | n + 1 => isEven n
end
theorem t : isEven 4 = true := by simp [isEven, isOdd]

-- case mutual_inductive: proved
mutual
inductive E : Nat → Prop where
  | zero : E 0
  | step : O n → E (n + 1)
inductive O : Nat → Prop where
  | step : E n → O (n + 1)
end
theorem t : E 2 := .step (.step .zero)

-- case well_founded: proved
def lg (n : Nat) : Nat := if h : n ≤ 1 then 0 else lg (n / 2) + 1
termination_by n
decreasing_by omega
theorem t : lg 1 = 0 := by unfold lg; simp

-- case inductive_prop: proved
inductive Ev : Nat → Prop where
  | zero : Ev 0
  | two : Ev n → Ev (n + 2)
theorem t : Ev 4 := .two (.two .zero)

-- case inductive_prop_inversion: proved
inductive Ev : Nat → Prop where
  | zero : Ev 0
  | two : Ev n → Ev (n + 2)
theorem t : ¬ Ev 1 := by intro h; cases h

-- case namespace_open: proved
namespace A
def x : Nat := 3
end A
open A
theorem t : x = 3 := rfl

-- case section_variable: proved
section
variable (a b : Nat)
theorem t (h : a = b) : b = a := h.symm
end

-- case universe_poly: proved
universe u v
theorem t {α : Type u} {β : Type v} (f : α → β) (x : α) : (fun y => f y) x = f x := rfl

-- case macro_tactic: proved
macro "done_by_omega" : tactic => `(tactic| omega)
theorem t (a b : Nat) (h : a < b) : a ≤ b := by done_by_omega

-- case notation_local: proved
local notation x " ⊞ " y => x + y + 1
theorem t (a b : Nat) : (a ⊞ b) = b + a + 1 := by omega

-- case abbrev_unfold: proved
abbrev N := Nat
theorem t (n : N) : n + 0 = n := rfl

-- case private_theorem: proved
private theorem helper (n : Nat) : n ≤ n + 1 := Nat.le_succ n
theorem t (n : Nat) : n ≤ n + 2 := Nat.le_trans (helper n) (helper (n + 1))

-- case have_chain: proved
theorem t (a b c : Nat) (h : a < b) (g : b < c) : a < c := by
  have h1 : a + 1 ≤ b := h
  have h2 : b + 1 ≤ c := g
  omega

-- case obtain_exists: proved
theorem t (p : Nat → Prop) (h : ∃ n, p n ∧ n > 3) : ∃ n, p n := by
  obtain ⟨n, hn, _⟩ := h
  exact ⟨n, hn⟩

-- case refine_goals: proved
theorem t (a b : Nat) (h : a = 1) (g : b = 2) : a = 1 ∧ b = 2 ∧ a + b = 3 := by
  refine ⟨h, g, ?_⟩
  rw [h, g]

-- case list_induction: proved
theorem t {α : Type} (xs : List α) : xs ++ [] = xs := by
  induction xs with
  | nil => rfl
  | cons x xs ih => rw [List.cons_append, ih]

-- case own_append: proved
def app {α : Type} : List α → List α → List α
  | [], ys => ys
  | x :: xs, ys => x :: app xs ys
theorem app_nil {α : Type} (xs : List α) : app xs [] = xs := by
  induction xs with
  | nil => rfl
  | cons x xs ih => simp [app, ih]
theorem t {α : Type} (xs ys zs : List α) : app (app xs ys) zs = app xs (app ys zs) := by
  induction xs with
  | nil => rfl
  | cons x xs ih => simp [app, ih]

-- case own_sum: proved
def sumTo : Nat → Nat
  | 0 => 0
  | n + 1 => sumTo n + (n + 1)
theorem t (n : Nat) : 2 * sumTo n = n * (n + 1) := by
  induction n with
  | zero => rfl
  | succ n ih => simp only [sumTo]; rw [Nat.mul_add, ih]; grind

-- case fun_induction_case: proved
def f : Nat → Nat
  | 0 => 0
  | n + 1 => f n
theorem t (n : Nat) : f n = 0 := by
  fun_induction f n with
  | case1 => rfl
  | case2 n ih => exact ih

-- case subtype: proved
theorem t (x : { n : Nat // n > 3 }) : x.val ≠ 0 := by
  have := x.property
  omega

-- case set_option_fine: proved
set_option maxRecDepth 4000 in
theorem t : (2 : Nat) ^ 20 = 1048576 := by decide

-- case two_theorems: proved
theorem s (n : Nat) : n ≤ n * n + n := by omega
theorem t (n : Nat) : n ≤ n * n + n + 1 := Nat.le_succ_of_le (s n)

-- case instance_chain: proved
instance addSemigroupLike : Add (Nat × Nat) := ⟨fun a b => (a.1 + b.1, a.2 + b.2)⟩
theorem t (a b : Nat × Nat) : a + b = b + a := by
  show (a.1 + b.1, a.2 + b.2) = (b.1 + a.1, b.2 + a.2)
  rw [Nat.add_comm, Nat.add_comm a.2]

-- case deriving_deceq: proved
inductive Colour where | red | green deriving DecidableEq
theorem t : Colour.red ≠ Colour.green := by decide

-- case match_split: proved
def pick (n : Nat) : Nat := match n with | 0 => 1 | _ => 2
theorem t (n : Nat) : pick n = 1 ∨ pick n = 2 := by
  unfold pick
  split <;> simp

-- case import_std: proved
import Std
theorem t (a b : Nat) (h : a < b) : a ≠ b := by omega

-- case import_lean_plain: proved
import Lean
theorem t (a b : Nat) (h : a < b) : a ≠ b := by omega

-- case comment_first: proved
/- A comment before anything else. -/
-- and another
theorem t : True := trivial

-- case unicode_names: proved
theorem «der Satz» (α β : Nat) (hαβ : α = β) : β = α := hαβ.symm

-- case long_conjunction: proved
theorem t : 1 + 1 = 2 ∧ 2 + 2 = 4 ∧ 3 + 3 = 6 ∧ 4 + 4 = 8 := ⟨rfl, rfl, rfl, rfl⟩

-- case theorem_with_where: proved
theorem t (n : Nat) : n + 0 = n ∧ 0 + n = n := ⟨rfl, helper n⟩
where
  helper (n : Nat) : 0 + n = n := Nat.zero_add n

-- case protected_theorem: proved
protected theorem A.t (n : Nat) : n = n := rfl

-- case unused_axiom_declared: proved
axiom nobody_uses_me : False
theorem t : 1 = 1 := rfl

-- case quotient: proved
def r (a b : Nat) : Prop := a % 2 = b % 2
theorem t : Quot.mk r 0 = Quot.mk r 2 := Quot.sound rfl

-- case heq_cast: proved
theorem t (α : Type) (a : α) : HEq a a := HEq.rfl

-- case exfalso_contra: proved
theorem t (p : Prop) (h : 1 = 2) : p := by
  exfalso
  exact absurd h (by decide)

-- case nomatch_empty: proved
theorem t (p : Prop) (h : Empty) : p := nomatch h

-- case nested_inductive: proved
inductive Rose where | node : List Rose → Rose
theorem t (a b : List Rose) (h : Rose.node a = Rose.node b) : a = b := by injection h

-- case simp_lemma_own: proved
def twice (n : Nat) : Nat := n + n
@[simp] theorem twice_eq (n : Nat) : twice n = 2 * n := by unfold twice; omega
theorem t : twice 4 = 8 := by simp

-- case calc_steps: proved
theorem t (a b c d : Nat) (h : a ≤ b) (g : b < c) (k : c ≤ d) : a < d :=
  calc a ≤ b := h
    _ < c := g
    _ ≤ d := k

-- case decidable_pred: proved
def P (n : Nat) : Prop := n * n = 25
instance : DecidablePred P := fun n => inferInstanceAs (Decidable (n * n = 25))
theorem t : P 5 := by decide
