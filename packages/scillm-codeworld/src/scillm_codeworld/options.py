"""The options of a job: their names, defaults and bounds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import asdict, fields, frozen
from scillm.errors import UsageError
from scillm.records import Limits

if TYPE_CHECKING:
    from scillm.records import Json

MIN_MEMORY_MB = 64
MAX_MEMORY_MB = 1_048_576
MAX_OUTPUT_BYTES = 1_000_000_000
MAX_TIMEOUT_S = 86_400.0


@frozen(kw_only=True)
class Options:
    """How a job is run. `timeout_s` bounds one call; loading the code is bounded the same way."""

    timeout_s: float = 5.0
    memory_mb: int = 512
    output_bytes: int = 1_000_000
    """For the answer, for stdout and for stderr, each."""
    repeats: int = 3
    """Timing runs of each case of a fully correct variant; 0 measures no speed."""
    width: int = 1
    """Variants run at the same time; timing repeats always run alone."""

    @property
    def limits(self) -> Limits:
        """The bounds of one execution."""
        return Limits(
            time_s=self.timeout_s, memory_mb=self.memory_mb, output_bytes=self.output_bytes
        )

    def to_dict(self) -> dict[str, Json]:
        """Plain JSON, every option spelt out."""
        return asdict(self)


NAMES = tuple(field.name for field in fields(Options))
_LEAST: Mapping[str, int] = {
    "memory_mb": MIN_MEMORY_MB,
    "output_bytes": 1,
    "repeats": 0,
    "width": 1,
}


def default_width() -> int:
    """Two at a time where there are two processors."""
    return min(2, os.cpu_count() or 1)


def check_limits(limits: Limits, *, time_name: str = "time_s") -> None:
    """`UsageError` unless `limits` bound one execution: neither nothing nor everything."""
    for name, value, least, most in (
        (time_name, limits.time_s, 0.0, MAX_TIMEOUT_S),
        ("memory_mb", limits.memory_mb, MIN_MEMORY_MB, MAX_MEMORY_MB),
        ("output_bytes", limits.output_bytes, 1, MAX_OUTPUT_BYTES),
    ):
        if not (value > 0 and least <= value <= most):
            raise UsageError(f"{name} must lie between {least:g} and {most:g}, but is {value!r}.")


def parse_options(given: Mapping[str, Json]) -> Options:
    """`given` as Options; `UsageError` naming an unknown option or a value that cannot be used."""
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise UsageError(
            f"CodeWorld has no option {', '.join(map(repr, unknown))}; it has {', '.join(NAMES)}."
        )
    for name, least in _LEAST.items():
        value = given.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(
                f"The option {name} must be a whole number, {least} or more, but is {value!r}."
            )
    time_s = given.get("timeout_s", 1.0)
    if isinstance(time_s, bool) or not isinstance(time_s, (int, float)):
        raise UsageError(f"The option timeout_s must be a number of seconds, but is {time_s!r}.")
    options = Options(**({"width": default_width()} | dict(given)))
    check_limits(options.limits, time_name="timeout_s")
    return options
