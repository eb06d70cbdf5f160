"""CodeWorld's hooks: what `scillm doctor` checks and `scillm config` shows."""

from __future__ import annotations

from collections.abc import Sequence

from scillm import portal
from scillm.records import Check, Limits, Setting

from scillm_codeworld.records import OK, Program
from scillm_codeworld.results import LEVEL
from scillm_codeworld.sandbox.execution import execute
from scillm_codeworld.settings import SETTINGS

PROBE = "def solve(numbers):\n    return sum(numbers)\n"


class CodeWorldPlugin:
    """The hook plugin."""

    def scillm_checks(self) -> Sequence[Check]:
        """Run one small program in the sandbox and compare its answer."""
        run = portal.call(execute, Program(code=PROBE), [1, 2, 39], Limits(time_s=10.0))
        name = "codeworld sandbox"
        if run.status == OK and run.output == 42:
            observed = run.isolation
            detail = f"{LEVEL}; new processes {observed['new_processes']}, uid {observed['uid']}"
            return [Check(name=name, ok=True, detail=detail)]
        return [
            Check(
                name=name,
                ok=False,
                detail=f"a program that adds three numbers ended {run.status}: {run.reason}",
                fix="CodeWorld runs code on Linux, as an ordinary user or as a root that may "
                "change its user (CAP_SETUID). See docs/guide/codeworld.md.",
            )
        ]

    def scillm_settings(self) -> Sequence[Setting]:
        """The settings of this package."""
        return SETTINGS
