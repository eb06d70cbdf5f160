"""Fallbacks: where a call goes when a whole model group has failed it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from scillm.errors import (
    ContentPolicyViolationError,
    ContextWindowExceededError,
    ScillmError,
    UsageError,
)

DEFAULT = "*"
MOST = 5
OWN_PLACE = frozenset({"api_base", "base_url", "custom_llm_provider"})
"""Arguments with which a call needs no group."""


@frozen(kw_only=True)
class Fallback:
    """One place to go on: a group or deployment id, perhaps with other messages or parameters."""

    model: str
    changes: Mapping[str, Any] = field(factory=dict)


Table = Mapping[str, Sequence[Fallback]]


@frozen(kw_only=True)
class FallbackRules:
    """The fallbacks of a Router or a call, by group; `*` stands for every other group."""

    general: Table = field(factory=dict)
    context_window: Table = field(factory=dict)
    content_policy: Table = field(factory=dict)
    most: int = MOST
    """How many groups a call may fall back to."""


def read_table(name: str, value: Any) -> dict[str, tuple[Fallback, ...]]:
    """LiteLLM's `[{group: [next, …]}, …]`; `UsageError` says what is wrong."""
    rows = [value] if isinstance(value, Mapping) else value
    if isinstance(rows, str) or not isinstance(rows, Sequence):
        raise UsageError(f'{name} must be a list such as [{{"group": ["next"]}}], not {value!r}.')
    table: dict[str, tuple[Fallback, ...]] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            raise UsageError(
                f"{name} must hold objects such as {{'group': ['next']}}, not {row!r}."
            )
        for group, targets in row.items():
            table[str(group)] = read_targets(name, targets)
    return table


def read_targets(name: str, targets: Any) -> tuple[Fallback, ...]:
    """A list of names, or of objects with `model` and what is to be changed."""
    if isinstance(targets, str) or not isinstance(targets, Sequence):
        raise UsageError(f"{name} must list where to go next, not {targets!r}.")
    return tuple(_read_target(name, target) for target in targets)


def _read_target(name: str, target: Any) -> Fallback:
    if isinstance(target, str) and target.strip():
        return Fallback(model=target)
    if isinstance(target, Mapping) and isinstance(target.get("model"), str):
        changes = {key: value for key, value in target.items() if key != "model"}
        return Fallback(model=target["model"], changes=changes)
    raise UsageError(f"{name} holds {target!r}; a name, or an object with `model`, is wanted.")


def strangers(rules: FallbackRules, serves: Callable[[str], bool]) -> list[str]:
    """Names that calls may fall back to and nobody serves, in order, each once.

    A place with an address of its own needs no group.
    """
    tables = (rules.general, rules.context_window, rules.content_policy)
    places = [place for table in tables for targets in table.values() for place in targets]
    names = dict.fromkeys(place.model for place in places if not OWN_PLACE & set(place.changes))
    return [name for name in names if not serves(name)]


def next_groups(error: ScillmError, group: str, rules: FallbackRules) -> Sequence[Fallback]:
    """Where to go after `group` failed with `error`, in order; empty when nowhere.

    Context-window and content-policy errors use their own table where it has entries at all: a
    table that does not know the group means that such an error is final. Everything else, and
    those errors without a table of their own, uses the general one. A request that is refused for
    what it says (400, 422) goes nowhere: other models are asked the same thing.
    """
    table = rules.general
    if isinstance(error, ContextWindowExceededError) and rules.context_window:
        table = rules.context_window
    elif isinstance(error, ContentPolicyViolationError) and rules.content_policy:
        table = rules.content_policy
    elif not error.try_elsewhere and not isinstance(
        error, (ContextWindowExceededError, ContentPolicyViolationError)
    ):
        return ()
    bare = group.partition("/")[2]
    for name in (group, bare, DEFAULT):
        if name and name in table:
            return table[name]
    return ()


# -- names that stand for groups ----------------------------------------------------------------


def pattern_match(model: str, groups: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """The `vendor/*` group that fits `model` best, with what its stars stand for.

    The longest pattern wins, then the one with the fewest stars; `*` alone fits last.
    """
    patterns = sorted((g for g in groups if "*" in g), key=lambda g: (-len(g), g.count("*"), g))
    for pattern in patterns:
        expression = "(.*)".join(re.escape(part) for part in pattern.split("*"))
        found = re.fullmatch(expression, model, re.DOTALL)
        if found:
            return pattern, found.groups()
    return None


def filled(template: str, stars: Sequence[str]) -> str:
    """`template` with its stars replaced in order; the last match serves where there are more."""
    parts = template.split("*")
    last = stars[-1] if stars else ""
    filled_in = [*stars, *[last] * len(parts)]
    return parts[0] + "".join(star + part for star, part in zip(filled_in, parts[1:], strict=False))
