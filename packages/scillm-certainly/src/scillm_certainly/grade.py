"""What a Lean of a certain version is worth. Pure.

Kernels before 4.34.0 have published holes (Lean release notes 4.32.1, 4.32.2, 4.34.0): opaque
declarations with stray variables, ill-typed parameters of nested inductives, and definitional
equality over `Acc.rec`. Each needs a file that is made for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm_certainly.records import Facts, Lean

FULL = "full"
OLD_KERNEL = "old_kernel"
UNKNOWN = "unknown"
SOUND_SINCE = (4, 34, 0)
NUMBERS = re.compile(r"(\d+)\.(\d+)\.(\d+)(-\w+)?")


def grade_of(version: str) -> str:
    """`full` from 4.34.0 on, `old_kernel` before it, `unknown` for a version that says nothing."""
    found = NUMBERS.search(version)
    if found is None:
        return UNKNOWN
    numbers = tuple(int(part) for part in found.groups()[:3])
    if numbers == SOUND_SINCE and found[4]:
        return OLD_KERNEL
    return FULL if numbers >= SOUND_SINCE else OLD_KERNEL


def caveats_of(facts: Facts, lean: Lean) -> Sequence[str]:
    """What lowers the worth of a verdict from these facts, most serious first."""
    caveats: list[str] = []
    old = grade_of(lean.version) != FULL
    if facts.user_code:
        caveats.append(
            "user_code: programs of the file ran while it was read; only a reference ties what it "
            "states to its text"
        )
    if old and facts.nested:
        caveats.append("second_kernel: nested inductives or Acc.rec under a kernel before 4.34.0")
    if old:
        caveats.append(f"kernel: Lean {lean.version or 'of unknown version'} is before 4.34.0")
    if not facts.axioms_complete:
        caveats.append("axioms: what library theorems rest on is not visible to this backend")
    return caveats
