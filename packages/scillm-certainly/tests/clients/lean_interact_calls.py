"""lean-interact's own calls; arguments: scillm-lean-repl, a folder with a `lean-toolchain` file."""

import json
import sys
from pathlib import Path

from lean_interact import (
    AutoLeanServer,
    Command,
    FileCommand,
    LeanREPLConfig,
    LeanServer,
    PickleEnvironment,
    PickleProofState,
    ProofStep,
    UnpickleEnvironment,
    UnpickleProofState,
)
from lean_interact.interface import LeanError, ProofStepResponse

program, folder = sys.argv[1:]
config = LeanREPLConfig(local_repl_path=folder, build_repl=False, lake_path=program)
server = AutoLeanServer(config)
first = server.run(Command(cmd="def f (n : Nat) := n + n"))
proved = server.run(Command(cmd="theorem t (n : Nat) : f n = n + n := rfl", env=first.env))
false = server.run(Command(cmd="theorem u : f 1 = 3 := by decide", env=proved.env))
gap = server.run(Command(cmd="theorem w : f 1 = 3 := by\n  sorry", env=proved.env))
axioms = server.run(Command(cmd="#print axioms t", env=proved.env))
kept = str(Path(folder) / "kept")
server.run(PickleEnvironment(env=proved.env, pickle_to=kept))
taken = server.run(UnpickleEnvironment(unpickle_env_from=kept))
used = server.run(Command(cmd="#check t", env=taken.env))
file = Path(folder) / "file.lean"
file.write_text("theorem t : 1 = 1 := rfl", encoding="utf-8")


def step(state: int, tactic: str) -> ProofStepResponse | LeanError:
    return server.run(ProofStep(proof_state=state, tactic=tactic))


code = "theorem both (p q : Prop) (h : p ∧ q) : q ∧ p := by sorry"
start = server.run(Command(cmd=code, root_goals=True, all_tactics=True))
split = step(start.sorries[0].proof_state, "constructor")
left = step(split.proof_state, "exact h.2")
wrong = step(left.proof_state, "exact missing")
done = step(left.proof_state, "exact h.1")
server.run(PickleProofState(proof_state=left.proof_state, pickle_to=kept))
again = server.run(UnpickleProofState(unpickle_proof_state_from=kept))
with LeanServer(config) as plain:
    gaps = plain.run(Command(cmd="theorem t (n : Nat) (h : n = 5) : n = 5 := sorry"))
    by_plain = plain.run(ProofStep(proof_state=gaps.sorries[0].proof_state, tactic="exact h"))
told = {
    "proved": proved.lean_code_is_valid(allow_sorry=False),
    "false": false.lean_code_is_valid(),
    "gap": [gap.lean_code_is_valid(), gap.lean_code_is_valid(allow_sorry=False)],
    "goal": gap.sorries[0].goal,
    "axioms": axioms.messages[0].data,
    "taken": used.messages[0].data,
    "file": server.run(FileCommand(path=str(file))).lean_code_is_valid(),
    "goals": split.goals,
    "statuses": [row.proof_status for row in (split, left, wrong, done)],
    "wrong": [row.severity for row in wrong.messages],
    "again": step(again.proof_state, "exact h.1").proof_status,
    "plain": [by_plain.proof_status, by_plain.goals],
    "roots": [row.goal for row in start.sorries],
    "tactics": [row.tactic for row in start.tactics],
    "infotree": server.run(Command(cmd=code, infotree="full")).message[:8],
    "no_state": step(999, "rfl").message,
    "unknown": server.run(Command(cmd="#check t", env=99)).message,
}
server.kill()
sys.stdout.write(json.dumps(told) + "\n")
