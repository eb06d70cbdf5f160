"""Deterministic mode: the sampling parameters under which answers repeat best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm.records import Json

FIXED: Mapping[str, Json] = {"temperature": 0, "top_p": 1}
"""Always sent."""
PENALTIES = ("presence_penalty", "frequency_penalty")
"""Set to 0 where the caller gave them; not sent otherwise, since some servers refuse the names."""


def made_deterministic(params: Mapping[str, Json]) -> tuple[dict[str, Json], tuple[str, ...]]:
    """`params` with sampling fixed, and the names whose given value had to change."""
    fixed = {**FIXED, **{name: 0 for name in PENALTIES if name in params}}
    changed = tuple(name for name in fixed if name in params and params[name] != fixed[name])
    return {**params, **fixed}, changed
