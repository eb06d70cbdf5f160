"""lean-interact's own calls; arguments: scillm-lean-repl, a folder with a `lean-toolchain` file."""

import json
import sys
from pathlib import Path

from lean_interact import (
    AutoLeanServer,
    Command,
    FileCommand,
    LeanREPLConfig,
    PickleEnvironment,
    ProofStep,
    UnpickleEnvironment,
)

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
told = {
    "proved": proved.lean_code_is_valid(allow_sorry=False),
    "false": false.lean_code_is_valid(),
    "gap": [gap.lean_code_is_valid(), gap.lean_code_is_valid(allow_sorry=False)],
    "goal": gap.sorries[0].goal,
    "axioms": axioms.messages[0].data,
    "taken": used.messages[0].data,
    "file": server.run(FileCommand(path=str(file))).lean_code_is_valid(),
    "step": server.run(ProofStep(proof_state=0, tactic="rfl")).message,
    "unknown": server.run(Command(cmd="#check t", env=99)).message,
}
server.kill()
sys.stdout.write(json.dumps(told) + "\n")
