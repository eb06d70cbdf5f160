"""Wider or deeper by Thompson sampling: the rule of AB-MCTS-A (arXiv 2503.04412)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import define

from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.bandits import Thompson, whole
from scillm_codeworld.strategies.book import Tally
from scillm_codeworld.strategies.widening import Refinements

if TYPE_CHECKING:
    from scillm_codeworld.strategies.book import Scale
    from scillm_codeworld.strategies.widening import Sprout


@define(kw_only=True)
class WiderOrDeeper:
    """Thompson sampling between a new child and the children there are.

    Every mean has a normal-inverse-gamma posterior on the unit scale; the prior is centred on 0.5
    with the weight of one observation.
    """

    spread: float = 0.1
    """Rate of the inverse-gamma prior of the variance; its shape is 1."""

    def __call__(
        self, node: Sprout, live: Sequence[Sprout], scale: Scale, seed: int, number: int, /
    ) -> Sprout | None:
        """Draw for widening, for deepening, then for each child; the highest draw is chosen."""
        if not live:
            return None
        luck = draws.stream(seed, number, node.arm, "posteriors")
        below = Tally()
        for child in live:
            below.merge(child)
        if self._draw(node.born, scale, luck) > self._draw(below, scale, luck):
            return None
        drawn = [(self._draw(child, scale, luck), -place) for place, child in enumerate(live)]
        return live[-max(drawn)[1]]

    def _draw(self, tally: Tally, scale: Scale, luck: draws.Stream) -> float:
        pulls = tally.pulls
        mean = scale.unit(tally.mean(scale.floor)) if pulls else 0.5
        spread = tally.deviation(scale.floor)
        squares = spread / scale.span / scale.span if scale.span > 0 else 0.0
        weight, shape = 1.0 + pulls, 1.0 + pulls / 2
        centre = (0.5 + pulls * mean) / weight
        rate = self.spread + squares / 2 + pulls * (mean - 0.5) ** 2 / (2 * weight)
        precision = luck.gammavariate(shape, 1.0 / rate)
        return luck.gauss(centre, (1.0 / (weight * max(precision, 1e-12))) ** 0.5)


class FixedThompson(Thompson):
    """Thompson sampling, as which `ab` reports itself where nothing can be made."""

    name = "ab"


def ab(
    arms: Sequence[str],
    *,
    seed: int = 0,
    rollouts: int = 64,
    depth: int = 8,
    generate: bool = False,
    cases: int | None = 1,
    kind: str = "run",
    bounds: Sequence[float] | None = None,
) -> Refinements | Thompson:
    """Wider or deeper with `generate`; without it nothing can be made, and it is `thompson`."""
    if not generate:
        return FixedThompson(
            arms, seed=seed, rollouts=rollouts, cases=cases, kind=kind, bounds=bounds
        )
    whole(cases, kind)
    return Refinements(
        arms,
        rule=WiderOrDeeper(),
        name="ab",
        seed=seed,
        rollouts=rollouts,
        depth=depth,
        bounds=bounds,
    )
