"""The strategy `mcts`: UCT over fixed arms, or with a generator over their refinements."""

from __future__ import annotations

from collections.abc import Sequence

from scillm.errors import UsageError

from scillm_codeworld.strategies.bandits import whole
from scillm_codeworld.strategies.book import at_least
from scillm_codeworld.strategies.tree import Uct
from scillm_codeworld.strategies.uct import share_of
from scillm_codeworld.strategies.widening import Refinements, Widen

FIXED_C, GROWING_C = 0.35, 0.1
"""In units of the range of scores; see docs/adr/0012-search.md for what was measured."""


def mcts(
    arms: Sequence[str],
    *,
    seed: int = 0,
    rollouts: int = 64,
    depth: int = 8,
    uct_c: float | None = None,
    exploration_constant: float | None = None,
    generate: bool = False,
    backup: str | None = None,
    separator: str = "",
    cases: int | None = 1,
    kind: str = "run",
    bounds: Sequence[float] | None = None,
    widen_k: float = 2.0,
    widen_alpha: float = 0.5,
) -> Uct | Refinements:
    """UCT. `exploration_constant` is another name of `uct_c`, in units of the range of scores.

    Without `generate` the arms are fixed: `depth` means nothing, `separator` cuts their names into
    levels. With it, a node widens while it has fewer than `widen_k * visits ** widen_alpha`
    children, down to `depth` generations of refinement. `backup` is mean (the default for fixed
    arms), max, or mixed (the default with `generate`, where one good child counts most).
    """
    given = _constant(uct_c, exploration_constant)
    if not generate:
        return Uct(
            arms,
            seed=seed,
            rollouts=rollouts,
            c=FIXED_C if given is None else given,
            cases=cases,
            kind=kind,
            bounds=bounds,
            backup=backup or "mean",
            separator=separator,
        )
    whole(cases, kind)
    if separator:
        raise UsageError("separator is for fixed arms; with generate the tree grows by itself.")
    at_least(0, uct_c=given)
    if not (widen_k > 0 and 0 <= widen_alpha <= 1):
        raise UsageError(
            "widen_k must be above 0 and widen_alpha between 0 and 1, but are "
            f"{widen_k} and {widen_alpha}."
        )
    return Refinements(
        arms,
        rule=Widen(
            c=GROWING_C if given is None else given,
            k=widen_k,
            alpha=widen_alpha,
            share=share_of(backup or "mixed"),
        ),
        name="mcts",
        seed=seed,
        rollouts=rollouts,
        depth=depth,
        bounds=bounds,
    )


def _constant(uct_c: float | None, exploration_constant: float | None) -> float | None:
    given = [value for value in (uct_c, exploration_constant) if value is not None]
    if len(set(given)) > 1:
        raise UsageError(
            f"uct_c and exploration_constant are one thing, but came as {uct_c} and "
            f"{exploration_constant}; give one."
        )
    return given[0] if given else None
