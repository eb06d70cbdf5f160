"""How a Lean is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

DRIVER, REPL = "driver", "repl"


@frozen(kw_only=True)
class Backend:
    """One way to start Lean: command, environment, and the language its lines speak.

    `dialect` is driver (our checker) or repl (leanprover-community's). `package` is the integrity
    of the package the embedded Lean came from, `driver` the SHA-256 of our checker. `memory_mb`
    bounds the address space, 0: no bound.

    `sandbox` is whether a sandbox that is offered holds it: False never, True always, None where
    there is one. `lean` and `project` are what a sandbox needs to know: the program as it was
    found, and the Lake project or nothing. `source` is the Lean file it is given, where that is not
    the checker's.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(factory=dict)
    dialect: str = DRIVER
    package: str = ""
    driver: str = ""
    memory_mb: int = 0
    sandbox: bool | None = False
    lean: str = ""
    project: str = ""
    source: str = ""
