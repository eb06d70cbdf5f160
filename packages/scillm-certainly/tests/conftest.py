"""One warm Lean for all tests of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scillm import portal
from scillm_certainly.backends.choose import choose
from scillm_certainly.dialogue.desk import Desk
from scillm_certainly.pool.resident import Resident
from scillm_certainly.records import Policy
from support.lean import lean_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scillm.records import Json
    from scillm_certainly.backends.records import Backend


@pytest.fixture(scope="session")
def lean_values() -> Mapping[str, Json]:
    """Settings under which the embedded Lean is used, with one worker and no spare."""
    return lean_settings()


@pytest.fixture(scope="session")
def lean(lean_values: Mapping[str, Json]) -> Resident:
    """The process's own pool: every test asks the same warm worker."""
    return Resident(lean_values)


@pytest.fixture(scope="session")
def embedded(lean_values: Mapping[str, Json]) -> Backend:
    """The embedded Lean, for tests that build a pool of their own."""
    return choose(lean_values)


@pytest.fixture(scope="session")
def desk(lean_values: Mapping[str, Json]) -> Iterator[Desk]:
    """The process's own tactic mode; its Lean holds so few states that many are built again."""
    made = Desk(lambda: choose(lean_values), Policy(), kept=4)
    yield made
    portal.call(made.aclose)
