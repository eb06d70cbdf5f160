/-
Resident checker: one JSON object per line on /dev/stdin, one answer per line on /dev/stdout.
  in : {"id", "nonce", "op": "read", "code", "header"?, "maxHeartbeats"?}; what "header" imports is used, where it is there
  out: U+0001, the nonce, a space, {"id", "messages", "sorries", "written": [last part of a name], "examples", "ranPrograms",
       "exported": the declarations as a text, "us": {import, elab, export}}; and before anything of the code is run, a line
       U+0001 "runs", which nothing can take back
  in : {"id", "nonce", "op": "judge", "code", "exported", "written", "reference"?}, which reads of "code" only what it imports;
       "reference" is an exported text too
  out: {"id", "decls": [{name, kind, written, statement, typeHash, axioms, uses, gap}], "replayErrors", "nested", "axiomsComplete",
       "judge": null | {replayErrors, axioms, targets: [{name, status, detail}]}, "us": {import, judge, replay}}; or {"id", "fault"}
Reading believes nothing and proves nothing: it may run programs of the code, which can do what they like in this process. A process
that judges reads no code, runs none, and puts the declarations through the kernel on an untouched environment.
The nonce tells an answer from a line which the checked code wrote itself. It hides nothing from code that reads this process's memory
(an axiom `i < n` and `ByteArray.uget` are enough), so a process is not used again once it said that it runs something.
Each import set is loaded once and kept; every request starts from that untouched environment.
It runs as an elaborator because the wasm build finds no `main`, and it recurses over its own lists because that
build holds the code of few generic library functions (List.map and the like do not run there).
-/
module
public meta import Lean.Elab.Frontend
public meta import Lean.Util.CollectAxioms
public meta import Lean.Data.Json
public meta import Lean.Compiler.LCNF.Passes
open Lean Elab

namespace Certainly
set_option maxHeartbeats 0

meta def inputCtx (src file : String) : Parser.InputContext :=
  { inputString := src, fileName := file, fileMap := FileMap.ofString src, endPos := src.rawEndPos, endPos_valid := by simp }

meta partial def arrL {α : Type} (a : Array α) (i : Nat) (acc : List α) : List α :=
  if i == 0 then acc else
  match a[i-1]? with
  | some x => arrL a (i-1) (x :: acc)
  | none => acc
meta def toL {α : Type} (a : Array α) : List α := arrL a a.size []
meta partial def pushAll {α : Type} (l : List α) (a : Array α) : Array α :=
  match l with
  | [] => a
  | x :: t => pushAll t (a.push x)
meta def toA {α : Type} (l : List α) : Array α := pushAll l #[]

meta partial def filt {α : Type} (p : α → Bool) : List α → List α
  | [] => []
  | x :: t => if p x then x :: filt p t else filt p t
meta partial def mapL {α β : Type} (f : α → β) : List α → List β
  | [] => []
  | x :: t => f x :: mapL f t
meta partial def anyL {α : Type} (p : α → Bool) : List α → Bool
  | [] => false
  | x :: t => p x || anyL p t
meta partial def foldL {α β : Type} (f : β → α → β) (b : β) : List α → β
  | [] => b
  | x :: t => foldL f (f b x) t
meta partial def zipL : List Name → List ConstantInfo → List (Name × ConstantInfo)
  | n :: t, c :: u => (n, c) :: zipL t u
  | _, _ => []
meta partial def app {α : Type} : List α → List α → List α
  | [], r => r
  | x :: t, r => x :: app t r
meta partial def hasName (l : List Name) (n : Name) : Bool := anyL (fun m => m == n) l

/-- Axioms of core Lean in the proper sense; any other imported `axiomInfo` seen here is a theorem whose proof was left out of the exported view. -/
meta def trueAxioms : List Name :=
  [`propext, `Classical.choice, `Quot.sound, `sorryAx, `Lean.ofReduceBool, `Lean.ofReduceNat, `Lean.trustCompiler, `lcProof, `lcUnreachable, `lcAny]

/-- A library theorem known as an axiom means that the library was loaded without its proofs. -/
meta def bodiesHidden (env : Environment) : Bool :=
  match env.find? `Nat.add_comm with
  | some (.thmInfo _) => false
  | _ => true

meta def axiomsOf (env : Environment) (c : Name) : List Name :=
  let ((), s) := ((CollectAxioms.collect c).run env).run {}
  if bodiesHidden env then
    filt (fun n => (match env.getModuleIdxFor? n with | none => true | _ => false) || hasName trueAxioms n) (toL s.axioms)
  else toL s.axioms

meta def kindOf : ConstantInfo → String
  | .axiomInfo _ => "axiom" | .defnInfo _ => "def" | .thmInfo _ => "theorem" | .opaqueInfo _ => "opaque"
  | .quotInfo _ => "quot" | .inductInfo _ => "inductive" | .ctorInfo _ => "constructor" | .recInfo _ => "recursor"

meta def jstr (s : String) : Json := Json.str s
meta def jnat (n : Nat) : Json := Json.num (JsonNumber.fromNat n)
meta def jarr (l : List Json) : Json := Json.arr (toA l)
meta def posJson (p : Position) : Json := Json.mkObj [("line", jnat p.line), ("column", jnat p.column)]

meta def msgJson (m : Message) : BaseIO Json := do
  let d ← m.data.toString
  let sev := match m.severity with | .information => "info" | .warning => "warning" | .error => "error"
  let e := match m.endPos with | some p => posJson p | none => Json.null
  return Json.mkObj [("severity", jstr sev), ("pos", posJson m.pos), ("endPos", e), ("kind", jstr m.kind.toString), ("data", jstr d)]

meta partial def msgsJson : List Message → BaseIO (List Json)
  | [] => return []
  | m :: t => do
    let j ← msgJson m
    let r ← msgsJson t
    return j :: r

/-! Goals at each `sorry`, read from the info trees. -/
mutual
meta partial def kidsNode : PersistentArrayNode InfoTree → List InfoTree
  | .node cs => kidsNodes (toL cs)
  | .leaf cs => toL cs
meta partial def kidsNodes : List (PersistentArrayNode InfoTree) → List InfoTree
  | [] => []
  | n :: t => app (kidsNode n) (kidsNodes t)
end
meta def kids (a : PersistentArray InfoTree) : List InfoTree := app (kidsNode a.root) (toL a.tail)

meta def sorryJson (fm : FileMap) (stx : Syntax) (goal : String) : Json :=
  let p (x : Option String.Pos.Raw) : Json := match x with | some q => posJson (fm.toPosition q) | none => Json.null
  Json.mkObj [("pos", p stx.getPos?), ("endPos", p stx.getTailPos?), ("goal", jstr goal)]

meta def goalText (c : ContextInfo) (gs : List MVarId) : BaseIO String := do
  match ← (c.ppGoals gs).toBaseIO with
  | .ok f => return f.pretty
  | .error _ => return ""

meta partial def sorriesIn (fm : FileMap) (ctx : Option ContextInfo) : List InfoTree → BaseIO (List Json)
  | [] => return []
  | t :: rest => do
    let here ← match t with
      | .context i t => sorriesIn fm (i.mergeIntoOuter? ctx) [t]
      | .node i cs => do
        let below ← sorriesIn fm ctx (kids cs)
        match i, ctx with
        | .ofTacticInfo ti, some c =>
          if ti.stx.isOfKind `Lean.Parser.Tactic.tacticSorry then
            -- It closes the first goal, and only that one.
            let g ← goalText { c with mctx := ti.mctxBefore } (match ti.goalsBefore with | g :: _ => [g] | [] => [])
            pure [sorryJson fm ti.stx g]
          else pure below
        | .ofTermInfo ti, some c =>
          if ti.stx.isOfKind `Lean.Parser.Term.sorry then
            match ti.expectedType? with
            | some ty =>
              let g : MVarId := { name := `certainly.goal }
              let m := c.mctx.addExprMVarDecl g Name.anonymous ti.lctx #[] ty
              let txt ← goalText { c with mctx := m } [g]
              pure [sorryJson fm ti.stx txt]
            | none => pure below
          else pure below
        | _, _ => pure below
      | .hole _ => pure []
    return app here (← sorriesIn fm ctx rest)

structure Cache where
  key : String
  env : Environment

meta def hdrKey : List Import → String
  | [] => ""
  | i :: t => i.module.toString ++ "," ++ hdrKey t

meta def mkImp (i : Import) : Import := { module := i.module }

meta def getEnv (ref : IO.Ref (List Cache)) (imps : List Import) : IO (Environment × Bool) := do
  let k := hdrKey imps
  let cs ← ref.get
  match filt (fun c => c.key == k) cs with
  | c :: _ => return (c.env, true)
  | [] =>
    let env ← importModules (toA (mapL mkImp imps)) {} (trustLevel := 0) (loadExts := true)
    ref.set ({ key := k, env := env } :: cs)
    return (env, false)

/-- Put the new constants, dependencies first, through the kernel once more, onto the untouched base environment. -/
structure Rp where
  env : Environment
  err : List String

meta def addK (r : Rp) (what : Name) (d : Declaration) : Rp :=
  match r.env.addDeclCore 0 d none with
  | .ok e => { r with env := e }
  | .error _ => { r with err := what.toString :: r.err }

meta partial def ctorsOf (src : Environment) : List Name → List Constructor
  | [] => []
  | c :: t => match src.find? c with
    | some ci => { name := c, type := ci.type } :: ctorsOf src t
    | none => ctorsOf src t
meta partial def typesOf (src : Environment) : List Name → List InductiveType
  | [] => []
  | n :: t => match src.find? n with
    | some (.inductInfo v) => { name := n, type := v.type, ctors := ctorsOf src v.ctors } :: typesOf src t
    | _ => typesOf src t

meta def fStr (j : Json) (k : String) (d : String) : String :=
  match j.getObjVal? k with | .ok (.str s) => s | _ => d
meta def fBool (j : Json) (k : String) (d : Bool) : Bool :=
  match j.getObjVal? k with | .ok (.bool s) => s | _ => d
meta def fNat (j : Json) (k : String) (d : Nat) : Nat :=
  match j.getObjVal? k with | .ok (.num n) => n.mantissa.toNat | _ => d

meta def isErr (m : Message) : Bool := match m.severity with | .error => true | _ => false

structure Done where
  state : Command.State
  commands : List Syntax

meta def elabWith (base : Environment) (msgs : MessageLog) (opts : Options) (ictx : Parser.InputContext) (ps : Parser.ModuleParserState) (nc : Bool) : IO Done := do
  let cs := Command.mkState base msgs opts
  let cs := { cs with scopes := [{ header := "", opts := opts, isNoncomputable := nc }], infoState := { enabled := true } }
  let st ← IO.processCommands ictx ps cs
  return { state := st.commandState, commands := toL st.commands }

meta def hasErr (d : Done) : Bool := anyL isErr d.state.messages.toList

/-- Proofs need no code, and the wasm package lacks the code of much of the library: so first without code generation,
and with it only if that gave an error (macros, `#eval` and `native_decide` need code). -/
meta def elabBest (base : Environment) (msgs : MessageLog) (opts : Options) (ictx : Parser.InputContext) (ps : Parser.ModuleParserState) : IO Done := do
  let a ← elabWith base msgs opts ictx ps true
  if hasErr a then
    let b ← elabWith base msgs opts ictx ps false
    return if hasErr b then a else b
  else return a

meta def idOf (j : Json) : Json := match j.getObjVal? "id" with | .ok v => v | _ => Json.null

meta def say (o : IO.FS.Handle) (nonce : String) (fields : List (String × Json)) : IO Unit := do
  -- The line break first: whatever the checked code left on the line before, ours stands alone.
  o.putStrLn ("\n\x01" ++ nonce ++ " " ++ (Json.mkObj fields).compress)
  o.flush

/-- What answers a request: the fields of the answer, or one `fault`. -/
abbrev Desk := IO.Ref (List Cache) → Json → BaseIO (List (String × Json))

meta partial def serve (desk : Desk) (i o : IO.FS.Handle) (ref : IO.Ref (List Cache)) : IO Unit := do
  let l ← i.getLine
  if l.isEmpty then return
  match Json.parse l with
  | .error e => say o "" [("fault", jstr e)]
  | .ok j =>
    let fields ← desk ref j
    say o (fStr j "nonce" "") (("id", idOf j) :: fields)
  serve desk i o ref

meta def main (desk : Desk) : IO Unit := do
  let o ← IO.FS.Handle.mk "/dev/stdout" .write
  let i ← IO.FS.Handle.mk "/dev/stdin" .read
  let ref ← IO.mkRef []
  let (env, _) ← getEnv ref [{ module := `Init }]
  say o "ready" [("version", jstr Lean.versionString), ("commit", jstr Lean.githash), ("axiomsComplete", Json.bool (!(bodiesHidden env)))]
  serve desk i o ref

/-! Here the checker's own part begins; tactic mode's program (dialogue.lean) has all that stands above. -/

/-! Declarations as text, for another process: names, levels and terms once each, in tables, dependencies first. -/
structure Tab (α : Type) where
  buckets : Array (List (α × Nat))
  size : Nat := 0
  rows : Array Json := #[]

meta partial def inBucket {α : Type} (same : α → α → Bool) (x : α) : List (α × Nat) → Option Nat
  | [] => none
  | (y, i) :: t => if same x y then some i else inBucket same x t
meta def Tab.at {α : Type} (_ : Tab α) (h : UInt64) : Nat := (h % 4096).toNat
meta def Tab.find {α : Type} (t : Tab α) (same : α → α → Bool) (h : UInt64) (x : α) : Option Nat :=
  match t.buckets[t.at h]? with
  | some b => inBucket same x b
  | none => none
meta def Tab.add {α : Type} (t : Tab α) (h : UInt64) (x : α) (row : Json) : Tab α :=
  let i := t.at h
  match t.buckets[i]? with
  | some b => { buckets := t.buckets.set! i ((x, t.size) :: b), size := t.size + 1, rows := t.rows.push row }
  | none => t

structure Ex where
  names : Tab Name
  levels : Tab Level
  terms : Tab Expr

@[noinline] meta def sameName (a b : Name) : Bool := a == b
@[noinline] meta def sameLevel (a b : Level) : Bool := a == b
@[noinline] meta def sameTerm (a b : Expr) : Bool := a == b

meta partial def exName (n : Name) (x : Ex) : Nat × Ex :=
  match x.names.find sameName n.hash n with
  | some i => (i, x)
  | none =>
    let (row, x) := match n with
      | .anonymous => (jarr [], x)
      | .str p s => let (i, x) := exName p x; (jarr [jnat i, jstr s], x)
      | .num p k => let (i, x) := exName p x; (jarr [jnat i, jnat k], x)
    (x.names.size, { x with names := x.names.add n.hash n row })

meta partial def exLevel (l : Level) (x : Ex) : Nat × Ex :=
  match x.levels.find sameLevel l.hash l with
  | some i => (i, x)
  | none =>
    let (row, x) := match l with
      | .zero => (jarr [jstr "z"], x)
      | .succ a => let (i, x) := exLevel a x; (jarr [jstr "s", jnat i], x)
      | .max a b => let (i, x) := exLevel a x; let (j, x) := exLevel b x; (jarr [jstr "m", jnat i, jnat j], x)
      | .imax a b => let (i, x) := exLevel a x; let (j, x) := exLevel b x; (jarr [jstr "i", jnat i, jnat j], x)
      | .param n => let (i, x) := exName n x; (jarr [jstr "p", jnat i], x)
      | .mvar _ => (jarr [jstr "?"], x)
    (x.levels.size, { x with levels := x.levels.add l.hash l row })

meta partial def exMany {α : Type} (f : α → Ex → Nat × Ex) : List α → Ex → List Json × Ex
  | [], x => ([], x)
  | a :: t, x =>
    let (i, x) := f a x
    let (r, x) := exMany f t x
    (jnat i :: r, x)

meta def binderNat : BinderInfo → Nat
  | .default => 0 | .implicit => 1 | .strictImplicit => 2 | .instImplicit => 3

meta partial def exTerm (e : Expr) (x : Ex) : Nat × Ex :=
  match e with
  | .mdata _ b => exTerm b x
  | _ =>
  match x.terms.find sameTerm e.hash e with
  | some i => (i, x)
  | none =>
    let (row, x) := match e with
      | .bvar i => (jarr [jstr "b", jnat i], x)
      | .sort l => let (i, x) := exLevel l x; (jarr [jstr "s", jnat i], x)
      | .const n ls =>
        let (i, x) := exName n x
        let (r, x) := exMany exLevel ls x
        (jarr (jstr "c" :: jnat i :: r), x)
      | .app f a => let (i, x) := exTerm f x; let (j, x) := exTerm a x; (jarr [jstr "a", jnat i, jnat j], x)
      | .lam n t b k =>
        let (h, x) := exName n x; let (i, x) := exTerm t x; let (j, x) := exTerm b x
        (jarr [jstr "l", jnat h, jnat i, jnat j, jnat (binderNat k)], x)
      | .forallE n t b k =>
        let (h, x) := exName n x; let (i, x) := exTerm t x; let (j, x) := exTerm b x
        (jarr [jstr "p", jnat h, jnat i, jnat j, jnat (binderNat k)], x)
      | .letE n t v b _ =>
        let (h, x) := exName n x; let (i, x) := exTerm t x; let (j, x) := exTerm v x; let (k, x) := exTerm b x
        (jarr [jstr "e", jnat h, jnat i, jnat j, jnat k], x)
      | .proj n i s => let (h, x) := exName n x; let (j, x) := exTerm s x; (jarr [jstr "j", jnat h, jnat i, jnat j], x)
      | .lit (.natVal n) => (jarr [jstr "n", jnat n], x)
      | .lit (.strVal s) => (jarr [jstr "t", jstr s], x)
      | _ => (jarr [jstr "?"], x)
    (x.terms.size, { x with terms := x.terms.add e.hash e row })

meta def exVal (v : ConstantVal) (x : Ex) : List Json × Ex :=
  let (n, x) := exName v.name x
  let (ls, x) := exMany exName v.levelParams x
  let (t, x) := exTerm v.type x
  ([jnat n, jarr ls, jnat t], x)

meta partial def exCtors : List Constructor → Ex → List Json × Ex
  | [], x => ([], x)
  | c :: r, x =>
    let (n, x) := exName c.name x; let (t, x) := exTerm c.type x
    let (rest, x) := exCtors r x
    (jarr [jnat n, jnat t] :: rest, x)
meta partial def exTypes : List InductiveType → Ex → List Json × Ex
  | [], x => ([], x)
  | t :: r, x =>
    let (n, x) := exName t.name x; let (i, x) := exTerm t.type x; let (cs, x) := exCtors t.ctors x
    let (rest, x) := exTypes r x
    (jarr [jnat n, jnat i, jarr cs] :: rest, x)

meta def hintJson : ReducibilityHints → Json
  | .opaque => jstr "opaque" | .abbrev => jstr "abbrev" | .regular h => jnat h.toNat

meta partial def exDecls : List Declaration → Ex → List Json × Ex
  | [], x => ([], x)
  | d :: r, x =>
    let (row, x) := match d with
      | .axiomDecl v => let (h, x) := exVal v.toConstantVal x; (jarr (jstr "a" :: h), x)
      | .defnDecl v =>
        let (h, x) := exVal v.toConstantVal x; let (i, x) := exTerm v.value x
        (jarr (app (jstr "d" :: h) [jnat i, hintJson v.hints]), x)
      | .thmDecl v => let (h, x) := exVal v.toConstantVal x; let (i, x) := exTerm v.value x; (jarr (app (jstr "t" :: h) [jnat i]), x)
      | .opaqueDecl v => let (h, x) := exVal v.toConstantVal x; let (i, x) := exTerm v.value x; (jarr (app (jstr "o" :: h) [jnat i]), x)
      | .inductDecl ls k ts _ =>
        let (ns, x) := exMany exName ls x; let (rows, x) := exTypes ts x
        (jarr [jstr "i", jarr ns, jnat k, jarr rows], x)
      | _ => (jarr [jstr "?"], x)
    let (rest, x) := exDecls r x
    (row :: rest, x)

meta def exported (made : List Declaration) : Json :=
  let x : Ex := { names := { buckets := Array.replicate 4096 [] }, levels := { buckets := Array.replicate 4096 [] }, terms := { buckets := Array.replicate 4096 [] } }
  let (ds, x) := exDecls made x
  Json.mkObj [("names", Json.arr x.names.rows), ("levels", Json.arr x.levels.rows), ("terms", Json.arr x.terms.rows), ("decls", jarr ds)]

meta partial def rev {α : Type} (l r : List α) : List α :=
  match l with
  | [] => r
  | x :: t => rev t (x :: r)

/-! The way back. The text may have been written by anybody: every place is looked up, and the kernel decides the rest. -/
abbrev Read := Except String

structure Im where
  names : Array Name := #[]
  levels : Array Level := #[]
  terms : Array Expr := #[]

meta def rdArr (j : Json) : Read (List Json) := match j with | .arr a => .ok (toL a) | _ => .error "a list was expected"
meta def rdNat (j : Json) : Read Nat :=
  match j with
  | .num n => if n.exponent == 0 && 0 ≤ n.mantissa then .ok n.mantissa.toNat else .error "a natural number was expected"
  | _ => .error "a natural number was expected"
meta def rdStr (j : Json) : Read String := match j with | .str s => .ok s | _ => .error "a text was expected"
meta def rdAt {α : Type} (a : Array α) (j : Json) : Read α :=
  match rdNat j with
  | .error e => .error e
  | .ok i => match a[i]? with | some x => .ok x | none => .error "a place that is not there"
meta partial def rdMany {α : Type} (f : Json → Read α) : List Json → Read (List α)
  | [] => .ok []
  | j :: t =>
    match f j with
    | .error e => .error e
    | .ok x => match rdMany f t with | .error e => .error e | .ok r => .ok (x :: r)
meta def rdPut {α : Type} (a : Array α) (r : Read α) : Read (Array α) := match r with | .error e => .error e | .ok x => .ok (a.push x)

meta def rdName (m : Im) (j : Json) : Read Name := do
  match ← rdArr j with
  | [] => .ok .anonymous
  | [p, .str s] => do let q ← rdAt m.names p; .ok (.str q s)
  | [p, k] => do let q ← rdAt m.names p; let i ← rdNat k; .ok (.num q i)
  | _ => .error "no name"
meta def rdLevel (m : Im) (j : Json) : Read Level := do
  match ← rdArr j with
  | [.str "z"] => .ok .zero
  | [.str "s", a] => do let x ← rdAt m.levels a; .ok (.succ x)
  | [.str "m", a, b] => do let x ← rdAt m.levels a; let y ← rdAt m.levels b; .ok (.max x y)
  | [.str "i", a, b] => do let x ← rdAt m.levels a; let y ← rdAt m.levels b; .ok (.imax x y)
  | [.str "p", a] => do let n ← rdAt m.names a; .ok (.param n)
  | _ => .error "no level"
meta def rdBinder (j : Json) : Read BinderInfo := do
  match ← rdNat j with
  | 0 => .ok .default | 1 => .ok .implicit | 2 => .ok .strictImplicit | 3 => .ok .instImplicit
  | _ => .error "no kind of binder"
meta def rdTerm (m : Im) (j : Json) : Read Expr := do
  match ← rdArr j with
  | [.str "b", i] => do let k ← rdNat i; .ok (.bvar k)
  | [.str "s", i] => do let l ← rdAt m.levels i; .ok (.sort l)
  | .str "c" :: n :: ls => do let x ← rdAt m.names n; let r ← rdMany (rdAt m.levels) ls; .ok (.const x r)
  | [.str "a", f, a] => do let x ← rdAt m.terms f; let y ← rdAt m.terms a; .ok (.app x y)
  | [.str "l", n, t, b, k] => do
    let x ← rdAt m.names n; let y ← rdAt m.terms t; let z ← rdAt m.terms b; let w ← rdBinder k; .ok (.lam x y z w)
  | [.str "p", n, t, b, k] => do
    let x ← rdAt m.names n; let y ← rdAt m.terms t; let z ← rdAt m.terms b; let w ← rdBinder k; .ok (.forallE x y z w)
  | [.str "e", n, t, v, b] => do
    let x ← rdAt m.names n; let y ← rdAt m.terms t; let z ← rdAt m.terms v; let w ← rdAt m.terms b; .ok (.letE x y z w false)
  | [.str "j", n, i, s] => do let x ← rdAt m.names n; let k ← rdNat i; let y ← rdAt m.terms s; .ok (.proj x k y)
  | [.str "n", n] => do let k ← rdNat n; .ok (.lit (.natVal k))
  | [.str "t", s] => do let k ← rdStr s; .ok (.lit (.strVal k))
  | _ => .error "no term"

meta partial def rdNames (m : Im) : List Json → Read Im
  | [] => .ok m
  | j :: t => match rdPut m.names (rdName m j) with | .error e => .error e | .ok a => rdNames { m with names := a } t
meta partial def rdLevels (m : Im) : List Json → Read Im
  | [] => .ok m
  | j :: t => match rdPut m.levels (rdLevel m j) with | .error e => .error e | .ok a => rdLevels { m with levels := a } t
meta partial def rdTerms (m : Im) : List Json → Read Im
  | [] => .ok m
  | j :: t => match rdPut m.terms (rdTerm m j) with | .error e => .error e | .ok a => rdTerms { m with terms := a } t

/-- A term that stands in a declaration has nothing left open; old kernels do not look everywhere. -/
meta def rdClosed (m : Im) (j : Json) : Read Expr := do
  let e ← rdAt m.terms j
  if e.hasLooseBVars || e.hasFVar || e.hasMVar then .error "an open term" else .ok e
meta def rdVal (m : Im) (n ls t : Json) : Read ConstantVal := do
  let x ← rdAt m.names n; let l ← rdArr ls; let ps ← rdMany (rdAt m.names) l; let y ← rdClosed m t
  .ok { name := x, levelParams := ps, type := y }
meta def rdHint (j : Json) : Read ReducibilityHints :=
  match j with
  | .str "opaque" => .ok .opaque
  | .str "abbrev" => .ok .abbrev
  | _ => do let h ← rdNat j; .ok (.regular (UInt32.ofNat h))
meta def rdCtor (m : Im) (j : Json) : Read Constructor := do
  match ← rdArr j with
  | [n, t] => do let x ← rdAt m.names n; let y ← rdClosed m t; .ok { name := x, type := y }
  | _ => .error "no constructor"
meta def rdType (m : Im) (j : Json) : Read InductiveType := do
  match ← rdArr j with
  | [n, t, cs] => do
    let x ← rdAt m.names n; let y ← rdClosed m t; let l ← rdArr cs; let r ← rdMany (rdCtor m) l
    .ok { name := x, type := y, ctors := r }
  | _ => .error "no inductive type"
meta def rdDecl (m : Im) (j : Json) : Read (Name × Declaration) := do
  match ← rdArr j with
  | [.str "a", n, ls, t] => do let v ← rdVal m n ls t; .ok (v.name, .axiomDecl { toConstantVal := v, isUnsafe := false })
  | [.str "d", n, ls, t, b, h] => do
    let v ← rdVal m n ls t; let x ← rdClosed m b; let k ← rdHint h
    .ok (v.name, .defnDecl { toConstantVal := v, value := x, hints := k, safety := .safe })
  | [.str "t", n, ls, t, b] => do let v ← rdVal m n ls t; let x ← rdClosed m b; .ok (v.name, .thmDecl { toConstantVal := v, value := x })
  | [.str "o", n, ls, t, b] => do let v ← rdVal m n ls t; let x ← rdClosed m b; .ok (v.name, .opaqueDecl { toConstantVal := v, value := x, isUnsafe := false })
  | [.str "i", ls, k, ts] => do
    let l ← rdArr ls; let ps ← rdMany (rdAt m.names) l; let c ← rdNat k; let r ← rdArr ts; let tys ← rdMany (rdType m) r
    match tys with
    | [] => .error "no inductive type"
    | t :: _ => .ok (t.name, .inductDecl ps c tys false)
  | _ => .error "no declaration"

meta def rdField (j : Json) (k : String) : Read (List Json) :=
  match j.getObjVal? k with | .ok v => rdArr v | .error e => .error e

meta def imported (j : Json) : Read (List (Name × Declaration)) := do
  let ns ← rdField j "names"; let ls ← rdField j "levels"; let ts ← rdField j "terms"; let ds ← rdField j "decls"
  let m ← rdNames {} ns
  let m ← rdLevels m ls
  let m ← rdTerms m ts
  rdMany (rdDecl m) ds

meta partial def addAll : List (Name × Declaration) → Rp → Rp
  | [], r => r
  | (n, d) :: t, r => addAll t (if r.env.contains n then { r with err := (n.toString ++ " again") :: r.err } else addK r n d)

/-- The constants that a declaration brings with it. -/
meta partial def namesOfTypes : List InductiveType → List Name
  | [] => []
  | t :: r => app (t.name :: mapL (fun c => c.name) t.ctors) ((.str t.name "rec") :: namesOfTypes r)
meta partial def namesOf : List (Name × Declaration) → List Name
  | [] => []
  | (n, d) :: t => app (match d with | .inductDecl _ _ tys _ => namesOfTypes tys | _ => [n]) (namesOf t)

/-- A type as a person reads it: the goal of a metavariable of that type. -/
meta def typeText (env : Environment) (fm : FileMap) (ty : Expr) : BaseIO String := do
  let g : MVarId := { name := `certainly.statement }
  let m : MetavarContext := {}
  let m := m.addExprMVarDecl g Name.anonymous {} #[] ty
  let c : CommandContextInfo := { env := env, fileMap := fm, mctx := m, ngen := { namePrefix := `certainly } }
  let s ← goalText { c with parentDecl? := none } [g]
  return s

meta def lastPart : Name → String
  | .str _ s => s
  | _ => ""

/-! Names that the file's own text declares; the rest (`T.n.inj`, `f.eq_1`) is Lean's. -/
mutual
meta partial def idsIn (s : Syntax) : List String :=
  match s with
  | .node _ k cs =>
    if k == `Lean.Parser.Command.declId then
      match s.getArg 0 with
      | .ident _ _ n _ => [lastPart n]
      | _ => []
    else anyIds (toL cs)
  | _ => []
meta partial def anyIds : List Syntax → List String
  | [] => []
  | s :: t => app (idsIn s) (anyIds t)
end

/-! What a declaration is made of: the file's own constants, seen through those that Lean made for itself. -/
meta def bodyOf : ConstantInfo → Option Expr
  | .thmInfo v => some v.value
  | .defnInfo v => some v.value
  | .opaqueInfo v => some v.value
  | _ => none
meta def partsOf (ci : ConstantInfo) : List Name :=
  match bodyOf ci with
  | some v => app (toL v.getUsedConstants) (toL ci.type.getUsedConstants)
  | none => toL ci.type.getUsedConstants
meta partial def usesIn (base env : Environment) (todo seen found : List Name) : List Name :=
  match todo with
  | [] => found
  | n :: t =>
    if hasName seen n || base.contains n then usesIn base env t seen found
    else if n.isInternal then
      match env.find? n with
      | some ci => usesIn base env (app (partsOf ci) t) (n :: seen) found
      | none => usesIn base env t (n :: seen) found
    else usesIn base env t (n :: seen) (n :: found)
/-- A sorry that stands in the declaration itself: one that was written, or one that Lean put in after an error. -/
meta def gapOf (ci : ConstantInfo) : String :=
  match bodyOf ci with
  | none => ""
  | some v =>
    if v.hasSyntheticSorry then "error"
    else if hasName (toL v.getUsedConstants) `sorryAx then "sorry" else ""

meta partial def declsJson (seen : List String) (base env : Environment) (fm : FileMap) : List Name → BaseIO (List Json)
  | [] => return []
  | n :: t => do
    let rest ← declsJson seen base env fm t
    match env.find? n with
    | none => return rest
    | some ci =>
      if n.isInternal then return rest else
      let s ← match ci with
        | .thmInfo _ => typeText env fm ci.type
        | _ => pure ""
      return Json.mkObj [("name", jstr n.toString), ("kind", jstr (kindOf ci)), ("written", Json.bool (anyL (fun w => w == lastPart n) seen)), ("statement", jstr s), ("typeHash", jstr (toString ci.type.hash)),
        ("axioms", Json.arr (toA (mapL (fun a => jstr a.toString) (axiomsOf env n)))),
        ("uses", Json.arr (toA (mapL (fun u => jstr u.toString) (usesIn base env (partsOf ci) [n] [])))), ("gap", jstr (gapOf ci))] :: rest

mutual
meta partial def examplesIn (s : Syntax) : Nat :=
  match s with
  | .node _ k cs => if k == `Lean.Parser.Command.example then 1 else examplesSum (toL cs)
  | _ => 0
meta partial def examplesSum : List Syntax → Nat
  | [] => 0
  | s :: t => examplesIn s + examplesSum t
end

/-- Nested inductives, or recursion on accessibility: where kernels before 4.34 have published holes. -/
meta partial def touchesHoles (env : Environment) : List Name → Bool
  | [] => false
  | n :: t =>
    (match env.find? n with
     | some (.inductInfo v) => v.numNested != 0
     | some ci => hasName (toL ci.type.getUsedConstants) `Acc.rec ||
        (match ci with
         | .defnInfo d => hasName (toL d.value.getUsedConstants) `Acc.rec
         | .thmInfo d => hasName (toL d.value.getUsedConstants) `Acc.rec
         | _ => false)
     | none => false) || touchesHoles env t

/-! The judge: does the answer state what the reference states? Both were elaborated; text is never compared. -/
meta def isLocal (base : Environment) (n : Name) : Bool := !(base.contains n)

meta partial def sameLength : List Name → List Name → Bool
  | [], [] => true
  | _ :: t, _ :: u => sameLength t u
  | _, _ => false

meta partial def paramLevels : List Name → List Level
  | [] => []
  | n :: t => Level.param n :: paramLevels t

/-- `e` of `b`, with the level parameters of `b` called as `a` calls its own. -/
meta def renamed (a b : ConstantInfo) (e : Expr) : Expr :=
  e.instantiateLevelParams b.levelParams (paramLevels a.levelParams)

meta def valueOf : ConstantInfo → Option Expr
  | .defnInfo v => some v.value
  | .opaqueInfo v => some v.value
  | _ => none

meta def isHole (ci : ConstantInfo) : Bool :=
  match valueOf ci with
  | some v => hasName (toL v.getUsedConstants) `sorryAx
  | none => false

meta partial def sameNames : List Name → List Name → Bool
  | [], [] => true
  | a :: t, b :: u => a == b && sameNames t u
  | _, _ => false

/-- Why the answer's constant is not the reference's, or "" when it is. -/
meta def differs (a b : ConstantInfo) : String :=
  let kinds := if kindOf a == kindOf b || (kindOf a == "def" && isHole a && kindOf b == "opaque") then "" else "kind: expected " ++ kindOf a ++ ", got " ++ kindOf b
  if kinds != "" then kinds
  else if !(sameLength a.levelParams b.levelParams) then "universe parameters differ"
  else if !(a.type == renamed a b b.type) then "type differs"
  else match a, b with
    | .inductInfo v, .inductInfo w => if sameNames v.ctors w.ctors && v.numParams == w.numParams then "" else "constructors differ"
    | _, _ =>
      if isHole a then "" else
      match valueOf a, valueOf b with
      | some x, some y => if x == renamed a b y then "" else "value differs"
      | none, none => ""
      | _, _ => "value differs"

meta def reach (ci : ConstantInfo) : List Name :=
  let ofType := toL ci.type.getUsedConstants
  match ci with
  | .inductInfo v => app v.ctors ofType
  | _ => if isHole ci then ofType else match valueOf ci with
    | some v => app (toL v.getUsedConstants) ofType
    | none => ofType

/-- Walk every constant that the reference's target reaches and that is not the library's; the first difference found. -/
meta partial def walk (base src dst : Environment) (todo seen : List Name) : List Name × String :=
  match todo with
  | [] => (seen, "")
  | n :: t =>
    if hasName seen n || !(isLocal base n) then walk base src dst t seen else
    match src.find? n, dst.find? n with
    | some a, some b =>
      let d := differs a b
      if d != "" then (n :: seen, n.toString ++ ": " ++ d) else walk base src dst (app (reach a) t) (n :: seen)
    | some _, none => (n :: seen, n.toString ++ ": missing")
    | none, _ => walk base src dst t (n :: seen)

meta def targetJson (base src dst : Environment) (n : Name) : Json :=
  let (_, d) := walk base src dst [n] []
  Json.mkObj [("name", jstr n.toString), ("status", jstr (if d == "" then "same" else "different")), ("detail", jstr d)]

meta def isTarget (env : Environment) (n : Name) : Bool :=
  if n.isInternalDetail then false else
  match env.find? n with
  | some (.thmInfo _) => true
  | some (.defnInfo _) => true
  | some (.opaqueInfo _) => true
  | some (.axiomInfo _) => true
  | some (.inductInfo _) => true
  | _ => false

meta def isAxiomIn (env : Environment) (n : Name) : Bool :=
  match env.find? n with
  | some (.axiomInfo _) => true
  | _ => false

meta def newNames (d : Done) : IO (List Name) := do
  let md ← mkModuleData d.state.env .private
  return toL md.constNames

/-! Gathering what a file declares, dependencies first, as the kernel takes it. What is unsafe or partial proves nothing and stays. -/
structure Gathered where
  seen : Tab Name := { buckets := Array.replicate 4096 [] }
  made : List Declaration := []

mutual
meta partial def gatherAll (base src : Environment) : List Name → Gathered → Gathered
  | [], g => g
  | n :: t, g => gatherAll base src t (gather base src n g)
meta partial def gather (base src : Environment) (n : Name) (g : Gathered) : Gathered :=
  if base.contains n then g else
  match g.seen.find sameName n.hash n with
  | some _ => g
  | none =>
    match src.find? n with
    | none => g
    | some ci =>
      if ci.isUnsafe || ci.isPartial then g else
      let g := { g with seen := g.seen.add n.hash n Json.null }
      let parts (e : Expr) (g : Gathered) : Gathered := gatherAll base src (toL e.getUsedConstants) g
      let push (d : Declaration) (g : Gathered) : Gathered := { g with made := d :: g.made }
      match ci with
      | .axiomInfo v => push (.axiomDecl v) (parts v.type g)
      | .defnInfo v => push (.defnDecl v) (parts v.value (parts v.type g))
      | .thmInfo v => push (.thmDecl v) (parts v.value (parts v.type g))
      | .opaqueInfo v => push (.opaqueDecl v) (parts v.value (parts v.type g))
      | .inductInfo v =>
        let others (e : Expr) (g : Gathered) : Gathered := gatherAll base src (filt (fun m => !hasName v.all m) (toL e.getUsedConstants)) g
        let tys := typesOf src v.all
        let g := foldL (fun g m => { g with seen := g.seen.add m.hash m Json.null }) g v.all
        let g := foldL (fun g t => foldL (fun g c => others c.type g) (others t.type g) t.ctors) g tys
        push (.inductDecl v.levelParams v.numParams tys v.isUnsafe) g
      | .ctorInfo v => gather base src v.induct g
      | .recInfo v => gatherAll base src v.all g
      | .quotInfo _ => g
end

/-! Reading without running anything. What Lean runs of a file it has compiled before (an elaborator, a notation's parser, the term of an
option, a constant for the kernel). So where a first pass of the compiler drops everything, nothing of the file can run. -/
meta def refusal : Name := `certainly.noCode

/-- Whether something is compiled to be run at once, not for later. -/
meta def isMomentary : Name → Bool
  | .str p s => s.startsWith "_tmp" || s.startsWith "_eval" || s.startsWith "_nativeDecide" || isMomentary p
  | .num p _ => isMomentary p
  | .anonymous => false

open Compiler.LCNF in
meta partial def drop (decls : List Decl) : CompilerM Unit := do
  match decls with
  | [] => return
  | d :: t => do
    eraseDecl d
    drop t
meta def refusing (wanted : IO.Ref Bool) : Compiler.LCNF.Pass :=
  { phase := .base, name := refusal, run := fun decls => do
      let names := mapL (fun d => d.name) (toL decls)
      if anyL isMomentary names then
        wanted.set true
        throw (Exception.error .missing (MessageData.ofName refusal))
      drop (toL decls)
      return #[] }

/-- Functions whose own code the wasm build lacks are there all the same when they are handed on as values. -/
@[noinline] meta def with3 {α β γ δ : Type} (f : α → β → γ → δ) (a : α) (b : β) (c : γ) : δ := f a b c

open Compiler.LCNF in
/-- An environment in which nothing is compiled, so that nothing of a file can run. -/
meta def without (wanted : IO.Ref Bool) (base : Environment) : Environment :=
  let passes := { builtinPassManager with basePasses := toA (refusing wanted :: toL builtinPassManager.basePasses) }
  with3 (@PersistentEnvExtension.setState Name (Name × PassManager) (List Name × PassManager)) passManagerExt base ([], passes)

meta partial def begins : List Char → List Char → Bool
  | [], _ => true
  | a :: t, b :: u => a == b && begins t u
  | _, [] => false
meta partial def holds (sign : List Char) : List Char → Bool
  | [] => false
  | c :: t => begins sign (c :: t) || holds sign t
/-- Lean's interpreter was asked for something of the file that was dropped. -/
meta def isMissing (text : String) : Bool :=
  let l := text.toList
  holds "unknown declaration".toList l || holds refusal.toString.toList l

/-! Some say nothing where they were dropped: rules for a syntax that is there already, and attributes by which Lean comes to run what they stand
on. They are known by name here, so that a file is read as Lean reads it; what is not known can be missed, and then it does not run. -/
meta def ruleKinds : List Name :=
  [`Lean.Parser.Command.macro_rules, `Lean.Parser.Command.elab_rules, `Lean.Parser.Attr.macro]
meta def ruleAttrs : List String :=
  ["macro", "elab", "parser", "tactic", "unexpander", "delab", "formatter", "parenthesizer", "simproc", "simprocAttr", "propagator", "init", "linter"]
/-! An attribute that is not one of these may be such a one. It counts where there is an error to explain. -/
meta def plainAttrs : List Name :=
  [`simp, `ext, `reducible, `semireducible, `irreducible, `inline, `instance, `local, `scoped, `elab_as_elim, `symm, `refl, `trans, `grind, `norm_num,
   `default_instance, `class, `congr, `expose, `implicit_reducible, `specialize, `noinline, `always_inline, `macro_inline, `induction_eliminator, `cases_eliminator, `csimp]
mutual
meta partial def hasRule (odd : Bool) (s : Syntax) : Bool :=
  match s with
  | .node _ k cs =>
    if k == `Lean.Parser.Attr.simple then
      match s.getArg 0 with
      | .ident _ _ n _ => anyL (fun w => (lastPart n).endsWith w) ruleAttrs || (odd && !(hasName plainAttrs n))
      | _ => odd
    else hasName ruleKinds k || anyRule odd (toL cs)
  | _ => false
meta partial def anyRule (odd : Bool) : List Syntax → Bool
  | [] => false
  | s :: t => hasRule odd s || anyRule odd t
end

/-! The kernel asked to run a constant says nothing either, but leaves a sorry. -/
meta def kernelRuns : List String := ["reduceBool", "reduceNat", "ofReduceBool", "ofReduceNat"]
mutual
meta partial def asksKernel (s : Syntax) : Bool :=
  match s with
  | .node _ _ cs => anyAsksKernel (toL cs)
  | .ident _ _ n _ => anyL (fun w => w == lastPart n) kernelRuns
  | _ => false
meta partial def anyAsksKernel : List Syntax → Bool
  | [] => false
  | s :: t => asksKernel s || anyAsksKernel t
end

meta partial def saysMissing : List Message → BaseIO Bool
  | [] => return false
  | m :: t => do
    let text ← m.data.toString
    if isMissing text then return true else saysMissing t

/-- First with nothing compiled; most files need no code. Only where something was missed, it is said aloud, and done again with it. -/
meta def readFile (o : IO.FS.Handle) (base : Environment) (msgs : MessageLog) (opts : Options) (ictx : Parser.InputContext) (ps : Parser.ModuleParserState) : IO (Done × Bool) := do
  let wanted ← IO.mkRef false
  let d ← elabWith (without wanted base) msgs opts ictx ps true
  let wants ← wanted.get
  let missing ← saysMissing (filt isErr d.state.messages.toList)
  if !(wants || missing || anyRule (hasErr d) d.commands || anyAsksKernel d.commands) then return (d, false)
  o.putStrLn "\n\x01runs"
  o.flush
  let a ← elabBest base msgs opts ictx ps
  return (a, true)

meta def micros (t0 t1 : Nat) : Json := jnat ((t1 - t0) / 1000)

meta def read (o : IO.FS.Handle) (ref : IO.Ref (List Cache)) (req : Json) : IO (List (String × Json)) := do
  let code := fStr req "code" ""
  let t0 ← IO.monoNanosNow
  let ictx := inputCtx code "<input>"
  let (hdr, ps, msgs) ← Parser.parseHeader ictx
  let (hdr, _, _) ← match req.getObjVal? "header" with
    | .ok (.str text) => Parser.parseHeader (inputCtx text "<header>")
    | _ => pure (hdr, ps, msgs)
  let (base, _) ← getEnv ref (toL (headerToImports hdr))
  let t1 ← IO.monoNanosNow
  let opts := ({} : Options).set `maxHeartbeats (fNat req "maxHeartbeats" 200000)
  let (d, ran) ← readFile o base msgs opts ictx ps
  let t2 ← IO.monoNanosNow
  let names ← newNames d
  let js ← msgsJson d.state.messages.toList
  let so ← sorriesIn ictx.fileMap none (kids d.state.infoState.substituteLazy.get.trees)
  let out := (exported (rev (gatherAll base d.state.env names {}).made [])).compress
  let t3 ← IO.monoNanosNow
  return [("messages", jarr js), ("sorries", jarr so), ("written", jarr (mapL jstr (anyIds d.commands))), ("examples", jnat (examplesSum d.commands)),
    ("ranPrograms", Json.bool ran), ("exported", jstr out),
    ("us", Json.mkObj [("import", micros t0 t1), ("elab", micros t1 t2), ("export", micros t2 t3)])]

/-! Judging: nothing of a file is read here but what it imports. -/
structure Reference where
  env : Environment
  targets : List Name
  refused : List String

meta def judged (base answer : Environment) (r : Reference) : Json :=
  Json.mkObj [("axioms", jarr (mapL (fun n => jstr n.toString) (filt (isAxiomIn r.env) r.targets))), ("replayErrors", jarr (mapL jstr r.refused)),
    ("targets", jarr (mapL (targetJson base r.env answer) r.targets))]

meta def told (j : Json) (k : String) : IO (List (Name × Declaration)) :=
  match Json.parse (fStr j k "") with
  | .error e => throw (IO.userError ("the exported declarations cannot be read: " ++ e))
  | .ok x => match imported x with
    | .error e => throw (IO.userError ("the exported declarations cannot be read: " ++ e))
    | .ok ds => return ds

meta def strings (j : Json) (k : String) : List String :=
  match j.getObjVal? k with
  | .ok (.arr a) => mapL (fun x => match x with | .str s => s | _ => "") (toL a)
  | _ => []

meta def judge (ref : IO.Ref (List Cache)) (req : Json) : IO (List (String × Json)) := do
  let t0 ← IO.monoNanosNow
  let ictx := inputCtx (fStr req "code" "") "<input>"
  let (hdr, _, _) ← Parser.parseHeader ictx
  let (base, _) ← getEnv ref (toL (headerToImports hdr))
  let t1 ← IO.monoNanosNow
  let reference ← match req.getObjVal? "reference" with
    | .ok (.str _) => do
      let ds ← told req "reference"
      let rp := addAll ds { env := base, err := [] }
      let r : Reference := { env := rp.env, targets := filt (isTarget rp.env) (namesOf ds), refused := rp.err }
      pure (some r)
    | _ => pure none
  let t2 ← IO.monoNanosNow
  let ds ← told req "exported"
  let names := namesOf ds
  let rp := addAll ds { env := base, err := [] }
  let verdict := match reference with
    | some r => judged base rp.env r
    | none => Json.null
  let rows ← declsJson (strings req "written") base rp.env ictx.fileMap names
  let t3 ← IO.monoNanosNow
  return [("decls", jarr rows), ("replayErrors", jarr (mapL jstr rp.err)), ("judge", verdict), ("nested", Json.bool (touchesHoles rp.env names)),
    ("axiomsComplete", Json.bool (!(bodiesHidden base))), ("us", Json.mkObj [("import", micros t0 t1), ("judge", micros t1 t2), ("replay", micros t2 t3)])]

meta def answer (o : IO.FS.Handle) (ref : IO.Ref (List Cache)) (j : Json) : BaseIO (List (String × Json)) := do
  match ← (if fStr j "op" "" == "judge" then judge ref j else read o ref j).toBaseIO with
  | .ok r => return r
  | .error e => return [("fault", jstr (toString e))]

syntax (name := go) "#certainly_serve" : command
@[command_elab go] public meta def elabGo : Command.CommandElab := fun _ _ _ => do
  let r ← (do main (answer (← IO.FS.Handle.mk "/dev/stdout" .write)) : IO Unit).toBaseIO
  match r with
  | .ok _ => pure ()
  | .error e => throw (Exception.error .missing (toString e))
end Certainly
#certainly_serve
