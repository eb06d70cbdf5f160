"""Programs of others, from PyPI and unchanged, work with Certainly: kimina-client, lean-interact.

kimina-client 0.2.1 declares `datasets`, which its calls do not need, and fails to import below
Python 3.12 with a newer pydantic, where one line makes up for it. lean-interact 0.11.6 needs 3.10.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scillm_certainly.bridge import certainly_app
from support.served import served

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.records import Json
    from scillm_certainly.pool.resident import Resident

pytestmark = pytest.mark.deep
HERE = Path(__file__).parent
PACKAGES = ("kimina-client==0.2.1", "lean-interact==0.11.6")
NEEDED = (
    "colorama", "filelock", "gitpython", "httpx", "packaging", "psutil", "pydantic", "pygments",
    "requests", "rich", "tabulate", "tenacity", "tqdm", "typing_extensions",
)  # fmt: skip
OPEN = "Incomplete: open goals remain"
HOME = Path("~/.cache/scillm-test-tools/certainly-clients").expanduser()


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter of its own with both clients, made once."""
    name = f"{sys.version_info.major}.{sys.version_info.minor}-{'-'.join(PACKAGES)}"
    folder = HOME / name
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            run(sys.executable, "-m", "venv", "--clear", str(folder))
            pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
            run(*pip, "--no-deps", *PACKAGES)
            run(*pip, *NEEDED)
            (folder / "whole").touch()
    return str(folder / "bin/python")


def run(*words: str, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_kimina_client(python: str, lean: Resident, lean_values: Mapping[str, Json]) -> None:
    """Its own test, sync, async and batch calls run against `scillm certainly serve`'s app."""
    with served(certainly_app(lean_values, checker=lean)) as url:
        said = run(python, str(HERE / "clients/kimina_calls.py"), url)
    told = json.loads(said.splitlines()[-1])
    four = {"good": "valid", "bad": "lean_error", "gap": "sorry", "axiom": "lean_error"}

    assert told["health"] == {"status": "ok"}
    assert told["sync"] == {**four, "check": "valid", "endless": "timeout_error"}
    assert told["async"] == four
    assert told["many"] == ["valid"] * 20


def test_lean_interact(python: str, lean_values: Mapping[str, Json], tmp_path: Path) -> None:
    """Its servers drive `scillm-lean-repl`, in command mode and in tactic mode."""
    (tmp_path / "lean-toolchain").write_text("leanprover/lean4:v4.28.0\n", encoding="utf-8")
    program = Path(sys.executable).with_name("scillm-lean-repl")
    environment = {
        **os.environ,
        "SCILLM_CERTAINLY_HOME": str(lean_values["certainly_home"]),
        "SCILLM_CERTAINLY_BACKEND": "wasm",
    }
    script = str(HERE / "clients/lean_interact_calls.py")
    said = run(python, script, str(program), str(tmp_path), env=environment)
    told = json.loads(said.splitlines()[-1])

    assert told == {
        "proved": True,
        "false": False,
        "gap": [True, False],
        "goal": "⊢ f 1 = 3",
        "axioms": "'t' does not depend on any axioms",
        "taken": "t (n : Nat) : f n = n + n",
        "file": True,
        "goals": [
            "case left\np q : Prop\nh : p ∧ q\n⊢ q",
            "case right\np q : Prop\nh : p ∧ q\n⊢ p",
        ],
        "statuses": [*[OPEN] * 2, "Incomplete: contains sorry", "Completed"],
        "wrong": ["error"],
        "again": "Completed",
        "plain": ["Completed", []],
        "roots": ["p q : Prop\nh : p ∧ q\n⊢ q ∧ p"] * 2,
        "tactics": ["sorry"],
        "infotree": "infotree",
        "no_state": "Unknown proof state.",
        "unknown": "Unknown environment.",
    }
