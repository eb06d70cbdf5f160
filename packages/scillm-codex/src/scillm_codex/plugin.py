"""Codex's hooks: what `scillm doctor` checks and `scillm config` shows."""

from __future__ import annotations

from collections.abc import Sequence

from scillm.errors import EngineError, UsageError
from scillm.plugins.settings import load
from scillm.records import Check, Setting

from scillm_codex.agent.settings import AGENT_SETTINGS
from scillm_codex.settings import SETTINGS
from scillm_codex.sidecar.binary import INSTALL, find_binary, untested, with_version


class CodexPlugin:
    """The hook plugin."""

    def scillm_checks(self) -> Sequence[Check]:
        """The binary and its version; `scillm codex doctor` tries the rest."""
        name = "codex binary"
        try:
            found = find_binary(load(more=SETTINGS)["codex_bin"])
        except UsageError as error:
            # Only who runs a sidecar needs the binary; a provider alone does not.
            return [Check(name=name, ok=None, detail=error.message)]
        try:
            binary = with_version(found)
        except EngineError as error:
            return [Check(name=name, ok=False, detail=error.message, fix=INSTALL)]
        detail = f"{binary.version} at {binary.path} (from {binary.source})"
        if not binary.tested:
            detail += f". {untested(binary)}"
        return [Check(name=name, ok=True, detail=detail)]

    def scillm_settings(self) -> Sequence[Setting]:
        """The settings of this package."""
        return (*SETTINGS, *AGENT_SETTINGS)
