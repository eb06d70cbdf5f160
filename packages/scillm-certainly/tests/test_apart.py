"""One Lean reads, another judges: no process that ran a program is believed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from scillm_certainly.backends.records import Backend
from scillm_certainly.backends.worker import Worker
from scillm_certainly.pool.pool import Pool, Size
from scillm_certainly.records import CheckRequest, Facts, Policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from scillm_certainly.pool.resident import Resident

pytestmark = pytest.mark.anyio

KINDS = {
    "theorems": "theorem t (a b : Nat) (h : a < b) : a + 1 ≤ b := by omega\n"
    "theorem u : (2 : Nat) ^ 100 > 5 ∧ \"A\\n\" = \"A\\n\" := by decide",
    "definitions": "def fact : Nat → Nat | 0 => 1 | n + 1 => (n + 1) * fact n\n"
    "abbrev A := Nat\nopaque o : A\ntheorem t : fact 5 = 120 := by decide",
    "structures": "structure S (A : Type u) where\n  x : A\n  y : Nat := 3\nderiving Repr\n"
    "theorem t (s : S A) : s = ⟨s.x, s.y⟩ := rfl\ninstance : Inhabited (S Nat) := ⟨⟨1, 2⟩⟩",
    "inductives": "mutual\ninductive A | a (b : B)\ninductive B | b (l : List A) | nil\nend\n"
    "inductive T (X : Type u) : Nat → Type u\n"
    "  | leaf : T X 0 | node (a : X) (l : T X n) : T X (n + 1)\n"
    "theorem t (x : T X 0) : x = x := rfl",
    "axioms and universes": "axiom ax.{u, v} (A : Sort u) (B : Sort v) : A → B\n"
    "universe w\ntheorem t (f : Type w → Type (max w 1)) : f = fun x => f x := rfl",
    "wide names": "namespace «a b»\ntheorem «c.d» : 1 = 1 := let x := 1; rfl (a := x)\nend «a b»",
}  # fmt: skip


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop is enough here; the pool's own tests take both."""
    return "asyncio"


@pytest.fixture(scope="module")
def reader(embedded: Backend) -> Iterator[Worker]:
    """A Lean that reads."""
    worker = Worker(embedded)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def judge(embedded: Backend) -> Iterator[Worker]:
    """A Lean that judges."""
    worker = Worker(embedded)
    yield worker
    worker.close()


async def both_steps(reader: Worker, judge: Worker, request: CheckRequest) -> Facts:
    await reader.ready()
    await judge.ready()
    reference = None if request.reference is None else await reader.reference(request, limit_s=60)
    seen = await reader.check(request, limit_s=60)
    return await judge.judge(request, seen, reference, limit_s=60)


@pytest.mark.parametrize("code", KINDS.values(), ids=KINDS.keys())
async def test_declarations_arrive_as_they_left(reader: Worker, judge: Worker, code: str) -> None:
    """What a file declares is exported, accepted by the kernel elsewhere, and listed by name."""
    found = await both_steps(reader, judge, CheckRequest(code=code))
    theorems = [row for row in found.declarations if row.kind == "theorem" and row.written]

    assert "error" not in {row.severity for row in found.diagnostics}
    assert found.replayed
    assert found.replay_errors == ()
    assert [row.name for row in theorems]
    assert all(row.statement and row.type_hash for row in theorems)
    assert len({row.name for row in found.declarations}) == len(found.declarations)


THEOREM = "theorem t : 2 = 2 := by decide"


async def test_an_export_that_is_read_again_is_the_same(reader: Worker, judge: Worker) -> None:
    """Type and axioms of the same theorem are the same, whatever stands beside it."""
    alone = await both_steps(reader, judge, CheckRequest(code=THEOREM))
    among = await both_steps(
        reader, judge, CheckRequest(code=f"def d := 3\ninductive T | t\n{THEOREM}")
    )
    (one,) = [row for row in alone.declarations if row.name == "t"]
    (other,) = [row for row in among.declarations if row.name == "t"]

    assert (one.type_hash, one.axioms, one.statement) == (
        other.type_hash,
        other.axioms,
        "2 = 2",
    )


async def test_a_reference_is_compared_by_the_judge(reader: Worker, judge: Worker) -> None:
    """Met or missed, with definitions on the way."""
    code = "def f (n : Nat) := n + 1\ntheorem t (n : Nat) : f n = n + 1 := rfl"
    reference = "def f (n : Nat) := n + 1\ntheorem t (n : Nat) : f n = n + {} := sorry"
    met = await both_steps(reader, judge, CheckRequest(code=code, reference=reference.format(1)))
    missed = await both_steps(reader, judge, CheckRequest(code=code, reference=reference.format(2)))

    assert met.judged is not None
    assert missed.judged is not None
    assert [row.same for row in met.judged.targets] == [True, True]
    assert {row.name: row.same for row in missed.judged.targets} == {"f": True, "t": False}


NAMES = [[], [0, "bad"], [0, "False"], [0, "True"], [3, "intro"]]
FALSE, INTRO = ["c", 2], ["c", 4]


def text(**changes: object) -> str:
    base = {"names": NAMES, "levels": [], "terms": [FALSE, INTRO], "decls": [["t", 1, [], 0, 1]]}
    return json.dumps({**base, **changes})


@pytest.mark.parametrize(
    "exported",
    [
        "",
        "{",
        "[]",
        text(names=3),
        text(terms=[["a", 0, 0]]),
        text(terms=[["a", 5, 7]]),
        text(terms=[["b", 0], INTRO]),
        text(terms=[["n", -1], INTRO]),
        text(terms=[["?"], INTRO]),
        text(levels=[["p", 99]]),
        text(decls=[["x"]]),
        text(decls=[["i", [], 0, []]]),
        text(decls=[["t", 1, [], 0, 9]]),
        text(decls=7),
    ],
)
async def test_what_is_no_export_is_refused(judge: Worker, exported: str) -> None:
    """Broken, open or impossible declarations are a fault with a reason; nothing is accepted."""
    await judge.ready()
    told = await judge.judge(CheckRequest(code="x"), Facts(exported=exported), None, limit_s=60)

    assert told.fault
    assert not told.declarations
    assert judge.alive


@pytest.mark.parametrize(
    "decls",
    [
        [["t", 1, [], 0, 1]],
        [["t", 2, [], 0, 1]],
        [["d", 1, [], 0, 1, "abbrev"]],
        [["o", 1, [], 0, 1]],
    ],
)
async def test_the_kernel_decides_about_what_is_sent(judge: Worker, decls: object) -> None:
    """`False` by `True.intro`, and a second `False`, are refused by name."""
    await judge.ready()
    seen = Facts(exported=text(decls=decls))
    told = await judge.judge(CheckRequest(code="x"), seen, None, limit_s=60)

    assert told.fault == ""
    assert len(told.replay_errors) == 1
    assert told.replay_errors[0].startswith(("bad", "False"))


LIAR = """
import json, os, sys
mark, name = "\\x01", os.urandom(8).hex()
print(mark + 'ready {"version": "4.28.0", "commit": "c", "axiomsComplete": true}', flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    proof = {"decls": [{"name": name, "kind": "theorem", "written": True, "statement": "1 = 2",
        "typeHash": "1", "axioms": [], "uses": [], "gap": ""}], "replayErrors": [],
        "nested": False, "axiomsComplete": True, "us": {},
        "judge": {"replayErrors": [], "axioms": [], "targets": []}}
    place = {"line": 1, "column": 0}
    seen = {"messages": [{"severity": "error", "pos": place, "endPos": None, "kind": "",
        "data": name}], "sorries": [], "written": ["t"], "examples": 0, "ranPrograms": False,
        "exported": "[]", "us": {}}
    if asked["op"] == "judge":
        told = {"fault": "it cannot be read"} if "claims" in asked["code"] else proof
    else:
        told = proof if "claims" in asked["code"] else seen
        if "runs" in asked["code"]:
            print(mark + "runs", flush=True)
    told["id"] = asked["id"]
    print(mark + asked["nonce"] + " " + json.dumps(told), flush=True)
"""


@pytest.fixture
async def liars(tmp_path: Path) -> AsyncIterator[Pool]:
    """A pool of programs of the test's in Lean's place, each of which tells its name."""
    script = tmp_path / "liar.py"
    script.write_text(LIAR)
    backend = Backend(name="liar", command=[sys.executable, str(script)])
    async with Pool(backend, Size(spare=False)) as pool:
        yield pool


async def names(pool: Pool, code: str, reference: str) -> tuple[str, str, str]:
    """Who read the reference, who read the code, and who judged."""
    found = await pool.check(CheckRequest(code=code, reference=reference))
    assert found.judged is not None
    return found.judged.errors[0], found.diagnostics[0].text, found.declarations[0].name


async def test_a_process_that_lies_proves_nothing(liars: Pool) -> None:
    """A reader taken over by what it ran, here a program of the test's, is not believed."""
    found = await liars.check(CheckRequest(code="-- claims\ntheorem t : 1 = 2 := sorry"))

    assert (found.status, found.limit) == ("inconclusive", "worker")
    assert not found.theorems


async def test_no_process_both_reads_and_judges(liars: Pool) -> None:
    """References and answers are read by one, and judged by another that stays."""
    first = await names(liars, "-- 1", "-- r")
    second = await names(liars, "-- 2", "-- r")

    assert first == second
    assert first[0] == first[1] != first[2]


async def test_who_ran_a_program_reads_no_more(liars: Pool) -> None:
    """After such a file another one reads; and a reference with a program is read by neither."""
    first = await names(liars, "-- runs", "-- r")
    second = await names(liars, "-- after", "-- r")
    third = await names(liars, "-- last", "-- runs")
    readers = {*first[:2], *second[:2], *third[:2]}

    assert first[0] == first[1]
    assert second[0] == second[1] == third[0]
    assert len(readers) == 3
    assert {first[2], second[2], third[2]} == {first[2]}
    assert first[2] not in readers
    assert liars.stats()["recycled"] == 2


async def test_one_caller_may_keep_his_readers(liars: Pool) -> None:
    """Who says that all code is his keeps a reader that ran programs; the judge stays another."""
    async with Pool(liars.backend, Size(spare=False, one_caller=True)) as pool:
        first = await names(pool, "-- runs", "-- r")
        second = await names(pool, "-- after", "-- r")

    assert first == second
    assert first[1] != first[2]


READ_MEMORY = """
axiom oob (i n : Nat) : i < n
@[noinline] def peek (a : ByteArray) (i : USize) : UInt8 := a.uget i (oob _ _)
partial def text (a : ByteArray) (i : USize) (n : Nat) (s : String) : String :=
  if n == 0 then s else text a (i + 1) (n - 1) (s.push (Char.ofNat (peek a i).toNat))
partial def unitAt (a : ByteArray) (i : USize) (k : Nat) : USize :=
  if k == 0 then 0
  else if peek a i == 64 && peek a (i+1) == 64 && peek a (i+10) == 126 then i
  else unitAt a (i+1) (k-1)
partial def num (a : ByteArray) (i : USize) (n : Nat) (v : USize) : USize :=
  if n == 0 then v else num a (i+1) (n-1) (v * 10 + (peek a i).toUSize - 48)
partial def scan (a : ByteArray) (i : USize) (left : Nat) : USize :=
  if left == 0 then 0 else
  let b := peek a i
  if (48 ≤ b && b ≤ 64) || b == 126 then
    let u := unitAt a i 12
    if u == 0 then scan a (i + 200000) (left - 1) else
    let start := u - 12 * (num a (u + 2) 8 0)
    if peek a (start - 4) == 34 && peek a (start - 5) == 32 && peek a (start - 6) == 58 then start
    else scan a (i + 200000) (left - 1)
  else scan a (i + 200000) (left - 1)
def attack : IO Unit := do
  let a : ByteArray := ⟨#[1,2,3]⟩
  let s := scan a (FROM) 500
  let h ← IO.FS.Handle.mk "/dev/stdout" .write
  h.putStrLn ("\\n\\x01" ++ text a (s - NONCE) 32 "" ++ " " ++ "{\\"id\\": " ++ text a (s - ID) 1 ""
    ++ ANSWER)
  h.flush
#eval attack
theorem t : 1 = 2 := nomatch oob 3 2
"""
ANSWER = json.dumps(
    {
        "messages": [],
        "sorries": [],
        "written": ["t"],
        "examples": 0,
        "ranPrograms": False,
        "exported": "{}",
        "us": {},
    }
)

PLAIN = {
    "theorem": "theorem t (a b : Nat) : a + b = b + a := by omega",
    "imports": "import Std\ntheorem t : True := trivial",
    "definitions": "def f (x : Nat := 3) := x\ntheorem t : f = 3 := rfl",
    "a false theorem": "def f (n : Nat) := n + 1\ntheorem t (n : Nat) : f n = n := by simp [f]",
    "data": "inductive C | r | g deriving Repr, DecidableEq, Inhabited\nstructure S where\n  x : C",
    "recursion": "def f : Nat → Nat | 0 => 0 | n + 1 => f n\npartial def g (n : Nat) : Nat := g n",
    "commands": "#check Nat\n#print axioms Nat.add_comm\n#reduce 1 + 1",
    "attributes": "@[simp, grind =] theorem t (n : Nat) : n + 0 = n := rfl",
    "own evaluator": "def eval : Nat → Nat | n => n\ntheorem t : eval 1 = 1 := rfl",
    "an option": "theorem t : 1 + 1 = 2 := by simp (maxSteps := 9000)",
}
TRACED = 'def told (n : Nat) : Nat := dbgTrace "it ran" fun _ => n\n'
RUNNING = {
    "eval": TRACED + "#eval told 1",
    "macro": 'macro "m" : tactic => `(tactic| rfl)\ntheorem t : 1 = 1 := by m',
    "notation": 'local infixl:65 " <+> " => Nat.add\ntheorem t : 1 <+> 1 = 2 := rfl',
    "native": TRACED + "theorem t : told 1 = 1 := by native_decide",
    "an option inside": TRACED + "theorem t : 1 = 1 := by first | simp (maxSteps := told 9) | rfl",
    "elaborator": 'import Lean\nelab "x" : term => return Lean.mkNatLit 1\n'
    "theorem t : x = 1 := rfl",
    "attribute": "import Lean\nopen Lean Elab Command\n@[command_elab Lean.Parser.Command.check] "
    "def slip : CommandElab := fun _ => pure ()\n#check 1\ntheorem t : 1 = 2 := rfl",
    "run_cmd": "import Lean\nrun_cmd pure ()",
    "simproc": "import Lean\nsimproc s (_ + _) := fun _ => return .continue",
}


@pytest.fixture
async def fresh(embedded: Backend, reader: Worker) -> Worker:
    """The module's reader, taken for one that ran nothing yet."""
    await reader.ready()
    reader.tainted = False
    return reader


@pytest.mark.parametrize("code", PLAIN.values(), ids=PLAIN.keys())
async def test_ordinary_files_run_nothing(fresh: Worker, code: str) -> None:
    """Definitions, data, lemmas and tactics are read with nothing compiled; the reader stays."""
    found = await fresh.check(CheckRequest(code=code), limit_s=60)

    assert found.fault == ""
    assert not found.user_code
    assert not fresh.tainted


@pytest.mark.parametrize("code", RUNNING.values(), ids=RUNNING.keys())
async def test_a_program_is_announced_before_it_runs(fresh: Worker, code: str) -> None:
    """Each way to make Lean run a file's own code works, and the reader says so first."""
    found = await fresh.check(CheckRequest(code=code), limit_s=60)
    said = [row.text.strip() for row in found.diagnostics]

    assert found.user_code
    assert fresh.tainted
    assert ("it ran" in code) <= any("it ran" in row or "native" in row for row in said)


async def test_a_proof_beside_a_program_is_a_proof(lean: Resident) -> None:
    """The judge is believed whatever the reader ran; the verdict says that programs ran."""
    before = (await lean.stats())["recycled"]
    code = f"{TRACED}theorem t : 1 + 1 = 2 := by simp (maxSteps := told 9000)"
    found = await lean.check(CheckRequest(code=code, policy=Policy(time_s=60)))

    assert [seen.text.strip() for seen in found.diagnostics] == ["it ran"]
    assert found.proved
    assert any(caveat.startswith("user_code") for caveat in found.caveats)
    assert (await lean.stats())["recycled"] == before + 1


@pytest.mark.deep
@pytest.mark.parametrize("start", ["0", "0 - 100000000"])
async def test_reading_the_nonce_from_memory_proves_nothing(embedded: Backend, start: str) -> None:
    """A program that finds its question in Lean's memory and answers it itself is not believed.

    It has only an axiom for a tool. Where it finds the nonce depends on the memory's layout; with
    the first start it does on the machine this was written on, and said `proved` before.
    """
    head = (
        '{"id": 1, "nonce": "' + "f" * 32 + '", "op": "read", "maxHeartbeats": 200000, "code": "-- '
    )
    padding = "".join(f"@@{number:08d}~~" for number in range(70_000))
    code = f"-- {padding}{READ_MEMORY}".replace("FROM", start)
    code = code.replace("NONCE", str(len(head) - head.index("fff")))
    code = code.replace("ID", str(len(head) - head.index("1,")))
    code = code.replace("ANSWER", json.dumps(", " + ANSWER[1:]))
    async with Pool(embedded, Size(spare=False)) as pool:
        found = await pool.check(CheckRequest(code=code, policy=Policy(time_s=60)))
        after = await pool.check(CheckRequest(code="theorem t : 1 = 1 := rfl"))

    assert found.status in ("unsound", "inconclusive")
    assert after.proved
