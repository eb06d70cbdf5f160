"""One item from search to traces: the search, its control, then the closer look."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from scillm.runs.canonical import digest
from scillm.search import search

from scillm_codeworld.engine.arms import Arms, identity
from scillm_codeworld.engine.choosing import TIMING, strategy_for
from scillm_codeworld.engine.control import uniform
from scillm_codeworld.engine.deadline import Deadline
from scillm_codeworld.engine.tracing import traces_of
from scillm_codeworld.record.watched import Watched
from scillm_codeworld.records import EVERYTHING, Trace

if TYPE_CHECKING:
    from scillm.events import Event
    from scillm.protocols import Strategy
    from scillm.records import Json, Outcome, Trial
    from scillm.search import SearchResult

    from scillm_codeworld.engine.bench import Bench
    from scillm_codeworld.engine.choosing import Find
    from scillm_codeworld.engine.making import Make
    from scillm_codeworld.options import Options
    from scillm_codeworld.records import Item

CONFIRM = "confirm"


@frozen(kw_only=True)
class ItemFound:
    """What became of one item: every variant's trace, the search and its control."""

    item: Item
    traces: Mapping[str, Trace]
    search: Mapping[str, Json]


class ItemRun:
    """The work on one item. Its arms remember what was found of its programs."""

    def __init__(
        self,
        item: Item,
        options: Options,
        *,
        seed: int,
        bench: Bench,
        commit: Callable[[Mapping[str, Json]], None],
        emit: Callable[[Event], None],
        find: Find,
        make: Make | None = None,
    ) -> None:
        self._item = item
        self._options = options
        self._seed = seed
        self._bench = bench
        self._commit = commit
        self._emit = emit
        self._find = find
        self._grows = make is not None
        self._arms = Arms(item, options, bench=bench, make=make)

    async def run(self) -> ItemFound:
        """Search, control, confirm, then look closer; every step stands in the record."""
        item, given = self._item, self._arms.variants
        strategy = self._strategy(list(given))
        self._row({"kind": "item", "index": item.index, "digest": digest(identity(item)),
                   "arms": {arm: [digest(rows[0].code), *(row.id for row in rows)]
                            for arm, rows in given.items()}})  # fmt: skip
        watched = Watched(strategy, self._row, cases=len(item.inputs))
        result = await self._searched(watched, withdrawn=len(given))
        found = account_of(
            result,
            watched.rows,
            self._options,
            seed=self._seed,
            exhaustive=len(item.inputs) * len(self._arms.variants),
        )
        self._row({"kind": "searched", **{key: found[key] for key in ("stopped", "spent", "best")},
                   "report": dict(result.report)})  # fmt: skip
        found["baseline"] = await self._baseline(result)
        found["confirmed"] = await self._confirm(found["best"])
        traces = await traces_of(
            item,
            self._arms.variants,
            {arm: list(cases.values()) for arm, cases in self._arms.cases.items()},
            {
                arm: [found for _, found in sorted(repeats.items())]
                for arm, repeats in self._arms.repeats.items()
            },
            self._options,
            bench=self._bench,
            commit=self._row,
        )
        return ItemFound(item=item, traces=traces, search=found)

    def _row(self, row: Mapping[str, Json]) -> None:
        self._commit({**row, "item": self._item.id})

    def _strategy(self, order: list[str]) -> Strategy:
        random.Random(f"{self._seed}/{self._item.id}").shuffle(order)  # noqa: S311  (not a secret)
        return strategy_for(
            self._item, order, self._options, seed=self._seed, find=self._find, grows=self._grows
        )

    async def _searched(self, watched: Watched, *, withdrawn: int) -> SearchResult:
        options = self._options

        async def evaluate(trial: Trial) -> Outcome:
            return await self._arms.outcome(trial, watched)

        return await search(
            watched,
            evaluate,
            width=options.width,
            workers=min(options.width, options.workers),
            budget=evolve(options.bounds, withdrawn=withdrawn),
            emit=self._emit,
            clock=Deadline(
                options.bounds.seconds,
                self._bench.record,
                item=self._item.id,
                told=lambda: len(watched.rows),
                fresh=lambda: self._bench.fresh,
            ),
        )

    async def _baseline(self, result: SearchResult) -> Mapping[str, Json] | None:
        """The same number of executions, spent blindly; it teaches the search nothing."""
        beyond = any(trial.new or trial.kind == TIMING for trial, _ in result.trials)
        if self._options.strategy in EVERYTHING or beyond:
            return None
        return await uniform(
            list(self._arms.variants),
            self._arms.blindly,
            self._row,
            seed=f"{self._seed}/{self._item.id}/baseline",
            executions=int(result.spent["executions"]),
            cases=len(self._item.inputs),
        )

    async def _confirm(self, best: str | None) -> int:
        """Run what is left of the best program's cases; how many that were."""
        if best is None or best not in self._arms.cases:
            return 0
        known = self._arms.cases[best]
        left = [case for case in range(len(self._item.inputs)) if case not in known]
        if left:
            outcome = await self._arms.trying(best, left)
            self._row({"kind": "trial", "phase": CONFIRM, "arm": best, **outcome.detail})
        return len(left)


def account_of(
    result: SearchResult,
    rows: Sequence[Mapping[str, Json]],
    options: Options,
    *,
    seed: int,
    exhaustive: int,
) -> dict[str, Json]:
    """The search as a result shows it; `rows` are its trials, `exhaustive` all executions."""
    spent, best, curve = 0.0, None, []
    for _, outcome in result.trials:
        spent += outcome.cost.get("executions", 0.0)
        if outcome.score is not None and (best is None or outcome.score > best):
            best = outcome.score
        curve.append([int(spent), best])
    return {
        "strategy": options.strategy,
        "params": dict(options.params),
        "seed": seed,
        "width": options.width,
        "trials": list(rows),
        "stopped": result.stopped,
        "spent": dict(result.spent),
        "exhaustive_executions": exhaustive,
        "best": result.report.get("best"),
        "best_score": result.report.get("best_score"),
        "report": dict(result.report),
        "curve": curve,
    }
