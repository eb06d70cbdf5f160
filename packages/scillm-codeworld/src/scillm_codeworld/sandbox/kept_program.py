"""What a program that is to be kept needs, and whether it can be meant."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm.errors import UsageError

from scillm_codeworld.options import MAX_MEMORY_MB, MIN_MEMORY_MB
from scillm_codeworld.sandbox.toolchains import SYSTEM, existing
from scillm_codeworld.sandbox.zygotes import Order

if TYPE_CHECKING:
    from scillm.protocols import KeptProgram

PROFILE = "kept"
NOT_SHOWN = ("/dev", "/proc", "/sys")
MOST_BYTES = 32_768
"""Of a program's words and environment, and of the paths it is shown: each travels in one piece."""
ELF = b"\x7fELF"


def order_for(program: KeptProgram, *, level: str) -> Order:
    """The zygote that a program needs; `UsageError` for one that cannot be meant."""
    if not program.argv:
        raise UsageError("A program that is kept needs argv with its file, and argv is empty.")
    for path in (program.argv[0], *program.shown):
        _check_path(path)
    if not os.access(program.argv[0], os.X_OK):
        raise UsageError(f"{program.argv[0]} is no program that can be run.")
    if not MIN_MEMORY_MB <= program.memory_mb <= MAX_MEMORY_MB:
        raise UsageError(
            f"memory_mb of a program that is kept must be from {MIN_MEMORY_MB} to "
            f"{MAX_MEMORY_MB}, but is {program.memory_mb!r}."
        )
    for what, words in (
        ("argv and environment", [*program.argv, *program.environment.items()]),
        ("shown", program.shown),
    ):
        if len(json.dumps(list(words))) > MOST_BYTES:
            raise UsageError(f"{what} of a program that is kept must be below {MOST_BYTES} bytes.")
    if any("\0" in text for text in (*program.argv, *_texts(program.environment))):
        raise UsageError("argv or environment of a program that is kept holds a NUL.")
    file = os.path.realpath(program.argv[0])
    with open(file, "rb") as head:  # noqa: PTH123
        binary = head.read(4) == ELF
    return Order(
        level=level,
        profile=PROFILE,
        bind=(*existing(SYSTEM), file, *program.shown),
        program=file if binary else "",
    )


def _texts(environment: Mapping[str, str]) -> list[str]:
    return [text for pair in environment.items() for text in pair]


def _check_path(path: str) -> None:
    real = os.path.realpath(path)
    if not os.path.isabs(path) or not os.path.exists(path):  # noqa: PTH110, PTH117
        raise UsageError(f"{path!r} must be an absolute path of something that is there.")
    if real == "/" or any(real == top or real.startswith(f"{top}/") for top in NOT_SHOWN):
        raise UsageError(f"{path!r} cannot be shown to a program that is kept.")
