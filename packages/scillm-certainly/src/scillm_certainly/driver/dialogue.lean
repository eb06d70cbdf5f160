/-!
Tactic mode: a conversation about goals, one JSON object per line as in driver.lean, whose first part this program has.
  in : {"id", "nonce", "op": "open", "code", "maxHeartbeats", "list": bool, "keep"?: {"kind": "sorry" | "root" | "tactic", "index"}, "drop": [state]}
  out: {"id", "sorries": [{pos, endPos, goal}], "roots": [{pos, goal}], "tactics": [{pos, endPos, goals, tactic, usedConstants}]} where "list" is
       true, and {"state", "goals"} where "keep" is there: the goal at that place, as a state that tactics can be run in
  in : {"id", "nonce", "op": "step", "state", "tactic", "axioms": [name], "drop": [state]}
  out: {"id", "state", "goals", "messages", "traces", "sorries": [{pos, endPos, goal, state}], "status"}, or {"id", "message"} when Lean
       refuses the tactic; the state that was asked stays as it was
or {"id", "fault"}. Nothing that is said here is a verdict: this process runs whatever it is told to.
-/

mutual
meta partial def replayAll (src : Environment) : List Name → Rp → Rp
  | [], r => r
  | n :: t, r => replayAll src t (replayOne src n r)
meta partial def replayOne (src : Environment) (n : Name) (r : Rp) : Rp :=
  if r.env.contains n then r else
  match src.find? n with
  | none => { r with err := ("missing " ++ n.toString) :: r.err }
  | some ci =>
    if ci.isUnsafe || ci.isPartial then r else
    match ci with
    | .axiomInfo v => addK (replayAll src (toL v.type.getUsedConstants) r) n (.axiomDecl v)
    | .defnInfo v => addK (replayAll src (toL v.value.getUsedConstants) (replayAll src (toL v.type.getUsedConstants) r)) n (.defnDecl v)
    | .thmInfo v => addK (replayAll src (toL v.value.getUsedConstants) (replayAll src (toL v.type.getUsedConstants) r)) n (.thmDecl v)
    | .opaqueInfo v => addK (replayAll src (toL v.value.getUsedConstants) (replayAll src (toL v.type.getUsedConstants) r)) n (.opaqueDecl v)
    | .inductInfo v =>
      let tys := typesOf src v.all
      let r := foldL (fun r t => replayAll src (filt (fun m => !hasName v.all m) (toL t.type.getUsedConstants)) r) r tys
      let r := foldL (fun r t => foldL (fun r c => replayAll src (filt (fun m => !hasName v.all m) (toL c.type.getUsedConstants)) r) r t.ctors) r tys
      addK r n (.inductDecl v.levelParams v.numParams tys v.isUnsafe)
    | .ctorInfo v => replayOne src v.induct r
    | .recInfo v => replayAll src v.all r
    | .quotInfo _ => r
end

/-- A place in a file where a goal was: `hole` is closed (or opened) there, `roots` is what a proof from there must fill. -/
inductive Hole where
  | goals (l : List MVarId)
  | term (lctx : LocalContext) (type : Expr)

structure Place where
  ctx : ContextInfo
  before : Environment
  hole : Hole
  stx : Syntax
  used : List Name := []

structure Opened where
  sorries : List Place := []
  roots : List Place := []
  tactics : List Place := []

instance : Inhabited Opened := ⟨{}⟩

/-- A state of a proof. `before` is the environment that no tactic has touched, and that lacks what is to be proved, `own`. -/
structure Snap where
  before : Environment
  own : Option Name
  coreC : Core.Context
  coreS : Core.State
  metaS : Meta.State
  termS : Term.State := {}
  goals : List MVarId
  roots : List MVarId
  /-- Whether a tactic on the way here reported an error. -/
  failed : Bool := false

structure Table where
  next : Nat := 0
  snaps : List (Nat × Snap) := []
  code : String := ""
  opened : Option Opened := none

meta partial def constantsIn (m : MetavarContext) (lctx : LocalContext) : List FVarId → List Name
  | [] => []
  | x :: t =>
    let rest := constantsIn m lctx t
    match lctx.find? x with
    | none => rest
    | some d =>
      if d.isImplementationDetail then rest else
      let own := toL (instantiateMVarsCore m d.type).1.getUsedConstants
      match d.value? with
      | some v => app own (app (toL (instantiateMVarsCore m v).1.getUsedConstants) rest)
      | none => app own rest
meta def constantsOf (m : MetavarContext) : Hole → List Name
  | .term lctx ty => app (toL (instantiateMVarsCore m ty).1.getUsedConstants) (constantsIn m lctx (toL lctx.getFVarIds))
  | .goals l => ofGoals l
where ofGoals : List MVarId → List Name
  | [] => []
  | g :: t => match m.findDecl? g with
    | some d => app (app (toL (instantiateMVarsCore m d.type).1.getUsedConstants) (constantsIn m d.lctx (toL d.lctx.getFVarIds))) (ofGoals t)
    | none => ofGoals t

/-- A place, with the environment before its command: its declaration is not yet there, and so no proof is its own reason.
A goal that speaks of what its own command made (a `match`, say) needs the environment after it; then the kernel finds out. -/
meta def placeAt (before : Environment) (c : ContextInfo) (h : Hole) (stx : Syntax) : Place :=
  let made := anyL (fun n => !(before.contains n)) (constantsOf c.mctx h)
  { ctx := if made then c else { c with env := before }, before := before, hole := h, stx := stx }

meta def treeEnv (d : Environment) : InfoTree → Environment
  | .context (.commandCtx c) _ => c.env
  | _ => d

/-- `isSubstantive` of the REPL: what does something, and does not merely hold tactics together. -/
meta def holders : List Name :=
  [`null, `Lean.cdot, `Lean.cdotTk, `Lean.Parser.Term.byTactic, `Lean.Parser.Tactic.tacticSeq, `Lean.Parser.Tactic.tacticSeq1Indented,
   `Lean.Parser.Tactic.«tactic_<;>_», `Lean.Parser.Tactic.paren]
meta def isWritten (s : Syntax) : Bool :=
  (match s with | .node .. => true | _ => false) && !(hasName holders s.getKind) &&
  (match s.getHeadInfo with | .original .. => true | _ => false)

meta partial def usedIn (m : MetavarContext) (todo : List MVarId) (seen : List Name) (found : List Name) : List Name :=
  match todo with
  | [] => found
  | g :: t =>
    if hasName seen g.name then usedIn m t seen found else
    match m.getExprAssignmentCore? g with
    | none => usedIn m t (g.name :: seen) found
    | some e =>
      let fresh := filt (fun n => !(hasName found n)) (toL e.getUsedConstants)
      usedIn m (app (toL (e.collectMVars {}).result) t) (g.name :: seen) (app found fresh)

meta partial def sorriesAt (before : Environment) (ctx : Option ContextInfo) : List InfoTree → List Place
  | [] => []
  | t :: rest =>
    let here := match t with
      | .context i t => sorriesAt before (i.mergeIntoOuter? ctx) [t]
      | .node i cs =>
        let below := sorriesAt before ctx (kids cs)
        match i, ctx with
        | .ofTacticInfo ti, some c =>
          if ti.stx.isOfKind `Lean.Parser.Tactic.tacticSorry then
            -- It closes the first goal, and only that one.
            let g := match ti.goalsBefore with | g :: _ => [g] | [] => []
            [placeAt before { c with mctx := ti.mctxBefore } (.goals g) ti.stx]
          else below
        | .ofTermInfo ti, some c =>
          if ti.stx.isOfKind `Lean.Parser.Term.sorry then
            match ti.expectedType? with
            | some ty => [placeAt before c (.term ti.lctx ty) ti.stx]
            | none => below
          else below
        | _, _ => below
      | .hole _ => []
    app here (sorriesAt before ctx rest)

meta partial def tacticsAt (before : Environment) (ctx : Option ContextInfo) : List InfoTree → List Place
  | [] => []
  | t :: rest =>
    let here := match t with
      | .context i t => tacticsAt before (i.mergeIntoOuter? ctx) [t]
      | .node i cs =>
        let below := tacticsAt before ctx (kids cs)
        match i, ctx with
        | .ofTacticInfo ti, some c =>
          if isWritten ti.stx then
            { placeAt before { c with mctx := ti.mctxBefore } (.goals ti.goalsBefore) ti.stx with used := usedIn ti.mctxAfter ti.goalsBefore [] [] } :: below
          else below
        | _, _ => below
      | .hole _ => []
    app here (tacticsAt before ctx rest)

meta partial def rootsAt (before : Environment) (ctx : Option ContextInfo) : List InfoTree → List Place
  | [] => []
  | t :: rest =>
    let here := match t with
      | .context i t => rootsAt before (i.mergeIntoOuter? ctx) [t]
      | .node i cs =>
        match i, ctx with
        | .ofTacticInfo ti, some c => [placeAt before { c with mctx := ti.mctxBefore } (.goals ti.goalsBefore) ti.stx]
        | _, _ => rootsAt before ctx (kids cs)
      | .hole _ => []
    app here (rootsAt before ctx rest)

/-- One tree per command; what the command before it left behind is where the command began. -/
meta partial def placesIn (before : Environment) : List InfoTree → Opened
  | [] => {}
  | t :: rest =>
    let r := placesIn (treeEnv before t) rest
    { sorries := app (sorriesAt before none [t]) r.sorries, roots := app (rootsAt before none [t]) r.roots, tactics := app (tacticsAt before none [t]) r.tactics }

meta def coreCtx (c : ContextInfo) (fm : FileMap) : IO Core.Context := do
  let traces ← inheritedTraceOptions.get
  return { fileName := "<input>", fileMap := fm, options := c.options, currNamespace := c.currNamespace, openDecls := c.openDecls,
           maxRecDepth := maxRecDepth.get c.options, inheritedTraceOptions := traces }

/-- Lean's measure of work begins anew with every request. -/
meta def fresh (c : Core.Context) : BaseIO Core.Context := do
  let h ← IO.getNumHeartbeats
  return { c with initHeartbeats := h }

meta partial def instancesIn (lctx : LocalContext) (mc : Meta.Context) (ms : IO.Ref Meta.State) (cc : Core.Context) (cs : IO.Ref Core.State) :
    List FVarId → EIO Exception (List LocalInstance)
  | [] => return []
  | x :: t => do
    let rest ← instancesIn lctx mc ms cc cs t
    match lctx.find? x with
    | none => return rest
    | some d =>
      if d.isImplementationDetail then return rest else
      match ← Meta.isClass? d.type mc ms cc cs with
      | some n => return { className := n, fvar := .fvar x } :: rest
      | none => return rest

meta def snapOf (p : Place) : EIO Exception Snap := do
  let cc ← match ← (coreCtx p.ctx p.ctx.fileMap).toBaseIO with
    | .ok c => fresh c
    | .error e => throw (Exception.error .missing (toString e))
  let (_, ngen) := p.ctx.ngen.mkChild
  let coreS : Core.State := { env := p.ctx.env, ngen := ngen }
  match p.hole with
  | .goals [] => throw (Exception.error .missing "there is no goal at this place")
  | .goals gs => return { before := p.before, own := p.ctx.parentDecl?, coreC := cc, coreS := coreS, metaS := { mctx := p.ctx.mctx }, goals := gs, roots := gs }
  | .term lctx ty =>
    let cs ← IO.mkRef coreS
    let ms ← IO.mkRef { mctx := p.ctx.mctx }
    let is ← instancesIn lctx { lctx := lctx } ms cc cs (toL lctx.getFVarIds)
    let e ← Meta.mkFreshExprMVarAt lctx (toA is) ty .natural .anonymous 0 { lctx := lctx } ms cc cs
    let g := e.mvarId!
    return { before := p.before, own := p.ctx.parentDecl?, coreC := cc, coreS := ← cs.get, metaS := ← ms.get, goals := [g], roots := [g] }

meta partial def goalTexts (s : Snap) (ms : IO.Ref Meta.State) (cs : IO.Ref Core.State) : List MVarId → EIO Exception (List Json)
  | [] => return []
  | g :: t => do
    let f ← Meta.ppGoal g {} ms s.coreC cs
    let r ← goalTexts s ms cs t
    return jstr f.pretty :: r

meta def goalsOf (s : Snap) : EIO Exception (List Json) := do
  let cs ← IO.mkRef s.coreS
  let ms ← IO.mkRef s.metaS
  goalTexts s ms cs s.goals

meta def isOpen (m : MetavarContext) (g : MVarId) : Bool :=
  match m.getExprAssignmentCore? g with
  | some _ => false
  | none => match m.getDelayedMVarAssignmentCore? g with | some _ => false | none => true

meta partial def visible (lctx : LocalContext) : List FVarId → List Expr
  | [] => []
  | x :: t => match lctx.find? x with
    | some d => if d.isImplementationDetail then visible lctx t else .fvar x :: visible lctx t
    | none => visible lctx t

/-- What is known of a proof whose goals are all closed: it goes to the kernel in the environment that no tactic has touched. -/
meta def closed (s : Snap) (root : MVarId) (permitted : List String) : EIO Exception String := do
  match s.metaS.mctx.getExprAssignmentCore? root, s.metaS.mctx.findDecl? root with
  | some e, some d =>
    let (pf, m) := instantiateMVarsCore s.metaS.mctx e
    let (ty, m) := instantiateMVarsCore m d.type
    let cs ← IO.mkRef s.coreS
    let ms ← IO.mkRef { s.metaS with mctx := m }
    let mc : Meta.Context := { lctx := d.lctx, localInstances := d.localInstances }
    let xs := toA (visible d.lctx (toL d.lctx.getFVarIds))
    let value ← Meta.mkLambdaFVars xs pf (usedOnly := false) (usedLetOnly := false) (etaReduce := false) (binderInfoForMVars := .implicit) (generalizeNondepLet := false) mc ms s.coreC cs
    let type ← Meta.mkForallFVars xs ty (usedOnly := false) (usedLetOnly := false) (binderInfoForMVars := .implicit) (generalizeNondepLet := false) mc ms s.coreC cs
    if value.hasMVar || type.hasMVar then return "Incomplete: contains metavariable(s)"
    let env := (← cs.get).env
    let rp := replayAll env (app (toL value.getUsedConstants) (toL type.getUsedConstants)) { env := s.before, err := [] }
    let own := match s.own with | some n => if rp.env.contains n then n.toString else "" | none => ""
    if own != "" then return "Error: the proof rests on " ++ own ++ ", which is what it is to prove"
    match rp.err with
    | n :: _ => return "Error: kernel type check failed: the kernel refuses " ++ n
    | [] =>
      let ls := collectLevelParams (collectLevelParams {} type) value
      let n := `certainly.step
      let decl := Declaration.defnDecl { name := n, levelParams := toL ls.params, type := type, value := value, hints := .opaque, safety := .safe }
      match rp.env.addDeclCore 0 decl none with
      | .error e =>
        let t ← (e.toMessageData s.coreC.options).toString
        return "Error: kernel type check failed: " ++ t
      | .ok env =>
        let axs := axiomsOf env n
        if hasName axs `sorryAx then return "Incomplete: contains sorry"
        let odd := filt (fun a => !(anyL (fun p => p == a.toString) permitted)) axs
        match odd with
        | a :: _ => return "Error: rests on the axiom " ++ a.toString ++ ", which is not permitted"
        | [] => return if s.failed then "Error: a tactic on the way here reported an error" else "Completed"
  | _, _ => return "Error: Goal not assigned"

meta def statusOf (s : Snap) (permitted : List String) : EIO Exception String :=
  match s.goals, s.roots with
  | _ :: _, _ => return "Incomplete: open goals remain"
  | [], [root] => closed s root permitted
  | [], _ => return "Not verified: more than one initial goal"

meta partial def errorTexts : List Message → BaseIO String
  | [] => return ""
  | m :: t => do
    let r ← errorTexts t
    if isErr m then
      let d ← m.data.toString
      return "\n" ++ d ++ r
    else return r

meta partial def traceTexts : List TraceElem → BaseIO (List Json)
  | [] => return []
  | t :: r => do
    let s ← t.msg.toString
    let rest ← traceTexts r
    return jstr s :: rest

meta partial def traceNode : PersistentArrayNode TraceElem → List TraceElem
  | .node cs => traceNodes (toL cs)
  | .leaf cs => toL cs
where traceNodes : List (PersistentArrayNode TraceElem) → List TraceElem
  | [] => []
  | n :: t => app (traceNode n) (traceNodes t)

/-- The state after a tactic, or what Lean says against it. -/
meta def stepped (s : Snap) (stx : Syntax) (fm : FileMap) : BaseIO (Except String (Snap × List InfoTree)) := do
  let cc ← fresh { s.coreC with fileMap := fm }
  let cs ← IO.mkRef { s.coreS with messages := {}, traceState := {}, infoState := { enabled := true } }
  let ms ← IO.mkRef s.metaS
  let ts ← IO.mkRef s.termS
  let xs ← IO.mkRef { goals := s.goals }
  let act : EIO Exception Unit := do
    Tactic.evalTactic stx { elaborator := .anonymous } xs {} ts {} ms cc cs
    Term.synthesizeSyntheticMVarsNoPostponing false {} ts {} ms cc cs
  match ← act.toBaseIO with
  | .error (.error _ m) =>
    let t ← m.toString
    return .error t
  | .error (.internal _ _) =>
    let t ← errorTexts (← cs.get).messages.toList
    return .error (if t == "" then "the tactic was given up without a reason" else (t.drop 1).toString)
  | .ok () =>
    let core ← cs.get
    let m ← ms.get
    let term ← ts.get
    let tac ← xs.get
    let goals := filt (isOpen m.mctx) tac.goals
    let bad := anyL isErr core.messages.toList
    return .ok ({ s with coreC := cc, coreS := core, metaS := m, termS := term, goals := goals, failed := s.failed || bad }, kids core.infoState.substituteLazy.get.trees)

meta partial def nth {α : Type} : List α → Nat → Option α
  | [], _ => none
  | x :: t, n => if n == 0 then some x else nth t (n - 1)

meta partial def snapAt : List (Nat × Snap) → Nat → Option Snap
  | [], _ => none
  | (n, s) :: t, k => if n == k then some s else snapAt t k

meta partial def without : List (Nat × Snap) → List Json → List (Nat × Snap)
  | [], _ => []
  | (n, s) :: t, drop => if anyL (fun j => match j with | .num k => k.mantissa.toNat == n | _ => false) drop then without t drop else (n, s) :: without t drop

meta def listOf (j : Json) (k : String) : List Json :=
  match j.getObjVal? k with | .ok (.arr a) => toL a | _ => []

meta partial def stringsOf : List Json → List String
  | [] => []
  | .str s :: t => s :: stringsOf t
  | _ :: t => stringsOf t

meta def placeJson (fm : FileMap) (stx : Syntax) : List (String × Json) :=
  let p (x : Option String.Pos.Raw) : Json := match x with | some q => posJson (fm.toPosition q) | none => Json.null
  [("pos", p stx.getPos?), ("endPos", p stx.getTailPos?)]

meta def goalAt (p : Place) : BaseIO String := do
  match p.hole with
  | .goals gs => goalText p.ctx gs
  | .term .. =>
    match ← (do let s ← snapOf p; let g ← goalsOf s; pure g : EIO Exception (List Json)).toBaseIO with
    | .ok (.str g :: _) => return g
    | _ => return ""

meta def tacticText (p : Place) : BaseIO String := do
  match ← (coreCtx p.ctx p.ctx.fileMap).toBaseIO with
  | .error _ => return "<failed to pretty print>"
  | .ok cc =>
    let cs ← IO.mkRef { env := p.ctx.env, ngen := p.ctx.ngen }
    match ← ((do let cc ← fresh cc; let f ← PrettyPrinter.ppTactic ⟨p.stx⟩ cc cs; pure f : EIO Exception Format)).toBaseIO with
    | .ok f => return f.pretty
    | .error _ => return "<failed to pretty print>"

meta partial def placesJson (tactics : Bool) : List Place → BaseIO (List Json)
  | [] => return []
  | p :: t => do
    let g ← goalAt p
    let rest ← placesJson tactics t
    let more ← if tactics then do
        let s ← tacticText p
        pure [("goals", jstr g), ("tactic", jstr s), ("usedConstants", jarr (mapL (fun n => jstr n.toString) p.used))]
      else pure [("goal", jstr g)]
    return Json.mkObj (app (placeJson p.ctx.fileMap p.stx) more) :: rest

meta def keptPlace (o : Opened) (j : Json) : Option Place :=
  let l := match fStr j "kind" "" with | "sorry" => o.sorries | "root" => o.roots | "tactic" => o.tactics | _ => []
  nth l (fNat j "index" 0)

meta def whatWentWrong (e : Exception) : IO (List (String × Json)) := do
  let t ← e.toMessageData.toString
  return [("message", jstr t)]

meta def openFile (envs : IO.Ref (List Cache)) (table : IO.Ref Table) (req : Json) : IO (List (String × Json)) := do
  let code := fStr req "code" ""
  let t ← table.get
  let o ← match t.opened with
    | some o => if t.code == code then pure (some o) else pure none
    | none => pure none
  let o ← match o with
    | some o => pure o
    | none => do
      let ictx := inputCtx code "<input>"
      let (hdr, ps, msgs) ← Parser.parseHeader ictx
      let (base, _) ← getEnv envs (toL (headerToImports hdr))
      let opts := ({} : Options).set `maxHeartbeats (fNat req "maxHeartbeats" 200000)
      let d ← elabBest base msgs opts ictx ps
      pure (placesIn base (kids d.state.infoState.substituteLazy.get.trees))
  table.set { t with snaps := without t.snaps (listOf req "drop"), code := code, opened := some o }
  let listed ← if fBool req "list" false then do
      let a ← placesJson false o.sorries
      let b ← placesJson false o.roots
      let c ← placesJson true o.tactics
      pure [("sorries", jarr a), ("roots", jarr b), ("tactics", jarr c)]
    else pure []
  match req.getObjVal? "keep" with
  | .error _ => return listed
  | .ok k =>
    match keptPlace o k with
    | none => return [("message", jstr "there is no such place in this text")]
    | some p =>
      match ← (do let s ← snapOf p; let g ← goalsOf s; pure (s, g) : EIO Exception (Snap × List Json)).toBaseIO with
      | .error e => whatWentWrong e
      | .ok (s, g) =>
        let t ← table.get
        table.set { t with next := t.next + 1, snaps := (t.next, s) :: t.snaps }
        return app listed [("state", jnat t.next), ("goals", jarr g)]

meta partial def keepSorries (table : IO.Ref Table) (after : Snap) (fm : FileMap) : List Place → EIO Exception (List Json)
  | [] => return []
  | p :: rest => do
    let more ← match ← (snapOf p).toBaseIO with
      | .error _ => pure []
      | .ok s => do
        let s := { s with before := after.before, own := after.own, coreS := { s.coreS with env := after.coreS.env }, roots := after.roots, failed := after.failed }
        let g ← goalsOf s
        let t ← table.get
        table.set { t with next := t.next + 1, snaps := (t.next, s) :: t.snaps }
        pure [Json.mkObj (app (placeJson fm p.stx) [("goal", match g with | x :: _ => x | [] => jstr ""), ("state", jnat t.next)])]
    let others ← keepSorries table after fm rest
    return app more others

meta def step (table : IO.Ref Table) (req : Json) : IO (List (String × Json)) := do
  let t ← table.get
  let t := { t with snaps := without t.snaps (listOf req "drop") }
  table.set t
  match snapAt t.snaps (fNat req "state" 0) with
  | none => throw (IO.userError "this state is not kept")
  | some s =>
    let text := fStr req "tactic" ""
    match Parser.runParserCategory s.coreS.env `tactic text "<input>" with
    | .error e => return [("message", jstr e)]
    | .ok stx =>
      let fm := FileMap.ofString text
      match ← stepped s stx fm with
      | .error e => return [("message", jstr e)]
      | .ok (after, trees) =>
        let c : ContextInfo := { env := after.coreS.env, fileMap := fm, mctx := after.metaS.mctx, options := after.coreC.options,
                                 currNamespace := after.coreC.currNamespace, openDecls := after.coreC.openDecls, ngen := after.coreS.ngen, parentDecl? := none }
        let act : EIO Exception (List (String × Json)) := do
          let gaps ← keepSorries table after fm (sorriesAt after.coreS.env (some c) trees)
          let g ← goalsOf after
          let verdict ← statusOf after (stringsOf (listOf req "axioms"))
          return [("sorries", jarr gaps), ("goals", jarr g), ("status", jstr verdict)]
        match ← act.toBaseIO with
        | .error e => whatWentWrong e
        | .ok told =>
          let js ← msgsJson after.coreS.messages.toList
          let tr := after.coreS.traceState.traces
          let ts ← traceTexts (app (traceNode tr.root) (toL tr.tail))
          let t ← table.get
          table.set { t with next := t.next + 1, snaps := (t.next, after) :: t.snaps }
          return app told [("state", jnat t.next), ("messages", jarr js), ("traces", jarr ts)]

meta def talk (table : IO.Ref Table) (envs : IO.Ref (List Cache)) (j : Json) : BaseIO (List (String × Json)) := do
  match ← (if fStr j "op" "" == "step" then step table j else openFile envs table j).toBaseIO with
  | .ok r => return r
  | .error e => return [("fault", jstr (toString e))]

syntax (name := go) "#certainly_talk" : command
@[command_elab go] public meta def elabGo : Command.CommandElab := fun _ _ _ => do
  let table ← IO.mkRef {}
  match ← (main (talk table)).toBaseIO with
  | .ok _ => pure ()
  | .error e => throw (Exception.error .missing (toString e))
end Certainly
#certainly_talk
