"""Deploying a chute with the `chutes` program, where it is installed; nothing here needs it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from scillm.errors import SettingsError

PROGRAM = "chutes"


def program() -> str:
    """Where the `chutes` program is; `SettingsError` when it is not installed."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise SettingsError(
            "The `chutes` program is not installed; it comes from its own distribution: "
            "pip install chutes"
        )
    return found


def deploy_commands(target: str, *, build: bool, accept_fee: bool) -> list[list[str]]:
    """The commands that build and deploy `module:chute`; an option can not hide in `target`."""
    if target.startswith("-") or ":" not in target:
        raise SettingsError(f"A deployment is named like my_chute:chute, not {target!r}.")
    built = [[PROGRAM, "build", target, "--wait"]] if build else []
    fee = ["--accept-fee"] if accept_fee else []
    return [*built, [PROGRAM, "deploy", target, *fee]]


def run(commands: Sequence[Sequence[str]]) -> int:
    """Run commands one after the other with this terminal; the first exit code that is not 0."""
    where = program()
    for command in commands:
        done = subprocess.run([where, *command[1:]], check=False)  # noqa: S603
        if done.returncode:
            return done.returncode
    return 0
