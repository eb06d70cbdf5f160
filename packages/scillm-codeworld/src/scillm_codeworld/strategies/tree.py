"""UCT over fixed arms: flat, or a tree given by the parts of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field

from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.book import (
    Book,
    Tally,
    at_least,
    distinct,
    findings,
    scale_of,
)
from scillm_codeworld.strategies.pulls import Pulls
from scillm_codeworld.strategies.uct import Edge, best_children, open_children, share_of

if TYPE_CHECKING:
    from scillm.records import Json, Outcome, Trial


@define(kw_only=True)
class Node(Edge):
    """A prefix of arm names. Remembers its children, or the arm it stands for."""

    path: str = ""
    children: list[Node] = field(factory=list)
    arm: str | None = None


Path: TypeAlias = list[Node]


class Uct:
    """Upper confidence bounds applied to a tree whose leaves are `arms`. Remembers the tree.

    `separator` cuts names into levels (`"a/b"` is below `"a"`); empty means one level: UCB. An arm
    can be pulled `cases` times (None: for ever); what is exhausted leaves the selection, so that no
    pull is made twice. Unvisited children come first and ties are drawn, both from `seed`.
    """

    def __init__(
        self,
        arms: Sequence[str],
        *,
        seed: int = 0,
        rollouts: int = 64,
        c: float = 0.35,
        cases: int | None = 1,
        kind: str = "run",
        bounds: Sequence[float] | None = None,
        backup: str = "mean",
        separator: str = "",
        name: str = "mcts",
    ) -> None:
        at_least(1, rollouts=rollouts)
        at_least(0, c=c)
        self._arms = distinct(arms)
        self._pulls = Pulls(cases=cases, kind=kind)
        self._scale = scale_of(bounds)
        self._book: Book[Path] = Book(rollouts=rollouts)
        self._seed, self._c, self._share, self._name = seed, c, share_of(backup), name
        self._tallies = {arm: Tally() for arm in self._arms}
        self._root = _grown(self._arms, separator, self._pulls.each)

    def ask(self) -> Trial | None:
        """The pull that the bounds point to, or None."""
        if not self._book.has_room() or self._root.left <= 0:
            return None
        path = self._descend()
        arm = path[-1].arm
        assert arm is not None
        for node in path:
            node.pending += 1
            node.left -= 1
        self._tallies[arm].pending += 1
        return self._book.begin(self._pulls.trial(self._book.asked, arm), path)

    def _descend(self) -> Path:
        node, path = self._root, [self._root]
        while node.arm is None:
            choices = open_children(node.children)
            visits = node.scored + node.failed + node.pending
            if len(choices) > 1 and not _unvisited(choices[0]):
                prior = node.mean(self._scale.floor)
                choices = best_children(
                    choices,
                    visits=visits,
                    c=self._c,
                    scale=self._scale,
                    share=self._share,
                    prior=prior,
                )
            node = draws.pick(choices, self._seed, node.path, visits, "child")
            path.append(node)
        return path

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Back the score up along the path that was asked; a withdrawn pull is given back."""
        path = self._book.end(trial, outcome)
        tally = self._tallies[trial.arm]
        tally.pending -= 1
        for node in path:
            node.pending -= 1
        if outcome.withdrawn:
            self._pulls.give_back(trial)
            for node in path:
                node.left += 1
            return
        if outcome.score is not None:
            self._scale.see(outcome.score)
        tally.take(outcome.score)
        for node in path:
            node.take(outcome.score)

    def report(self) -> Mapping[str, Json]:
        """`best`, `best_score`, `ties`, counts and every arm's tally."""
        return {
            "strategy": self._name,
            "seed": self._seed,
            "exhausted": self._root.left <= 0,
            **findings(self._book, self._tallies, self._scale, cases=self._pulls.cases),
        }


def _unvisited(node: Node) -> bool:
    return not (node.scored or node.failed or node.pending)


def _grown(arms: Sequence[str], separator: str, pulls: float) -> Node:
    root = Node(left=0)
    below: dict[tuple[str, ...], Node] = {(): root}
    for arm in arms:
        parts = tuple(arm.split(separator)) if separator else (arm,)
        root.left += pulls
        node = root
        for depth in range(1, len(parts) + 1):
            # A leaf is keyed apart from an inner node: "a" and "a/b" may both be arms.
            leaf = depth == len(parts)
            key = (*parts[:depth], "") if leaf else parts[:depth]
            child = below.get(key)
            if child is None:
                child = Node(left=0, path=separator.join(key), arm=arm if leaf else None)
                below[key] = child
                node.children.append(child)
            child.left += pulls
            node = child
    return root
