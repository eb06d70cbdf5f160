"""Whether Lean works here: found, started, and asked three questions whose answers are known."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.errors import ProverError, UsageError
from scillm.records import Check

from scillm_certainly.errors import LeanMissingError
from scillm_certainly.pool.resident import Resident
from scillm_certainly.records import (
    INCOMPLETE,
    PROVED,
    PROVED_UNREPLAYED,
    REJECTED,
    CheckRequest,
)
from scillm_certainly.results import one_line

if TYPE_CHECKING:
    from scillm.records import Json

QUESTIONS: Sequence[tuple[str, str, frozenset[str]]] = (
    (
        "a true statement",
        "theorem doctor_true (n : Nat) : 0 + n = n := by simp",
        frozenset({PROVED, PROVED_UNREPLAYED}),
    ),
    (
        "a false statement",
        "theorem doctor_false (n : Nat) : n + 1 = n := by simp",
        frozenset({REJECTED}),
    ),
    (
        "an unfinished proof",
        "theorem doctor_gap (n : Nat) : n = 0 := by sorry",
        frozenset({INCOMPLETE}),
    ),
)
FIX = "scillm certainly install"
OR_ANOTHER = (
    "mend the Lean that is named here, or have the embedded one used: scillm certainly install, "
    "then SCILLM_CERTAINLY_BACKEND=wasm"
)


async def examine(settings: Mapping[str, Json]) -> list[Check]:
    """One check for the backend, one for each question; those after a failure are not run."""
    checker = Resident({**settings, "certainly_spare": False})
    try:
        lean = await checker.warm_up()
    except LeanMissingError as error:
        # Not installed is no fault of this machine; whoever wants Lean is told how.
        return [Check(name="certainly lean", ok=None, detail=error.message, fix=FIX)]
    except (ProverError, UsageError) as error:
        return [Check(name="certainly lean", ok=False, detail=error.message, fix=OR_ANOTHER)]
    checks = [
        Check(
            name="certainly lean",
            ok=True,
            detail=f"{lean.backend}, Lean {lean.version or 'of unknown version'} "
            f"({lean.commit[:12] or 'no commit told'}), {held(lean.confinement)}",
        )
    ]
    for what, code, wanted in QUESTIONS:
        # The number keeps an earlier answer from standing in for this one.
        asked = f"{code}\n-- {secrets.token_hex(8)}"
        verdict = await checker.check(CheckRequest(id=what, code=asked))
        right = verdict.status in wanted
        why = "" if right or not verdict.reason else f": {one_line(verdict.reason)}"
        checks.append(
            Check(
                name=f"certainly, {what}",
                ok=right,
                detail=f"{verdict.status} in {verdict.wall_s:.2f} s{why}",
            )
        )
    return checks


def held(confinement: Mapping[str, Json]) -> str:
    """What confines a worker, and how far, in one line."""
    by, why = confinement.get("by"), confinement.get("why")
    who = f"a sandbox of level {confinement.get('level')}" if by == "sandbox" else f"our {by}"
    because = f" (no sandbox: {why})" if why else ""
    return f"held by {who}{because}, network of the worker: {confinement.get('network')}"
