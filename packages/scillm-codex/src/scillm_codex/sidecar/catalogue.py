"""Codex's model catalogue for plain chat: the same models, without the tools Codex gives them.

The newest models are offered tools only through a JavaScript sandbox of Codex's (`code_mode_only`),
where a client's tools cannot be seen; and every model is offered `apply_patch`. Seen in 0.169.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from scillm.records import Json

log = logging.getLogger("scillm.codex")

LIST_S = 20.0
PLAIN: Mapping[str, Json] = {
    "tool_mode": None,
    "apply_patch_tool_type": None,
    "experimental_supported_tools": [],
    "multi_agent_version": None,
}
"""What plain chat changes of a model's row."""


def plain_catalogue(catalogue: Json) -> Json:
    """`catalogue` with the rows of its models changed for plain chat; others are left alone."""
    return {
        **catalogue,
        "models": [
            {**row, **{name: PLAIN[name] for name in PLAIN if name in row}}
            for row in catalogue["models"]
        ],
    }


def read_catalogue(binary: Path, env: Mapping[str, str]) -> Json:
    """The catalogue of a binary; None, and a word in the log, where it does not tell."""
    try:
        done = subprocess.run(  # noqa: S603 - the binary the user chose or installed
            [str(binary), "debug", "models"],
            env=dict(env),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=LIST_S,
            check=True,
        )
        found = json.loads(done.stdout)
        if isinstance(found, Mapping) and isinstance(found.get("models"), list):
            return found
        why = "it is no list of models"
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        why = str(error)
    log.warning(
        "`codex debug models` told no catalogue (%s). Models of Codex's own keep their tools, and "
        "a client's tools may not reach them.",
        why,
    )
    return None
