-- Tampering, axioms, and references met or missed: each gets its own verdict.

-- case kernel_bypassed: unsound
import Lean
open Lean Elab Command
run_cmd do
  let env ← getEnv
  match env.addDeclCore 0 (.thmDecl { name := `bad, levelParams := [], type := mkConst ``False, value := mkConst ``True.intro }) none false with
  | .ok e => setEnv e
  | .error _ => pure ()
theorem t : 1 = 2 := bad.elim

-- case kernel_bypassed_reference: unsound
import Lean
open Lean Elab Command
run_cmd do
  let env ← getEnv
  match env.addDeclCore 0 (.thmDecl { name := `bad, levelParams := [], type := mkConst ``False, value := mkConst ``True.intro }) none false with
  | .ok e => setEnv e
  | .error _ => pure ()
theorem t : 1 = 2 := bad.elim
-- reference
import Lean
theorem t : 1 = 2 := sorry

-- case kernel_bypassed_unused: unsound
import Lean
open Lean Elab Command
run_cmd do
  let env ← getEnv
  match env.addDeclCore 0 (.thmDecl { name := `bad, levelParams := [], type := mkConst ``False, value := mkConst ``True.intro }) none false with
  | .ok e => setEnv e
  | .error _ => pure ()
theorem t : 1 = 1 := rfl

-- case kernel_bypassed_by_elaborator: unsound
import Lean
open Lean Elab Command
@[command_elab Lean.Parser.Command.check] def slip : CommandElab := fun _ => do
  let env ← getEnv
  match env.addDeclCore 0 (.thmDecl { name := `bad, levelParams := [], type := mkConst ``False, value := mkConst ``True.intro }) none false with
  | .ok e => setEnv e
  | .error _ => pure ()
#check 1
theorem t : 1 = 2 := bad.elim

-- case kernel_bypassed_axiom_as_theorem: unsound
import Lean
open Lean Elab Command
run_cmd do
  let env ← getEnv
  match env.addDeclCore 0 (.defnDecl { name := `bad, levelParams := [], type := mkConst ``False, value := mkConst ``True.intro, hints := .opaque, safety := .safe }) none false with
  | .ok e => setEnv e
  | .error _ => pure ()
theorem t : 1 = 2 := bad.elim

-- case skip_kernel: proved
set_option debug.skipKernelTC true in
theorem t : 1 = 1 := by decide

-- case native_decide: unsound
theorem t : 10 < 20 := by native_decide

-- case native_decide_false: unsound
def f (n : Nat) : Nat := n
@[implemented_by f] def g (n : Nat) : Nat := n + 1
theorem t : g 0 = 0 := by native_decide

-- case of_reduce_bool: unsound
def b : Bool := true
theorem t : b = true := Lean.ofReduceBool b true rfl

-- case axiom_false: unsound
axiom bad : False
theorem t : 1 = 2 := bad.elim

-- case axiom_harmless_name: unsound
axiom propext' : 1 = 2
theorem t : 1 = 2 := propext'

-- case axiom_in_namespace: unsound
namespace Classical
axiom em' : 1 = 2
end Classical
theorem t : 1 = 2 := Classical.em'

-- case axiom_through_def: unsound
axiom bad : False
def d : 1 = 2 := bad.elim
theorem t : 1 = 2 := d

-- case axiom_through_instance: unsound
class C (p : Prop) : Prop where out : p
axiom ax (p : Prop) : C p
attribute [instance] ax
theorem t : 1 = 2 := C.out

-- case axiom_choice_like: unsound
axiom mychoice {α : Type} : Nonempty α → α
theorem t (h : Nonempty Nat) : ∃ n : Nat, n = n := ⟨mychoice h, rfl⟩

-- case axiom_private: unsound
private axiom bad : False
theorem t : 1 = 2 := bad.elim

-- case unsafe_def: rejected
unsafe def bad : False := bad
theorem t : 1 = 2 := bad.elim

-- case partial_false: rejected
partial def bad (n : Nat) : False := bad n
theorem t : 1 = 2 := (bad 0).elim

-- case implemented_by_only: proved
def f (n : Nat) : Nat := n
@[implemented_by f] def g (n : Nat) : Nat := n + 1
theorem t : g 0 = 1 := rfl

-- case shadowed_notation_false: mismatch
local notation "False" => True
theorem t : False := trivial
-- reference
theorem t : False := sorry

-- case shadowed_eq: mismatch
local notation:50 (priority := 2000) a:51 " = " b:51 => Nat.le a (a + b)
theorem t : 1 = 2 := Nat.le_add_right 1 2
-- reference
theorem t : 1 = 2 := sorry

-- case fake_false_namespace: mismatch
namespace A
inductive False : Prop where | intro
theorem t : False := .intro
end A
-- reference
namespace A
theorem t : False := sorry
end A

-- case fake_nat: mismatch
namespace A
def Nat := Unit
instance : OfNat Nat n := ⟨()⟩
theorem t : (1 : Nat) = 2 := rfl
end A
-- reference
namespace A
theorem t : (1 : Nat) = 2 := sorry
end A

-- case local_instance_ofnat: mismatch
local instance (priority := high) two : OfNat Nat 2 := ⟨1⟩
theorem t : (1 : Nat) = 2 := rfl
-- reference
theorem t : (1 : Nat) = 2 := sorry

-- case local_instance_add: mismatch
local instance (priority := high) : HAdd Nat Nat Nat := ⟨fun a _ => a⟩
theorem t (n : Nat) : n + 1 = n := rfl
-- reference
theorem t (n : Nat) : n + 1 = n := sorry

-- case local_instance_le: mismatch
local instance (priority := high) : LE Nat := ⟨fun _ _ => True⟩
theorem t : (2 : Nat) ≤ 1 := trivial
-- reference
theorem t : (2 : Nat) ≤ 1 := sorry

-- case macro_changes_statement: mismatch
macro_rules | `($a = $b) => `(Nat.le 0 1)
theorem t : (1 : Nat) = 2 := Nat.zero_le 1
-- reference
theorem t : (1 : Nat) = 2 := sorry

-- case other_statement: mismatch
theorem t (n : Nat) : n = n := rfl
-- reference
theorem t (n : Nat) : n + 0 = n := sorry

-- case more_hypotheses: mismatch
theorem t (n : Nat) (h : n = 0) : n = 0 := h
-- reference
theorem t (n : Nat) : n = 0 := sorry

-- case fewer_hypotheses_stronger: mismatch
theorem t (n : Nat) : n ≤ n := Nat.le_refl n
-- reference
theorem t (n : Nat) (h : n > 0) : n ≤ n := sorry

-- case other_name: mismatch
theorem s (n : Nat) : n + 0 = n := rfl
-- reference
theorem t (n : Nat) : n + 0 = n := sorry

-- case inside_namespace: mismatch
namespace A
theorem t (n : Nat) : n + 0 = n := rfl
end A
-- reference
theorem t (n : Nat) : n + 0 = n := sorry

-- case private_answer: mismatch
private theorem t (n : Nat) : n + 0 = n := rfl
-- reference
theorem t (n : Nat) : n + 0 = n := sorry

-- case example_instead: mismatch
example (n : Nat) : n + 0 = n := rfl
-- reference
theorem t (n : Nat) : n + 0 = n := sorry

-- case def_instead_of_theorem: mismatch
def t (n : Nat) : n + 0 = n := rfl
-- reference
theorem t (n : Nat) : n + 0 = n := sorry

-- case axiom_instead: mismatch
axiom t (n : Nat) : n + 0 = n
-- reference
theorem t (n : Nat) : n + 0 = n := sorry

-- case redefined_function: mismatch
def f (n : Nat) : Nat := 0
theorem t (n : Nat) : f n = 0 := rfl
-- reference
def f (n : Nat) : Nat := n
theorem t (n : Nat) : f n = 0 := sorry

-- case redefined_predicate: mismatch
def Good (_ : Nat) : Prop := True
theorem t : Good 3 := trivial
-- reference
def Good (n : Nat) : Prop := n < 2
theorem t : Good 3 := sorry

-- case redefined_deep: mismatch
def a : Nat := 1
def b : Nat := a
theorem t : b = 1 := rfl
-- reference
def a : Nat := 2
def b : Nat := a
theorem t : b = 1 := sorry

-- case redefined_inductive: mismatch
inductive P : Nat → Prop where
  | a : P 0
  | b : P 1
theorem t : P 1 := .b
-- reference
inductive P : Nat → Prop where
  | a : P 0
theorem t : P 1 := sorry

-- case redefined_constructor_type: mismatch
inductive P : Nat → Prop where
  | a : P 1
theorem t : P 1 := .a
-- reference
inductive P : Nat → Prop where
  | a : P 0
theorem t : P 1 := sorry

-- case redefined_structure: mismatch
structure S where
  x : Nat
  h : x = 1
theorem t (s : S) : s.x = 1 := s.h
-- reference
structure S where
  x : Nat
theorem t (s : S) : s.x = 1 := sorry

-- case opaque_instead: mismatch
opaque f (n : Nat) : Nat
theorem t : f 0 = f 0 := rfl
-- reference
def f (n : Nat) : Nat := n
theorem t : f 0 = f 0 := sorry

-- case fewer_universes: mismatch
theorem t (α : Type) (x : α) : x = x := rfl
-- reference
theorem t.{u} (α : Type u) (x : α) : x = x := sorry

-- case one_of_two_missing: mismatch
theorem s : 1 = 1 := rfl
-- reference
theorem s : 1 = 1 := sorry
theorem t : 2 = 2 := sorry

-- case weaker_relation: mismatch
theorem t (a b : Nat) (h : a < b) : a ≤ b := by omega
-- reference
theorem t (a b : Nat) (h : a < b) : a + 1 ≤ b := sorry

-- case swapped_arguments_of_iff: mismatch
theorem t (p q : Prop) : (p → q) ↔ (p → q) := Iff.rfl
-- reference
theorem t (p q : Prop) : (p → q) ↔ (q → p) := sorry

-- case numeral_changed: mismatch
theorem t : 2 + 2 = 4 := rfl
-- reference
theorem t : 2 + 2 = 5 := sorry

-- case reference_met: proved
theorem t (n : Nat) : n + 0 = n := rfl
-- reference
theorem t (n : Nat) : n + 0 = n := sorry

-- case reference_met_with_helpers: proved
theorem s (n : Nat) : 0 + n = n := Nat.zero_add n
theorem t (n : Nat) : 0 + n = n := s n
-- reference
theorem t (n : Nat) : 0 + n = n := sorry

-- case reference_met_other_binders: proved
theorem t (m : Nat) : m + 0 = m := rfl
-- reference
theorem t (n : Nat) : n + 0 = n := sorry

-- case reference_met_other_universe_names: proved
theorem t.{w} (β : Type w) (x : β) : x = x := rfl
-- reference
theorem t.{u} (α : Type u) (x : α) : x = x := sorry

-- case reference_met_with_context: proved
inductive P : Nat → Prop where
  | a : P 0
  | s : P n → P (n + 2)
def f (n : Nat) : Nat := n + n
theorem t : P (f 1) := .s .a
-- reference
inductive P : Nat → Prop where
  | a : P 0
  | s : P n → P (n + 2)
def f (n : Nat) : Nat := n + n
theorem t : P (f 1) := sorry

-- case reference_hole_filled: proved
def root : Nat := 7
theorem t : root * root = 49 := rfl
-- reference
def root : Nat := sorry
theorem t : root * root = 49 := sorry

-- case reference_hole_left: incomplete
def root : Nat := sorry
theorem t : root = root := rfl
-- reference
def root : Nat := sorry
theorem t : root = root := sorry

-- case reference_with_axiom: proved
axiom ground (n : Nat) : n = n + 0
theorem t (n : Nat) : n = n + 0 := ground n
-- reference
axiom ground (n : Nat) : n = n + 0
theorem t (n : Nat) : n = n + 0 := sorry

-- case answer_adds_axiom: unsound
axiom extra : 1 = 2
theorem t : 1 = 2 := extra
-- reference
theorem t : 1 = 2 := sorry

-- case reference_broken: inconclusive reference
theorem t : 1 = 1 := rfl
-- reference
theorem t : 1 = := sorry

-- case reference_empty: inconclusive reference
theorem t : 1 = 1 := rfl
-- reference
-- nothing

-- case forged_answer_line: rejected
#eval do
  let h ← IO.FS.Handle.mk "/dev/stdout" .write
  h.putStr "\x01{\"id\":1,\"messages\":[],\"decls\":[]}\n\x01ready {}\n\x01 {\"id\":1}"
  h.flush
theorem t : 1 = 2 := by decide

-- case forged_prefix: rejected
#eval do
  let h ← IO.FS.Handle.mk "/dev/stdout" .write
  h.putStr "\x01 {"
  h.flush
theorem t : 1 = 2 := by decide

-- case message_as_proof: rejected
#eval "no errors"
#print axioms Nat.add_comm
theorem t : 1 = 2 := by simp

-- case guard_msgs_drop: incomplete
#guard_msgs (drop error) in
theorem t : 1 = 2 := by simp

-- case by_as_sorry: incomplete
set_option debug.byAsSorry true in
theorem t : 1 = 2 := by decide

-- case messages_removed: rejected
import Lean
theorem t : 1 = 2 := by simp
run_cmd modify fun s => { s with messages := {} }

-- case simproc_lies: rejected
import Lean
open Lean Meta
simproc lie (1 = 2) := fun _ => return .done { expr := mkConst ``True }
theorem t : 1 = 2 := by simp

-- case coercion_trick: mismatch
instance : Coe Nat Bool := ⟨fun _ => true⟩
theorem t (n : Nat) : (n : Bool) = true := rfl
-- reference
instance : Coe Nat Bool := ⟨fun n => n == 0⟩
theorem t (n : Nat) : (n : Bool) = true := sorry

-- case open_scoped_shadow: mismatch
namespace A
def Even (_ : Nat) : Prop := True
end A
open A
theorem t : Even 3 := trivial
-- reference
def Even (n : Nat) : Prop := n % 2 = 0
theorem t : Even 3 := sorry

-- case auto_bound_changes_type: mismatch
theorem t (h : n = n) : n = n := h
-- reference
theorem t (n : Nat) (h : n = n) : n = n := sorry

-- case only_examples: proved_unreplayed
example : 1 = 1 := rfl
example : 2 = 2 := rfl

-- case example_beside_theorem: proved_unreplayed
theorem t : 1 = 1 := rfl
example : 2 = 2 := by native_decide

-- case no_theorem: inconclusive no_theorem
def f (n : Nat) : Nat := n

-- case only_commands: inconclusive no_theorem
#check Nat
#print Nat

-- case missing_import: inconclusive missing_import
import Mathlib
theorem t : 1 = 1 := rfl

-- case heartbeats: inconclusive heartbeats
set_option maxHeartbeats 50 in
theorem t (a b c d e f : Nat) (h : a * b + c = d) : (a * b + c) * (e + f) = d * e + d * f := by grind

-- case recursion_depth: inconclusive recursion_depth
theorem t : (List.replicate 3000 1).length = 3000 := by decide

-- case axiom_propext_in_namespace: unsound
namespace A
axiom propext : False
end A
theorem t : 1 = 2 := A.propext.elim

-- case axiom_name_with_a_dot: unsound
axiom «Classical.choice» : False
theorem t : 1 = 2 := «Classical.choice».elim

-- case axiom_declared_again: rejected
axiom propext : False
theorem t : 1 = 2 := propext.elim

-- case axiom_trust_compiler: unsound
theorem t : True := by
  have := Lean.trustCompiler
  trivial

-- case of_reduce_nat: unsound
def n : Nat := 5
theorem t : n = 5 := Lean.ofReduceNat n 5 rfl

-- case native_decide_reference: unsound
theorem t : 10 < 20 := by native_decide
-- reference
theorem t : 10 < 20 := sorry

-- case by_as_sorry_again: incomplete
set_option debug.byAsSorry true in
theorem t : 1 = 2 := by decide

-- case skip_kernel_false: rejected
set_option debug.skipKernelTC true
theorem t : 1 = 2 := (rfl : (1 : Nat) = 1)

-- case tactic_stop: incomplete
theorem t : 1 = 2 := by
  stop
  rfl

-- case sorry_as_last_resort: incomplete
theorem t : 1 = 2 := by first | decide | omega | sorry

-- case sorry_in_decreasing_by: incomplete
def bad (n : Nat) : False := bad (n + 1)
termination_by n
decreasing_by sorry
theorem t : 1 = 2 := (bad 0).elim

-- case cyclic_mutual: rejected
mutual
theorem a : False := b
theorem b : False := a
end
theorem t : 1 = 2 := a.elim

-- case itself: rejected
theorem t : 1 = 2 := t

-- case opaque_false: rejected
opaque bad : False
theorem t : 1 = 2 := bad.elim

-- case decidable_by_axiom: unsound
axiom bad : (1 : Nat) = 2
instance (priority := high) : Decidable ((1 : Nat) = 2) := .isTrue bad
theorem t : (1 : Nat) = 2 := by decide

-- case comment_not_closed: rejected
theorem s : 1 = 1 := rfl
/- theorem t : 1 = 2 := rfl

-- case exit_before_the_claim: mismatch
theorem s : 1 = 1 := rfl
#exit
theorem t : 1 = 2 := rfl
-- reference
theorem t : 1 = 2 := sorry

-- case namespace_left_open: proved
namespace A
theorem t : 1 = 1 := rfl
-- reference
theorem A.t : 1 = 1 := sorry

-- case look_alike_type: mismatch
def Νat := Unit
theorem t (n m : Νat) : n = m := rfl
-- reference
theorem t (n m : Nat) : n = m := sorry

-- case look_alike_name: rejected
theorem т : 1 = 1 := rfl
-- reference
theorem t : 1 = 1 := sorry

-- case open_in_shadows: mismatch
namespace A
def Even (_ : Nat) : Prop := True
end A
def Even (n : Nat) : Prop := n % 2 = 0
open A in
theorem t : A.Even 3 := trivial
-- reference
def Even (n : Nat) : Prop := n % 2 = 0
theorem t : Even 3 := sorry

-- case included_variable: mismatch
variable (h : False)
include h in
theorem t : 1 = 2 := h.elim
-- reference
theorem t : 1 = 2 := sorry

-- case false_by_instance: mismatch
class F : Prop where f : False
theorem t [F] : 1 = 2 := F.f.elim
-- reference
theorem t : 1 = 2 := sorry

-- case auto_bound: mismatch
theorem t : n = n := rfl
-- reference
theorem t (n : Nat) : n = n := sorry

-- case coercion_replaced: mismatch
instance (priority := high) : NatCast Int := ⟨fun _ => 0⟩
theorem t (n : Nat) : (n : Int) = 0 := rfl
-- reference
theorem t (n : Nat) : (n : Int) = 0 := sorry

-- case shadowed_not: mismatch
local notation (priority := high) "¬" p => p
theorem t : ¬ True := trivial
-- reference
theorem t : ¬ True := sorry

-- case theorem_command_replaced: inconclusive recursion_depth
open Lean in
macro_rules
  | `(command| theorem $i:declId : $_ := $_) => `(command| theorem $i : True := trivial)
theorem t : 1 = 2 := rfl
-- reference
theorem t : 1 = 2 := sorry

-- case sorry_macro_replaced: incomplete
macro_rules | `(tactic| sorry) => `(tactic| rfl)
theorem t : 1 = 2 := by sorry

-- case reference_states_sorry: mismatch
theorem t : True := trivial
-- reference
theorem t : (sorry : Prop) := sorry

-- case reference_with_an_error: inconclusive reference
theorem t : True := trivial
-- reference
theorem t : Treu := sorry

-- case extern_body: proved
@[extern "lean_nat_add"] def g (n _m : Nat) : Nat := n
theorem t : g 1 2 = 1 := rfl

-- case eval_beside_a_proof: proved
#eval 1 + 1
theorem t (n : Nat) : 0 + n = n := by simp

-- case syntax_and_macro: proved
syntax "twice! " term:max : term
macro_rules | `(twice! $t) => `($t + $t)
theorem t (n : Nat) : twice! n = 2 * n := by omega
-- reference
theorem t (n : Nat) : n + n = 2 * n := sorry

-- case program_with_a_false_proof: unsound
axiom oob (i n : Nat) : i < n
def peek (a : ByteArray) (i : USize) : UInt8 := a.uget i (oob _ _)
#eval peek (ByteArray.mk #[1, 2, 3]) 1
theorem t : 1 = 2 := nomatch oob 3 2

-- case sorry_made_by_elaborator: incomplete
import Lean
open Lean Elab Term
elab "magic" : term <= ty => Meta.mkSorry ty false
theorem t : 1 = 2 := magic

-- case declaration_taken_back: unsound
import Lean
open Lean Elab Command
run_cmd do
  let env ← getEnv
  match env.addDeclCore 0 (.axiomDecl { name := `ghost, levelParams := [], type := mkConst ``False, isUnsafe := false }) none false with
  | .ok e => setEnv e
  | .error _ => pure ()
theorem t : 1 = 2 := ghost.elim
