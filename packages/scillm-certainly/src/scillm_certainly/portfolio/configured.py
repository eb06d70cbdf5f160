"""The model that settings name, behind a Router of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm_certainly.portfolio.model import Model

if TYPE_CHECKING:
    from scillm.records import Json


def model_of(settings: Mapping[str, Json]) -> Model | None:
    """Who may be asked about requirements; None when no model is set."""
    name = settings.get("certainly_model")
    if not name:
        return None
    from scillm import Router

    attempts = settings.get("certainly_attempts")
    return Model(provider=Router(), name=name, attempts=6 if attempts is None else attempts)
