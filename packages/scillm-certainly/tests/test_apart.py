"""Files that run programs: nothing is believed that only the process says in which they ran."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scillm_certainly.backends.records import Backend
from scillm_certainly.backends.worker import Worker
from scillm_certainly.pool.pool import Pool, Size
from scillm_certainly.records import CheckRequest, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scillm_certainly.records import Facts

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

OPTIONS = (
    "simp (maxSteps := told 9000)",
    "simp (config := { maxSteps := told 9000 })",
    "decide (kernel := told 9000 == 9000)",
    "omega (splitNatAbs /- ) -/ := told 9000 == 9000)",
    "grind (splits := told 9)",
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop is enough here; the pool's own tests take both."""
    return "asyncio"


@pytest.fixture(scope="module")
def worker(embedded: Backend) -> Iterator[Worker]:
    """A Lean that hands over declarations, and takes them too."""
    worker = Worker(embedded)
    worker.rough = True
    yield worker
    worker.close()


async def both_ways(worker: Worker, request: CheckRequest) -> tuple[Facts, Facts]:
    await worker.ready()
    seen = await worker.check(request)
    told = await worker.replay(request, seen.exported, limit_s=60)
    worker.tainted = False
    return seen, told


@pytest.mark.parametrize("code", KINDS.values(), ids=KINDS.keys())
async def test_declarations_arrive_as_they_left(worker: Worker, code: str) -> None:
    """Names, kinds, types, statements, axioms: the second process has what the first one had."""
    seen, told = await both_ways(worker, CheckRequest(code=code))
    left = {
        row.name: (row.kind, row.type_hash, row.statement, row.axioms) for row in seen.declarations
    }
    came = {
        row.name: (row.kind, row.type_hash, row.statement, row.axioms) for row in told.declarations
    }

    assert "error" not in {row.severity for row in seen.diagnostics}
    assert told.replayed
    assert told.replay_errors == ()
    assert left
    assert {name: came.get(name) for name in left if "rec" not in name} == {
        name: value for name, value in left.items() if "rec" not in name
    }


async def test_a_reference_is_compared_in_the_second_process(worker: Worker) -> None:
    """The comparison is made anew there: met or missed, with definitions on the way."""
    code = "def f (n : Nat) := n + 1\ntheorem t (n : Nat) : f n = n + 1 := rfl"
    reference = "def f (n : Nat) := n + 1\ntheorem t (n : Nat) : f n = n + {} := sorry"
    _, met = await both_ways(worker, CheckRequest(code=code, reference=reference.format(1)))
    _, missed = await both_ways(worker, CheckRequest(code=code, reference=reference.format(2)))

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
async def test_what_is_no_export_is_refused(worker: Worker, exported: str) -> None:
    """Broken, open or impossible declarations are a fault with a reason; nothing is accepted."""
    await worker.ready()
    told = await worker.replay(CheckRequest(code="x"), exported, limit_s=60)

    assert told.fault
    assert not told.declarations
    assert worker.alive


@pytest.mark.parametrize(
    "decls",
    [
        [["t", 1, [], 0, 1]],
        [["t", 2, [], 0, 1]],
        [["d", 1, [], 0, 1, "abbrev"]],
        [["o", 1, [], 0, 1]],
    ],
)
async def test_the_kernel_decides_about_what_is_sent(worker: Worker, decls: object) -> None:
    """`False` by `True.intro`, and a second `False`, are refused by name."""
    await worker.ready()
    told = await worker.replay(CheckRequest(code="x"), text(decls=decls), limit_s=60)

    assert told.fault == ""
    assert len(told.replay_errors) == 1
    assert told.replay_errors[0].startswith(("bad", "False"))


LIAR = """
import json, sys
mark = "\\x01"
print(mark + 'ready {"version": "4.28.0", "commit": "c", "axiomsComplete": true}', flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    told = {"id": asked["id"], "messages": [], "sorries": [], "judge": None, "examples": 0,
        "decls": [{"name": "t", "kind": "theorem", "written": True, "statement": "1 = 2",
            "typeHash": "1", "axioms": [], "uses": [], "gap": ""}],
        "replay": {"errors": [], "skipped": []}, "userCode": False, "meta": False,
        "nested": False, "axiomsComplete": True, "us": {}, "exported": EXPORTED}
    if asked["op"] == "replay":
        told = {"id": asked["id"], "fault": "the exported declarations cannot be read"}
    print(mark + asked["nonce"] + " " + json.dumps(told), flush=True)
"""


@pytest.mark.parametrize(
    ("exported", "status"), [("", "proved_unreplayed"), ("[]", "inconclusive")]
)
async def test_a_process_that_lies_proves_nothing(
    tmp_path: Path, exported: str, status: str
) -> None:
    """A worker taken over by what it ran, here a program of the test's, is not believed."""
    script = tmp_path / "liar.py"
    script.write_text(LIAR.replace("EXPORTED", repr(exported)))
    backend = Backend(name="liar", command=[sys.executable, str(script)])
    async with Pool(backend, Size(spare=False)) as pool:
        found = await pool.check(CheckRequest(code="#eval 1\ntheorem t : 1 = 2 := sorry"))
        stats = pool.stats()

    assert found.status == status
    assert stats["started"] == (1 if exported == "" else 2)


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
        "decls": [
            {
                "name": "t", "kind": "theorem", "written": True, "statement": "1 = 2",
                "typeHash": "1", "axioms": [], "uses": [], "gap": "",
            }
        ],
        "replay": {"errors": [], "skipped": []},
        "judge": None,
        "examples": 0,
        "userCode": False,
        "meta": False,
        "nested": False,
        "axiomsComplete": True,
        "us": {},
        "exported": "{}",
    }
)  # fmt: skip


async def test_options_of_tactics_are_programs_too(embedded: Backend) -> None:
    """Lean runs the term of an option to know its value; the proof is judged in another process."""
    async with Pool(embedded, Size(spare=False)) as pool:
        for tactic in OPTIONS:
            code = (
                'def told (n : Nat) : Nat := dbgTrace "it ran" fun _ => n\n'
                f"theorem t : 1 + 1 = 2 := by {tactic}"
            )
            found = await pool.check(CheckRequest(code=code, policy=Policy(time_s=60)))

            assert [seen.text.strip() for seen in found.diagnostics] == ["it ran"], tactic
            assert found.proved, tactic
            assert any(caveat.startswith("user_code") for caveat in found.caveats), tactic


async def test_every_file_is_judged_apart_where_that_is_asked_for(embedded: Backend) -> None:
    """For those who would rather not rely on what the text of a file shows."""
    async with Pool(embedded, Size(spare=False, apart=True)) as pool:
        found = await pool.check(CheckRequest(code="theorem t : 1 = 1 := rfl"))

    assert found.proved
    assert any(caveat.startswith("user_code") for caveat in found.caveats)


@pytest.mark.deep
@pytest.mark.parametrize("start", ["0", "0 - 100000000"])
async def test_reading_the_nonce_from_memory_proves_nothing(embedded: Backend, start: str) -> None:
    """A program that finds its question in Lean's memory and answers it itself is not believed.

    It has only an axiom for a tool. Where it finds the nonce depends on the memory's layout; with
    the first start it does on the machine this was written on, and said `proved` before.
    """
    head = '{"id": 1, "nonce": "' + "f" * 32 + '", "op": "check", "code": "-- '
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
