"""CodeWorld's settings, and the options they stand in for where a caller gives none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm.records import Setting

from scillm_codeworld.options import Options, parse_options

if TYPE_CHECKING:
    from scillm.records import Json

PREFIX = "codeworld_"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="codeworld_timeout_s",
        env=("SCILLM_CODEWORLD_TIMEOUT_S",),
        kind="float",
        default=5.0,
        doc="Seconds one call of a code variant may take.",
    ),
    Setting(
        name="codeworld_memory_mb",
        env=("SCILLM_CODEWORLD_MEMORY_MB",),
        kind="int",
        default=512,
        doc="Megabytes of memory a code variant's process may use.",
    ),
)


def options_from(settings: Mapping[str, Json], given: Mapping[str, Json]) -> Options:
    """The options of `given`, the rest from `settings` and the defaults; `UsageError` as there."""
    set_ones = {
        row.name.removeprefix(PREFIX): settings[row.name]
        for row in SETTINGS
        if settings.get(row.name) is not None
    }
    return parse_options(set_ones | dict(given))
