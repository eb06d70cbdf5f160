"""A tree of refinements: every arm may be refined, and a rule says where to widen or deepen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from attrs import define, field

from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.book import Tally, at_least
from scillm_codeworld.strategies.family import Family
from scillm_codeworld.strategies.uct import Edge, best_children

if TYPE_CHECKING:
    from scillm.records import Json, Outcome, Trial

    from scillm_codeworld.strategies.book import Scale


@define(kw_only=True)
class Sprout(Edge):
    """An arm in the tree. Remembers its children, and what was made directly from it.

    The inherited tally counts the arm's own score and all below it; `born` counts the scores of its
    direct children when they were made, with those now being made as pending.
    """

    arm: str | None
    generation: int
    children: list[Sprout] = field(factory=list)
    born: Tally = field(factory=Tally)

    def holds(self, other: Sprout) -> bool:
        """Whether `other` is this node or below it."""
        seen, waiting = {id(self)}, [self]
        while waiting:
            node = waiting.pop()
            if node is other:
                return True
            fresh = [child for child in node.children if id(child) not in seen]
            seen.update(map(id, fresh))
            waiting += fresh
        return False


Path: TypeAlias = list[Sprout]


class Rule(Protocol):
    """Decides at one node."""

    def __call__(
        self, node: Sprout, live: Sequence[Sprout], scale: Scale, seed: int, number: int, /
    ) -> Sprout | None:
        """One of the `live` children to look into, or None to make a new one here."""
        ...


class Refinements:
    """Runs the given arms, then grows a tree below them by `rule`. Remembers the tree.

    `depth` is the most generations of refinement: an arm of that generation is not refined, and 0
    asks for fresh drafts only. A refinement that gives back known code joins that arm's node,
    unless this would close a circle, and is counted on both edges.
    """

    def __init__(
        self,
        arms: Sequence[str],
        *,
        rule: Rule,
        name: str,
        seed: int = 0,
        rollouts: int = 64,
        depth: int = 8,
        bounds: Sequence[float] | None = None,
    ) -> None:
        at_least(0, depth=depth)
        self._family: Family[Path] = Family(arms, seed=seed, rollouts=rollouts, bounds=bounds)
        self._root = Sprout(arm=None, generation=-1)
        self._nodes: dict[str, Sprout] = {}
        self._rule, self._name, self._depth = rule, name, depth

    def ask(self) -> Trial | None:
        """A given arm, a fresh draft, or a refinement; None when the rollouts are used up."""
        family = self._family
        if not family.book.has_room():
            return None
        path = [self._root]
        if not family.waiting:
            path = self._descend()
        for node in path:
            node.pending += 1
        path[-1].born.pending += 1
        if family.waiting:
            return family.ask_given(path)
        return family.ask_new(path[-1].arm, None, path)

    def _descend(self) -> Path:
        node, path = self._root, [self._root]
        while True:
            live = [child for child in node.children if child.left > 0]
            family = self._family
            chosen = self._rule(node, live, family.scale, family.seed, family.book.asked)
            if chosen is None:
                return path
            node = chosen
            path.append(node)

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Put the arm into the tree and back its score up along the path that was asked."""
        path, name = self._family.settle(trial, outcome)
        for node in path:
            node.pending -= 1
        path[-1].born.pending -= 1
        if name is None:
            return
        path[-1].born.take(outcome.score)
        for node in [*path, *self._child(path[-1], name)]:
            node.take(outcome.score)

    def _child(self, parent: Sprout, name: str) -> list[Sprout]:
        node = self._nodes.get(name)
        if node is None:
            generation = parent.generation + 1
            node = Sprout(arm=name, generation=generation, left=self._depth - generation)
            self._nodes[name] = node
        elif node.holds(parent):
            return []
        if node not in parent.children:
            parent.children.append(node)
        return [node]

    def report(self) -> Mapping[str, Json]:
        """As the family's, with the `depth` asked for and the deepest generation `reached`."""
        reached = max((node.generation for node in self._nodes.values()), default=0)
        return self._family.report(self._name, depth=self._depth, reached=reached)


@define(kw_only=True)
class Widen:
    """UCT with progressive widening: a node makes at most `k * visits ** alpha` children.

    `c` is in units of the range of scores, `share` of the highest score goes into a value.
    """

    c: float
    k: float
    alpha: float
    share: float

    def __call__(
        self, node: Sprout, live: Sequence[Sprout], scale: Scale, seed: int, number: int, /
    ) -> Sprout | None:
        """Widen while there is room for a child; else the child with the highest bound."""
        visits = node.scored + node.failed + node.pending
        # Births and not children: a generator that repeats itself must not widen for ever.
        births = node.born.pulls + node.born.pending
        if not live or births < self.k * max(visits, 1) ** self.alpha:
            return None
        best = best_children(
            live,
            visits=visits,
            c=self.c,
            scale=scale,
            share=self.share,
            prior=node.mean(scale.floor),
        )
        return draws.pick(best, seed, number, node.arm, "tie")
