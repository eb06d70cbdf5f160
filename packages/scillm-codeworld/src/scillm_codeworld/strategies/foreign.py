"""The door to `treequest` (extra `treequest`): its searches, to compare ours with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from attrs import frozen
from scillm.errors import PluginLoadError, UsageError

from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.family import Family

if TYPE_CHECKING:
    from scillm.records import Json, Outcome, Trial

ALGORITHMS = ("ab", "mcts")
ACTION = "make"


@frozen(kw_only=True)
class Foreign:
    """A treequest algorithm and numpy, whose global dice it throws."""

    algorithm: Any
    numpy: Any

    @contextmanager
    def dice(self, seed: int, number: int) -> Iterator[None]:
        """Numpy's global generator is a function of (seed, number) inside, and untouched after."""
        before = self.numpy.random.get_state()
        self.numpy.random.seed(draws.number(seed, number, "treequest") % 2**32)
        try:
            yield
        finally:
            self.numpy.random.set_state(before)


def _opened(algorithm: str) -> Foreign:
    if algorithm not in ALGORITHMS:
        raise UsageError(f"algorithm must be one of {', '.join(ALGORITHMS)}, but is {algorithm!r}.")
    try:
        numpy, treequest = import_module("numpy"), import_module("treequest")
    except ImportError as missing:
        raise PluginLoadError(
            "The strategy treequest needs the treequest package and Python 3.11 or newer: "
            f"pip install 'scillm-codeworld[treequest]' ({missing})."
        ) from missing
    made = treequest.ABMCTSA() if algorithm == "ab" else treequest.StandardMCTS()
    return Foreign(algorithm=made, numpy=numpy)


class TreeQuest:
    """treequest's AB-MCTS-A (`ab`) or StandardMCTS (`mcts`) behind our protocol.

    Remembers treequest's state. It can only make arms: the given ones answer its first expansions,
    and without `generate` nothing follows. It wants scores in [0, 1]: they are scaled from
    `bounds`, or squashed by the arc tangent when none are declared; a failure counts 0. It cannot
    take a trial back; one that is withdrawn stays open in it, and another is asked.
    """

    def __init__(
        self,
        arms: Sequence[str],
        *,
        seed: int = 0,
        rollouts: int = 64,
        algorithm: str = "ab",
        generate: bool = False,
        bounds: Sequence[float] | None = None,
    ) -> None:
        self._foreign = _opened(algorithm)
        self._family: Family[str] = Family(arms, seed=seed, rollouts=rollouts, bounds=bounds)
        self._algorithm, self._generate = algorithm, generate
        self._state = self._foreign.algorithm.init_tree()

    def ask(self) -> Trial | None:
        """What treequest wants expanded; None when the rollouts or the given arms are used up."""
        family = self._family
        if not family.book.has_room() or not (family.waiting or self._generate):
            return None
        with self._foreign.dice(family.seed, family.book.asked):
            self._state, wanted = self._foreign.algorithm.ask(self._state, [ACTION])
        if family.waiting:
            return family.ask_given(wanted.trial_id)
        return family.ask_new(wanted.parent_state, None, wanted.trial_id)

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Pass the scaled score on."""
        trial_id, name = self._family.settle(trial, outcome)
        if name is None:
            return
        score = 0.0 if outcome.score is None else self._unit(outcome.score)
        with self._foreign.dice(self._family.seed, -1 - trial.number):
            self._state = self._foreign.algorithm.tell(self._state, trial_id, (name, score))

    def _unit(self, score: float) -> float:
        if self._family.scale.declared:
            return self._family.scale.unit(score)
        return 0.5 + math.atan(score) / math.pi

    def report(self) -> Mapping[str, Json]:
        """As the family's, with the algorithm and how many scores treequest took up."""
        pairs = self._foreign.algorithm.get_state_score_pairs(self._state)
        return self._family.report("treequest", algorithm=self._algorithm, taken_up=len(pairs))
