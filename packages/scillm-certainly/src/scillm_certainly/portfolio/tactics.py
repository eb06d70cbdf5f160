"""The proofs that are tried on every statement, cheapest first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json

PLAIN: Mapping[str, str] = {
    "rfl": "intros\nrfl",
    "decide": "decide",
    "simp": "simp",
    "omega": "intros\nomega",
    "simp_all": "intros\nsimp_all",
    "grind": "intros\ngrind",
}
"""Name → tactics. `decide` keeps its quantifiers: it decides bounded ones."""
SEARCH: Mapping[str, str] = {"exact?": "intros\nexact?"}
"""What takes ten times as long as the others."""
INDUCTION = "induction"
STEPS: Sequence[str] = ("simp_all{0}", "simp_all{0} <;> omega", "grind{0}")
MAX_VARIABLES = 3
GROUPS: Mapping[str, Sequence[str]] = {
    "direct": ("rfl", "simp", "exact?"),
    "structured": (INDUCTION, "simp_all"),
    "computational": ("decide", "omega", "grind"),
}
"""Names that older clients send."""
NAMES = (*PLAIN, INDUCTION, *SEARCH)
REFUTATIONS: Mapping[str, str] = {"decide": "decide", "simp": "simp", "omega": "omega"}


@frozen(kw_only=True)
class Attempt:
    """One proof to try: the strategy it belongs to, and its tactics."""

    strategy: str
    tactics: str


def known_strategies(given: Json) -> tuple[str, ...]:
    """The names asked for, groups resolved; `UsageError` for one that is none."""
    if given is None:
        return ()
    rows = given.split(",") if isinstance(given, str) else given
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, str) for row in rows):
        raise UsageError("strategies must be a list of names")
    found: list[str] = []
    for row in (name.strip() for name in rows):
        if row not in NAMES and row not in GROUPS:
            known = ", ".join((*NAMES, *GROUPS))
            raise UsageError(f"unknown strategy {row!r}; known are {known}")
        found += GROUPS.get(row, (row,))
    return tuple(dict.fromkeys(found))


def attempts(
    strategies: Sequence[str],
    *,
    variables: Sequence[str],
    named: Sequence[str],
    defined: Sequence[str] = (),
) -> Iterator[Attempt]:
    """The proofs to try, in order. No strategies are all of them.

    `variables` are bound in front of the statement and have to be introduced by these names;
    `named` have their names in the goal already. `defined` are functions that may be unfolded.
    """
    wanted = set(strategies or NAMES)
    yield from (Attempt(strategy=key, tactics=PLAIN[key]) for key in PLAIN if key in wanted)
    if INDUCTION in wanted:
        yield from _inductions(variables, named, defined)
    yield from (Attempt(strategy=key, tactics=SEARCH[key]) for key in SEARCH if key in wanted)


def _inductions(
    variables: Sequence[str], named: Sequence[str], defined: Sequence[str]
) -> Iterator[Attempt]:
    unfold = f" [{', '.join(defined)}]" if defined else ""
    intro = f"intro {' '.join(variables)}\n" if variables else ""
    for name in (*named, *variables)[:MAX_VARIABLES]:
        for step in STEPS:
            yield Attempt(
                strategy=f"{INDUCTION} on {name}",
                tactics=f"{intro}induction {name} <;> {step.format(unfold)}",
            )
