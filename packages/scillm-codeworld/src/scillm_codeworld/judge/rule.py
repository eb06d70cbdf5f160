"""How variants that pass the gate are compared: the mode, the weights, the order of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen
from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json

CORRECTNESS = "correctness"
METRICS = (CORRECTNESS, "robustness", "speed", "memory", "brevity")
WEIGHTED = "weighted"
LEXICOGRAPHIC = "lexicographic"
PARETO = "pareto"
MODES: Mapping[str, str] = {
    WEIGHTED: WEIGHTED,
    LEXICOGRAPHIC: LEXICOGRAPHIC,
    "lex": LEXICOGRAPHIC,
    PARETO: PARETO,
}
WEIGHTS: Mapping[str, float] = {CORRECTNESS: 0.7, "speed": 0.2, "brevity": 0.1}
EQUAL_SHARE = 0.1
"""The weight of a metric that was asked for without one."""
KEYS = frozenset({"mode", "weights", "order", "model"})


@frozen(kw_only=True)
class Rule:
    """How to compare. `order` serves the lexicographic and the Pareto mode."""

    mode: str = WEIGHTED
    weights: Mapping[str, float] = field(factory=lambda: dict(WEIGHTS))
    order: Sequence[str] = ("speed", "brevity")
    model: str | None = None
    """The model that may order variants which everything measured leaves tied."""


def parse_rule(judge: Json, metrics: Json) -> Rule:
    """The rule of the options `judge` and `metrics`; `UsageError` naming what cannot be used."""
    if judge is None or isinstance(judge, str):
        judge = {"mode": judge or WEIGHTED}
    if not isinstance(judge, Mapping) or set(judge) - KEYS:
        raise UsageError(
            "The option judge must be weighted, lexicographic or pareto, or a mapping with "
            f"{', '.join(sorted(KEYS))}, but is {judge!r}."
        )
    mode = judge.get("mode", WEIGHTED)
    if not isinstance(mode, str) or mode not in MODES:
        raise UsageError(f"judge.mode must be one of {', '.join(MODES)}, but is {mode!r}.")
    names = _names(metrics, what="metrics")
    order = _names(judge.get("order"), what="judge.order") or [
        name for name in names or WEIGHTS if name != CORRECTNESS
    ]
    model = judge.get("model")
    if model is not None and not isinstance(model, str):
        raise UsageError(f"judge.model must be the name of a model, but is {model!r}.")
    return Rule(
        mode=MODES[mode],
        weights=_weights(judge.get("weights"), names),
        order=tuple(name for name in order if name != CORRECTNESS),
        model=model,
    )


def _names(given: Json, *, what: str) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, (list, tuple)) or not all(isinstance(name, str) for name in given):
        raise UsageError(f"The option {what} must be a list of names, but is {given!r}.")
    doubled = sorted({name for name in given if list(given).count(name) > 1})
    if doubled:
        raise UsageError(f"The option {what} names {doubled[0]!r} twice.")
    return list(given)


def _weights(given: Json, names: Sequence[str]) -> dict[str, float]:
    if given is None:
        wanted = {CORRECTNESS, *names} if names else set(WEIGHTS)
        return {
            name: WEIGHTS.get(name, EQUAL_SHARE) for name in (CORRECTNESS, *names, *WEIGHTS)
            if name in wanted
        }  # fmt: skip
    if not isinstance(given, Mapping) or not given:
        raise UsageError(f"judge.weights must map names of metrics to numbers, but is {given!r}.")
    for name, weight in given.items():
        good = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not isinstance(name, str) or not good or not 0 <= weight < float("inf"):
            raise UsageError(
                f"judge.weights[{name!r}] must be a number, 0 or more, but is {weight!r}."
            )
    if not sum(given.values()) > 0:
        raise UsageError("judge.weights must not all be 0.")
    return {name: float(weight) for name, weight in given.items()}
