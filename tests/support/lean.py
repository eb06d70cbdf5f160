"""A real Lean for tests: installed once for all of them, found by the settings a user has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scillm.errors import ProverError
from scillm.plugins.settings import load
from scillm_certainly.backends.install import install
from scillm_certainly.backends.node import find_node
from scillm_certainly.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.records import Json


def lean_settings(**changes: Json) -> Mapping[str, Json]:
    """Settings for the embedded Lean: one worker, no spare, the home of the environment.

    Installs it first where that was not done. Without Node and npm the test is skipped, in CI it
    fails.
    """
    values = dict(load(more=SETTINGS))
    values |= {"certainly_backend": "wasm", "certainly_workers": 1, "certainly_spare": False}
    try:
        install(values["certainly_home"], find_node(values["certainly_node"]))
    except ProverError as error:
        pytest.skip(error.message)
    return {**values, **changes}
