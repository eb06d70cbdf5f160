"""The options of a job: their names, defaults and bounds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import asdict, field, fields, frozen
from scillm.errors import UsageError
from scillm.records import Limits
from scillm.search import Budget

from scillm_codeworld.generate.wish import SUGAR as WISHES
from scillm_codeworld.generate.wish import Wish, merged_wish, parse_wish
from scillm_codeworld.judge.rule import Rule, parse_rule

if TYPE_CHECKING:
    from scillm.records import Json

MIN_MEMORY_MB = 64
MAX_MEMORY_MB = 1_048_576
MAX_OUTPUT_BYTES = 1_000_000_000
MAX_TIMEOUT_S = 86_400.0
SWEEP = "sweep"
"""The core's strategy that runs everything once; it needs no control beside it."""
PYTHON = ("python",)
MODULES = ("numpy",)
"""Whoever sends a job names what is shown to its programs, so this holds nobody's own code."""
CHARGEABLE = ("executions", "seconds", "tokens", "usd")
"""Bounds of a search beside its rollouts."""


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
    """Trials a search asks for before it hears of any; the outcome depends on it."""
    workers: int = 1
    """Processes at the same time over the whole job; the outcome does not depend on it."""
    fail_fast: bool = True
    """Whether the first case that does not end ok spares the variant's other cases."""
    strategy: str = SWEEP
    params: Mapping[str, Json] = field(factory=dict)
    """What the strategy is built with, beside arms and seed."""
    budget: Mapping[str, float] = field(factory=dict)
    """Bounds of each item's search: rollouts, executions, seconds, tokens, usd."""
    metrics: Sequence[str] | None = None
    judge: Json = None
    isolation: str | None = None
    """The weakest isolation level that will do; None leaves it to SCILLM_CODEWORLD_ISOLATION."""
    allowed_languages: Sequence[str] = PYTHON
    allowed_modules: Sequence[str] = ()
    """What Python programs may import besides the standard library, of MODULES."""
    autogenerate: Json = None
    """Programs to be written by a model: see `generate.wish.Wish`; None for none."""

    @property
    def wish(self) -> Wish | None:
        """What is to be generated; `UsageError` for a wish that cannot be used."""
        return parse_wish(self.autogenerate)

    @property
    def limits(self) -> Limits:
        """The bounds of one execution."""
        return Limits(
            time_s=self.timeout_s, memory_mb=self.memory_mb, output_bytes=self.output_bytes
        )

    @property
    def rule(self) -> Rule:
        """How the judge compares; `UsageError` for one that cannot be used."""
        return parse_rule(self.judge, None if self.metrics is None else list(self.metrics))

    @property
    def bounds(self) -> Budget:
        """What one item's search may use up; `UsageError` for a bound that is none."""
        rollouts = self.budget.get("rollouts")
        executions, seconds, tokens, usd = (self.budget.get(name) for name in CHARGEABLE)
        return Budget(
            rollouts=None if rollouts is None else int(rollouts),
            executions=executions,
            seconds=seconds,
            tokens=tokens,
            usd=usd,
        )

    def to_dict(self) -> dict[str, Json]:
        """Plain JSON, every option spelt out."""
        found = asdict(self)
        for name in LISTS:
            found[name] = None if found[name] is None else list(found[name])
        return found


NAMES = tuple(row.name for row in fields(Options))
LISTS = ("metrics", "allowed_languages", "allowed_modules")
SEARCH_SUGAR = ("rollouts", "depth", "uct_c", "exploration_constant", "strategy_config")
SUGAR = (*SEARCH_SUGAR, *WISHES)
"""Older spellings; they end up in `params`, `budget` and `autogenerate`."""
_LEAST: Mapping[str, int] = {
    "memory_mb": MIN_MEMORY_MB,
    "output_bytes": 1,
    "repeats": 0,
    "width": 1,
    "workers": 1,
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
    given = _without_sugar(given)
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise UsageError(
            f"CodeWorld has no option {', '.join(map(repr, unknown))}; it has "
            f"{', '.join((*NAMES, *SUGAR))}."
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
    _check_kinds(given)
    default = default_width()
    for name in LISTS:
        if isinstance(given.get(name), list):
            given[name] = tuple(given[name])
    spelt: dict[str, Json] = {"width": default, "workers": default} | given
    options = Options(**spelt)
    check_limits(options.limits, time_name="timeout_s")
    for derived in ("bounds", "rule", "wish"):
        getattr(options, derived)  # refused now, before anything is run
    return options


def _without_sugar(given: Mapping[str, Json]) -> dict[str, Json]:
    """`given` with the older spellings moved to where they belong."""
    given = merged_wish(given)
    plain = {name: value for name, value in given.items() if name not in SUGAR}
    strategy = plain.get("strategy")
    config = dict(given.get("strategy_config") or {})
    if isinstance(strategy, Mapping):
        config = {**strategy, **config}
        del plain["strategy"]
    sugar = {name: given[name] for name in SEARCH_SUGAR[:-1] if given.get(name) is not None}
    sugar = {**config, **sugar}
    if not sugar:
        return plain
    name = sugar.pop("name", None)
    if name is not None:
        plain["strategy"] = name
    constant = sugar.pop("exploration_constant", None)
    if constant is not None:
        sugar.setdefault("uct_c", constant)  # as ever, uct_c wins over its older name
    rollouts = sugar.pop("rollouts", None)
    if rollouts is not None:
        plain["budget"] = {"rollouts": rollouts, **(plain.get("budget") or {})}
    plain["params"] = {**sugar, **(plain.get("params") or {})}
    return plain


def _check_kinds(given: Mapping[str, Json]) -> None:
    for name, kind, wanted in (
        ("fail_fast", bool, "true or false"),
        ("strategy", str, "the name of a strategy"),
        ("params", Mapping, "a mapping"),
        ("budget", Mapping, "a mapping"),
        ("isolation", (str, type(None)), "a level such as L3"),
        ("allowed_languages", (list, tuple), "a list of names"),
        ("allowed_modules", (list, tuple), "a list of names"),
    ):
        if name in given and not isinstance(given[name], kind):
            raise UsageError(f"The option {name} must be {wanted}, but is {given[name]!r}.")
    for name in given.get("allowed_modules", ()):
        if name not in MODULES:
            raise UsageError(
                f"The option allowed_modules takes {', '.join(MODULES)}, but not {name!r}."
            )
    bounds = ("rollouts", *CHARGEABLE)
    for name, value in (given.get("budget") or {}).items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name not in bounds or not (number and value == value):
            raise UsageError(
                f"The budget has {name!r}: {value!r}; it takes numbers for "
                f"{', '.join(sorted(bounds))}."
            )
