"""How a run begins: its first row, and whether one begun elsewhere can go on here."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING

from scillm.errors import StoredRunError
from scillm.runs.canonical import digest

from scillm_codeworld.records import ENGINE

if TYPE_CHECKING:
    from scillm.records import Job, Json

    from scillm_codeworld.options import Options

SCHEMA = "codeworld.record/1"
POLICY = "codeworld/sandbox"
"""Key of the sandbox's report among what was measured."""
COMPONENT = "component"
"""Key of the interpreter's digest in the report of level wasm."""
NOT_HASHED = frozenset({"workers"})
"""Options that no outcome depends on."""


def check_interpreter(kept: Mapping[str, Json], now: Mapping[str, Json]) -> None:
    """`StoredRunError` when fuel was counted with another interpreter than the one here."""
    if kept.get(COMPONENT) != now.get(COMPONENT):
        raise StoredRunError(
            f"The run was begun at level wasm with the interpreter {kept.get(COMPONENT)}, but here "
            f"is {now.get(COMPONENT)}, whose fuel cannot be compared. Go on with the folder "
            "SCILLM_CODEWORLD_WASM_CACHE of then, or start a new run."
        )


def opening(job: Job, options: Options, level: str) -> dict[str, Json]:
    """The first row: everything that the others follow from."""
    asked = {name: value for name, value in options.to_dict().items() if name not in NOT_HASHED}
    return {
        "kind": "run",
        "schema": SCHEMA,
        "engine": ENGINE,
        "items": digest(list(job.items)),
        "seed": job.seed,
        "options": asked,
        "isolation": {"asked": options.isolation, "level": level},
        "versions": {
            "python": platform.python_version(),
            "scillm-codeworld": metadata.version("scillm-codeworld"),
        },
    }
