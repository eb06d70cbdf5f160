"""From the options' strategy to a strategy over an item's programs, built with what it can take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from scillm.errors import PluginLoadError, UsageError
from scillm.protocols import Strategy

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codeworld.options import Options
    from scillm_codeworld.records import Item

Factory: TypeAlias = "Callable[..., object]"
Find: TypeAlias = "Callable[[str], Factory]"
"""From a strategy's name to its factory; raises `PluginError` for one that is not there."""

PULL = "pull"
RUN, CASE, TIMING = "run", "case", "timing"
KIND, CASES = "kind", "cases"
NEEDS: Mapping[str, tuple[str, ...]] = {RUN: (), CASE: (CASES,), TIMING: (CASES, KIND)}
"""What a pull may be → the parameters by which a strategy is told to make such ones."""
GROWS = "generate"


def strategy_for(
    item: Item, arms: Sequence[str], options: Options, *, seed: int, find: Find, grows: bool
) -> Strategy:
    """The strategy that `options` name, over `arms`.

    A strategy that can pull single cases does so unless the parameter `pull` says otherwise, the
    item has a scorer (which needs all answers), or new programs are made (`grows`). Raises
    `UsageError` naming a parameter it does not have.
    """
    factory = find(options.strategy)
    takes = _parameters(factory)
    params = dict(options.params)
    pull = _pull(params.pop(PULL, None), params.get(KIND), takes, options.strategy)
    params |= _implied(item, options, takes, pull=pull, grows=grows)
    odd = sorted(set(params) - takes) if None not in takes else []
    if odd:
        known = ", ".join(sorted(name for name in takes if name and name != "seed"))
        raise UsageError(
            f"The strategy {options.strategy!r} has no parameter {odd[0]!r}; it has "
            f"{known or 'none'}."
        )
    try:
        made = factory(list(arms), seed=seed, **params)
    except TypeError as error:
        raise UsageError(
            f"The strategy {options.strategy!r} cannot be built with {params}: {error}."
        ) from error
    if not isinstance(made, Strategy):
        raise PluginLoadError(
            f"The strategy {options.strategy!r} built a {type(made).__name__}, which lacks ask, "
            "tell or report."
        )
    return made


def _pull(pull: Json, kind: Json, takes: frozenset[str | None], strategy: str) -> str | None:
    """What was asked for as `pull`, or as the strategy's own `kind`; None where neither says."""
    if pull is None:
        return TIMING if kind == TIMING else None
    if kind is not None and (kind == TIMING) != (pull == TIMING):
        raise UsageError(f"The parameter pull is {pull!r} and kind is {kind!r}; give one.")
    if not isinstance(pull, str) or pull not in NEEDS:
        raise UsageError(f"The parameter pull must be one of {', '.join(NEEDS)}, but is {pull!r}.")
    lacking = [name for name in NEEDS[pull] if not takes & {name, None}]
    if lacking:
        raise UsageError(
            f"The strategy {strategy!r} has no {pull} pulls: it lacks the parameter {lacking[0]!r}."
        )
    return pull


def _implied(
    item: Item, options: Options, takes: frozenset[str | None], *, pull: str | None, grows: bool
) -> dict[str, Json]:
    found: dict[str, Json] = {}
    rollouts = options.budget.get("rollouts")
    if rollouts is not None and "rollouts" in takes and "rollouts" not in options.params:
        found["rollouts"] = int(rollouts)
    by_case = pull == CASE or (pull is None and item.scoring is None and not grows)
    if pull == TIMING:
        found |= {KIND: TIMING, CASES: options.params.get(CASES)}
    elif by_case and CASES in takes and CASES not in options.params:
        found[CASES] = len(item.inputs)
    if grows and GROWS in takes and GROWS not in options.params:
        found[GROWS] = True
    return found


def _parameters(factory: Factory) -> frozenset[str | None]:
    """Names the factory takes after the arms; None among them when it takes any."""
    subject: Any = factory
    rows = list(inspect.signature(subject).parameters.values())[1:]
    open_ended = any(row.kind is inspect.Parameter.VAR_KEYWORD for row in rows)
    names: Mapping[str, Any] = {row.name: row for row in rows}
    return frozenset([*names, None] if open_ended else names)
