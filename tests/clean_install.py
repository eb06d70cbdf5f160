"""Build the wheel of every member and use each in a clean environment, far from the workspace.

    python tests/clean_install.py --uv PATH_TO_UV

What a user does: `pip install scillm-core scillm-<member>`, import it, use it. The third-party
example is built, installed and put through its own conformance file there too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = ("core", "codex", "codeworld", "certainly", "chutes")
MARKOV = ROOT / "docs" / "examples" / "scillm-markov"
LIMIT_S = 600

CORE_ALONE = """
import scillm
answer = scillm.completion("echo/x", [{"role": "user", "content": "hello"}])
assert answer.text == "hello", answer
try:
    scillm.completion("codeworld", items=[])
except scillm.UnknownModelError as error:
    assert "pip install scillm-codeworld" in str(error), error
else:
    raise SystemExit("codeworld answered without its package")
print("core alone:", scillm.__version__)
"""

WITH_CODEWORLD = """
import scillm
item = {"task": "double", "context": {"inputs": [1, 2], "expected": [2, 4], "code_variants": {
    "right": "def solve(x):\\n    return 2 * x", "crash": "def solve(x):\\n    return 1 / 0"}}}
answer = scillm.completion(model="codeworld", items=[item])
ranked = answer.additional_kwargs["codeworld"]["results"][0]
assert ranked["best"] == "right", ranked
assert {v["id"]: v["status"] for v in ranked["variants"]} == {"right": "ok", "crash": "exception"}
print("codeworld:", answer.text)
"""

WITH_CERTAINLY = """
import scillm
items = [{"id": "right", "code": "theorem t (a b : Nat) : a + b = b + a := by omega"},
         {"id": "wrong", "code": "theorem t : 1 = 2 := by decide"}]
answer = scillm.completion(model="certainly", items=items)
found = {r["item_id"]: r["status"] for r in answer.additional_kwargs["certainly"]["results"]}
assert found == {"right": "proved", "wrong": "rejected"}, found
print("certainly:", found)
"""

WITH_CHUTES = """
from scillm_chutes import AmbiguousModelError, auto_router_from_env, infer_with_fallback
from scillm_chutes import resolve_model
found = resolve_model("deepseek v3", ["deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-32B"])
assert found.id == "deepseek-ai/DeepSeek-V3", found
print("chutes:", found)
"""

USED = {"codeworld": WITH_CODEWORLD, "certainly": WITH_CERTAINLY, "chutes": WITH_CHUTES}


def run(*command: str | Path, cwd: Path, expect: int = 0) -> str:
    """Run and return stdout; anything but the expected exit code ends the check."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UV_", "VIRTUAL_ENV", "PYTHON", "SCILLM_", "COV_"))
    }
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode != expect:
        shown = " ".join(map(str, command))
        raise SystemExit(f"{shown}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


class Clean:
    """A fresh environment outside the workspace, with wheels installed by name."""

    def __init__(self, uv: Path, wheels: Path, place: Path, *requirements: str) -> None:
        self.place = place
        self.bin = place / ".venv" / "bin"
        place.mkdir()
        run(uv, "venv", "--quiet", "--python", sys.executable, place / ".venv", cwd=place)
        run(
            uv, "pip", "install", "--quiet", "--python", self.bin / "python",
            "--find-links", wheels, *requirements, cwd=place,
        )  # fmt: skip

    def python(self, script: str) -> str:
        """Run a script with warnings as errors."""
        return run(self.bin / "python", "-W", "error", "-c", script, cwd=self.place)


def main() -> None:
    """Build, install, use."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uv", type=Path, required=True)
    uv = parser.parse_args().uv.resolve()
    with tempfile.TemporaryDirectory(prefix="scillm-wheels-") as folder:
        base = Path(folder)
        wheels = base / "wheels"
        run(uv, "build", "--quiet", "--all-packages", "--wheel", "--out-dir", wheels, cwd=ROOT)
        run(uv, "build", "--quiet", "--wheel", "--out-dir", wheels, MARKOV, cwd=ROOT)
        built = sorted(path.name for path in wheels.glob("*.whl"))
        print("built:", ", ".join(built))
        if len(built) != len(MEMBERS) + 2:
            raise SystemExit(f"{len(MEMBERS) + 2} wheels were expected.")
        check_core(uv, wheels, base / "core")
        for member in MEMBERS[1:]:
            check_member(uv, wheels, base / member, member)
        check_everything(uv, wheels, base / "everything")
        check_markov(uv, wheels, base / "markov")


def check_core(uv: Path, wheels: Path, place: Path) -> None:
    """The core alone works, and names the pip line of what is missing."""
    clean = Clean(uv, wheels, place, "scillm-core")
    print(clean.python(CORE_ALONE).strip())
    said = run(clean.bin / "scillm", "--help", cwd=place, expect=2)
    if "pip install 'scillm-core[cli]'" not in said or "Traceback" in said:
        raise SystemExit(f"scillm without click should name the extra, but said: {said}")


def check_member(uv: Path, wheels: Path, place: Path, member: str) -> None:
    """Each member with the core works, typed."""
    clean = Clean(uv, wheels, place, f"scillm-{member}")
    module = f"scillm_{member}"
    found = clean.python(
        f"import importlib.resources as r, {module}; "
        f"assert r.files({module!r}).joinpath('py.typed').is_file(); print('{module} imports')"
    )
    print(found.strip())
    if member in USED:
        print(clean.python(USED[member]).strip())


def check_everything(uv: Path, wheels: Path, place: Path) -> None:
    """`pip install scillm` brings the command line and all members."""
    clean = Clean(uv, wheels, place, "scillm")
    for command in (["--version"], ["plugins"], ["doctor"], ["chat", "-m", "echo/x", "hello"]):
        said = run(clean.bin / "scillm", *command, cwd=place)
        print(f"scillm {' '.join(command)}: {len(said.splitlines())} lines")
        if not said.strip():
            raise SystemExit(f"scillm {' '.join(command)} said nothing")
    examples = ROOT / "docs" / "examples" / "codeworld"
    run(clean.bin / "scillm", "codeworld", "run", examples, "--runs-dir", place / "runs", cwd=place)
    run(clean.bin / "scillm", "runs", "list", "--runs-dir", place / "runs", cwd=place)
    print("scillm codeworld run: done")


def check_markov(uv: Path, wheels: Path, place: Path) -> None:
    """A stranger's plugin, installed from its wheel, passes the kit."""
    clean = Clean(uv, wheels, place, "scillm-markov[test]")
    conformance = MARKOV / "tests" / "test_conformance.py"
    said = run(
        clean.bin / "python", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider",
        "--rootdir", place, conformance, cwd=place,
    )  # fmt: skip
    print("scillm-markov:", said.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
