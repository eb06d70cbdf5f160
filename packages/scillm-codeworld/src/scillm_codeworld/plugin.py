"""CodeWorld's hooks: what `scillm doctor` checks and `scillm config` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm import portal
from scillm.errors import SandboxError, UsageError
from scillm.records import Check, Limits, Setting

from scillm_codeworld.records import OK, Execution, Program
from scillm_codeworld.sandbox import open_sandbox
from scillm_codeworld.sandbox.levels import LEVELS, NAMES, WASM
from scillm_codeworld.settings import ALL_SETTINGS

if TYPE_CHECKING:
    from scillm.records import Json

PROBE = "def solve(numbers):\n    return sum(numbers)\n"
NAME = "codeworld sandbox"
PARTS = ("fs", "net", "procs", "mem", "kill")


class CodeWorldPlugin:
    """The hook plugin."""

    def scillm_checks(self) -> Sequence[Check]:
        """Open the best sandbox, run a small program in it, and say how it is held."""
        try:
            report, run = portal.call(_tried)
        except (SandboxError, UsageError) as error:
            return [Check(name=NAME, ok=False, detail=str(error), fix=FIX)]
        if run.status != OK or run.output != 42:
            detail = f"a program that adds three numbers ended {run.status}: {run.reason}"
            return [Check(name=NAME, ok=False, detail=detail, fix=FIX)]
        return [
            Check(name=NAME, ok=True, detail=_described(report)),
            *_held(report, str(run.isolation["level"])),
        ]

    def scillm_settings(self) -> Sequence[Setting]:
        """The settings of this package."""
        return ALL_SETTINGS


FIX = (
    "CodeWorld runs code on Linux; what each level needs is in docs/guide/codeworld_isolation.md. "
    "SCILLM_CODEWORLD_ISOLATION sets the weakest level that will do."
)


async def _tried() -> tuple[Mapping[str, Json], Execution]:
    async with open_sandbox() as sandbox:
        run = await sandbox.run(Program(code=PROBE), [1, 2, 39], Limits(time_s=10.0))
        return sandbox.report(), run


async def levels_here() -> list[dict[str, Json]]:
    """Every level, the strongest first: whether it can be opened here, and what it observed."""
    chosen, _ = await _default()
    return [await _level(level, chosen) for level in (*reversed(LEVELS), WASM)]


async def _default() -> tuple[str | None, str]:
    try:
        async with open_sandbox() as sandbox:
            return sandbox.level, ""
    except (SandboxError, UsageError) as error:
        return None, error.message


async def _level(level: str, chosen: str | None) -> dict[str, Json]:
    found: dict[str, Json] = {
        "level": level,
        "name": NAMES[level],
        "default": level == chosen,
        "works": False,
        "why": "",
        "open": "",
        "report": {},
    }
    try:
        async with open_sandbox(require=level, prefer=level) as sandbox:
            run = await sandbox.run(Program(code=PROBE), [1, 2, 39], Limits(time_s=10.0))
            report = dict(sandbox.report())
    except (SandboxError, UsageError) as error:
        return {**found, "why": error.message}
    if run.status != OK or run.output != 42:
        return {**found, "why": f"a small program ended {run.status}: {run.reason}"}
    probe = report.get("probe") or {}
    opened = ", ".join(name for name, seen in probe.items() if seen == "open")
    return {**found, "works": True, "open": opened, "report": report}


def _described(report: Mapping[str, Json]) -> str:
    parts = "; ".join(f"{part}: {report[part]}" for part in PARTS if part in report)
    return f"{NAMES.get(report['level'], report['level'])}; {parts}"


def _held(report: Mapping[str, Json], level: str) -> Sequence[Check]:
    """A line of its own when the probe found doors open, or a better level could not be had."""
    probe = report.get("probe") or {}
    found_open = [name for name, seen in probe.items() if seen == "open"]
    if not found_open and not report.get("why"):
        return []
    detail = f"inside, the probe found open: {', '.join(found_open) or 'nothing'}"
    if report.get("why"):
        detail += f". No higher level: {report['why']}"
    good = level in LEVELS and not found_open
    return [Check(name="codeworld isolation", ok=True if good else None, detail=detail, fix=FIX)]
