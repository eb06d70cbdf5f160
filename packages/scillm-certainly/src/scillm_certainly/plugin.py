"""Certainly's hooks: what `scillm doctor` checks and `scillm config` shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scillm import portal
from scillm.plugins.settings import load

from scillm_certainly.diagnosis import examine
from scillm_certainly.settings import SETTINGS

if TYPE_CHECKING:
    from scillm.records import Check, Setting


class CertainlyPlugin:
    """The hook plugin."""

    def scillm_checks(self) -> Sequence[Check]:
        """Find a Lean, start it, and have it judge a true and a false statement."""
        return portal.call(examine, load(more=SETTINGS))

    def scillm_settings(self) -> Sequence[Setting]:
        """The settings of this package."""
        return SETTINGS
