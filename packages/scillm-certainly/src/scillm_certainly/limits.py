"""Which of Lean's errors tell about this Lean and its limits, not about the proof. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm_certainly.records import Diagnostic

HEARTBEATS, DEPTH, HIDDEN, NO_CODE, IMPORT, MEMORY = (
    "heartbeats",
    "recursion_depth",
    "library_body_hidden",
    "no_code",
    "missing_import",
    "memory",
)
ANYWHERE: Sequence[tuple[str, re.Pattern[str]]] = (
    (HEARTBEATS, re.compile(r"\(deterministic\) timeout|maximum number of heartbeats")),
    (DEPTH, re.compile(r"maximum recursion depth has been reached|[Ss]tack overflow")),
    (MEMORY, re.compile(r"out of memory|excessive memory consumption")),
    (IMPORT, re.compile(r"unknown module prefix|object file .* does not exist")),
)
EMBEDDED: Sequence[tuple[str, re.Pattern[str]]] = (
    (
        NO_CODE,
        re.compile(
            r"Unknown constant `[^`]*(_redArg|_private|_lam_|spec_|_boxed|_rarg)"
            r"|failed to compile definition|has no executable code"
            r"|could not find native implementation"
            r"|cannot evaluate|noncomputable|unsupported operation \(error code: 52"
            r"|Failed to find LCNF signature|failed to synthesize code"
        ),
    ),
    (
        HIDDEN,
        re.compile(
            r"not exposed|not unfolded because|did not reduce to|failed to reduce"
            r"|_private\.|private declaration|inaccessible|failed to generate unfold"
            r"|failed to unfold|Failed to unfold|failed to generate equational theorem"
        ),
    ),
)
"""Signs that only the embedded library's missing parts explain."""


def limit_of(diagnostics: Sequence[Diagnostic], *, library_hidden: bool) -> str:
    """The limit that the errors speak of, or "" when at least the first error is the proof's own.

    One error follows from another, so the first decides.
    """
    errors = [row for row in diagnostics if row.severity == "error"]
    table = (*ANYWHERE, *EMBEDDED) if library_hidden else ANYWHERE
    for row in errors[:1]:
        for limit, pattern in table:
            if pattern.search(row.text):
                return limit
    return ""
