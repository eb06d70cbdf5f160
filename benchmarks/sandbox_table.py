"""Measures what each level of CodeWorld's sandbox holds, and writes the table into the guide.

    python benchmarks/sandbox_table.py [--write]

Tries every program of tests/support/hostile.py at every level this host gives, as the user who runs
it and, for root, as an ordinary user too (with a Python that user can read). Takes about two
minutes. Without --write it prints the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import attrs
import scillm
import scillm_codeworld

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.hostile import CORPUS  # noqa: E402

SCRIPT = ROOT / "tests" / "support" / "hostile_run.py"
PAGE = ROOT / "docs" / "guide" / "codeworld_isolation.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
LEVELS = ("L1", "L2", "L3", "L4", "wasm")
FOLDERS = os.pathsep.join(
    sorted(
        {
            str(Path(module.__file__ or "").parents[1])
            for module in (anyio, attrs, scillm, scillm_codeworld)
        }
    )
)
USABLE = "import os, sys; sys.exit(not os.access(sys.executable, os.X_OK))"
ORDINARY = ("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups")


def users() -> dict[str, Sequence[str]]:
    """How to run Python as each user this host lets us be."""
    if os.geteuid() != 0:
        return {"user": (sys.executable,)}
    found: dict[str, Sequence[str]] = {"root": (sys.executable,)}
    for python in (sys.executable, "/usr/bin/python3"):
        done = subprocess.run([*ORDINARY, python, "-c", USABLE], capture_output=True, check=False)
        if done.returncode == 0:
            found["user"] = (*ORDINARY, python)
            break
    return found


def measured(command: Sequence[str], level: str) -> Mapping[str, bool] | None:
    """Whether each attempt was held, or None where the host does not give the level."""
    done = subprocess.run(
        [*command, str(SCRIPT), level],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/tmp",
            "PYTHONPATH": FOLDERS,
            "PYTHONDONTWRITEBYTECODE": "1",
            "SCILLM_CODEWORLD_WASM_CACHE": os.environ.get("SCILLM_CODEWORLD_WASM_CACHE", ""),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(f"{level} not measured: {done.stderr.splitlines()[-1]}", file=sys.stderr)
        return None
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        if row["survivors"] or not row["clean"]:
            raise SystemExit(f"{level}: {row}")
    return {row["name"]: row["held"] for row in rows}


def mark(name: str, by_user: Mapping[str, Mapping[str, bool]]) -> str:
    """One cell."""
    out = [user for user, held in by_user.items() if not held[name]]
    if not out:
        return "held"
    return "out" if len(out) == len(by_user) else f"out as {out[0]}"


def table() -> str:
    """The whole table, with what it was measured on."""
    who = users()
    found: dict[str, dict[str, Mapping[str, bool]]] = {}
    for level in LEVELS:
        runs = {user: measured(command, level) for user, command in who.items()}
        found[level] = {user: held for user, held in runs.items() if held is not None}
        if not found[level]:
            raise SystemExit(f"{level} cannot be had here, so the table would have a hole.")
    lines = ["| | attempt | " + " | ".join(LEVELS) + " |", "|---|---|" + "---|" * len(LEVELS)]
    for attempt in CORPUS:
        cells = [mark(attempt.name, found[level]) for level in LEVELS]
        lines.append(f"| {attempt.room} | {attempt.name} | " + " | ".join(cells) + " |")
    by = "; ".join(f"{level} as {' and as '.join(runs)}" for level, runs in found.items())
    return (
        f"Measured on Linux {os.uname().release}, {os.uname().machine}, "
        f"Python {sys.version.split()[0]}: {by}.\n\n" + "\n".join(lines)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help=f"write it into {PAGE.name}")
    chosen = parser.parse_args()
    text = table()
    if not chosen.write:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
