"""One item from search to traces: the search, its control, then the closer look."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from scillm.errors import UsageError
from scillm.records import Outcome
from scillm.runs.canonical import digest
from scillm.search import search

from scillm_codeworld.engine.bench import PULL
from scillm_codeworld.engine.choosing import CASE, RUN, TIMING, strategy_for
from scillm_codeworld.engine.control import uniform
from scillm_codeworld.engine.deadline import Deadline
from scillm_codeworld.engine.making import made_for
from scillm_codeworld.engine.outcomes import outcome_of, speed_of
from scillm_codeworld.engine.tracing import traces_of
from scillm_codeworld.engine.trying import Tried, timed, tried
from scillm_codeworld.record.watched import Watched
from scillm_codeworld.records import EVERYTHING, NOT_RUN, SANDBOX_REFUSED, Trace, Variant

if TYPE_CHECKING:
    from scillm.events import Event
    from scillm.records import Json, Trial
    from scillm.search import SearchResult

    from scillm_codeworld.engine.bench import Bench
    from scillm_codeworld.engine.choosing import Find
    from scillm_codeworld.engine.making import Made, Make
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
    """The work on one item. Remembers each program's cases and timed repeats, by arm.

    Of a program that several trials made it remembers the first of them.
    """

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
        self._make = make
        self._variants = {variant.id: variant for variant in item.variants}
        self._arms = arms_of(item.variants)
        self._cases: dict[str, dict[int, Tried]] = {arm: {} for arm in self._arms}
        self._repeats: dict[str, dict[int, list[Tried]]] = {}
        self._made: dict[str, int] = {}

    async def run(self) -> ItemFound:
        """Search, control, confirm, then look closer; every step stands in the record."""
        item, options = self._item, self._options
        order = list(self._arms)
        random.Random(f"{self._seed}/{item.id}").shuffle(order)  # noqa: S311  (not a secret)
        told = strategy_for(
            item,
            order,
            options,
            seed=self._seed,
            find=self._find,
            grows=self._make is not None,
        )
        self._row({"kind": "item", "index": item.index, "digest": digest(_identity(item)),
                   "arms": {arm: [digest(self._variants[arm].code), *ids]
                            for arm, ids in self._arms.items()}})  # fmt: skip
        watched = Watched(told, self._row, cases=len(item.inputs))

        async def evaluate(trial: Trial) -> Outcome:
            return await self._evaluate(trial, watched)

        result = await search(
            watched,
            evaluate,
            width=options.width,
            workers=min(options.width, options.workers),
            budget=evolve(options.bounds, withdrawn=len(self._arms)),
            emit=self._emit,
            clock=Deadline(
                options.bounds.seconds,
                self._bench.record,
                item=item.id,
                told=lambda: len(watched.rows),
                fresh=lambda: self._bench.fresh,
            ),
        )
        # Who was made first depends on the clock, whose trial has the lower number does not.
        given = {arm: ids for arm, ids in self._arms.items() if arm not in self._made}
        in_order = sorted(self._made, key=self._made.__getitem__)
        self._arms = {**given, **{arm: [arm] for arm in in_order}}
        found = self._told(result, watched)
        self._row({"kind": "searched", **{key: found[key] for key in ("stopped", "spent", "best")},
                   "report": dict(result.report)})  # fmt: skip
        found["baseline"] = await self._baseline(result)
        found["confirmed"] = await self._confirm(found["best"])
        traces = await traces_of(
            item,
            {arm: self._by_variant(arm) for arm in self._arms},
            {arm: list(cases.values()) for arm, cases in self._cases.items()},
            {
                arm: [found for _, found in sorted(repeats.items())]
                for arm, repeats in self._repeats.items()
            },
            options,
            bench=self._bench,
            commit=self._row,
        )
        return ItemFound(item=item, traces=traces, search=found)

    def _row(self, row: Mapping[str, Json]) -> None:
        self._commit({**row, "item": self._item.id})

    def _by_variant(self, arm: str) -> list[Variant]:
        return [self._variants[name] for name in self._arms[arm]]

    async def _evaluate(self, trial: Trial, watched: Watched) -> Outcome:
        if trial.new:
            return await self._grow(trial, watched)
        if trial.kind not in (RUN, CASE, TIMING):
            raise UsageError(
                f"The strategy {self._options.strategy!r} asks for a {trial.kind!r} pull; here are "
                "run, case, timing and generate."
            )
        cases: Sequence[int] = range(len(self._item.inputs))
        if trial.kind == CASE:
            cases = [int(trial.payload["case"])]
        told = await self._try(trial.arm, cases, charged=watched.charge_of(trial.number))
        if trial.kind != TIMING:
            return told
        return await self._time(trial.arm, told, repeat=watched.repeat_of(trial.number))

    async def _time(self, arm: str, told: Outcome, *, repeat: int) -> Outcome:
        """One more repeat of a program that is right in every case; no other is timed."""
        item, options, variant = self._item, self._options, self._variants[arm]
        found = [self._cases[arm][case] for case in range(len(item.inputs))]
        wrong = sum(row.fault is not None for row in found)
        if told.score is None or wrong:
            reason = told.reason or f"wrong in {wrong} of {len(found)} cases, so it is not timed"
            return evolve(told, score=None, reason=reason)
        spent = told.cost["executions"]
        if any(row.run.fuel is None for row in found):
            found = await timed(self._bench, item, variant, options, repeat=repeat, purpose=PULL)
            spent += len(found)
            if all(row.run.status != SANDBOX_REFUSED for row in found):
                self._repeats.setdefault(arm, {})[repeat] = found
        outcome = await speed_of(self._bench, item, told, found, options)
        return evolve(outcome, cost={"executions": spent})

    async def _try(
        self, arm: str, cases: Sequence[int], *, charged: frozenset[int] | None = None
    ) -> Outcome:
        found = await tried(self._bench, self._item, self._variants[arm], cases, self._options)
        known = self._cases[arm]
        for row in found:
            if row.run.status != NOT_RUN or row.case not in known:
                known[row.case] = row
        return await outcome_of(
            self._bench, self._item, self._variants[arm], found, self._options, charged=charged
        )

    async def _grow(self, trial: Trial, watched: Watched) -> Outcome:
        known = {arm: list(cases.values()) for arm, cases in self._cases.items()}
        made, source = await made_for(
            None if self._make is None else self._making,
            evolve(self._item, variants=list(self._variants.values())),
            trial,
            known,
            record=self._bench.record,
            strategy=self._options.strategy,
        )
        if made.variant is None:
            return Outcome(
                score=None,
                status=NOT_RUN,
                reason=made.reason,
                cost=made.cost,
                detail={"cases": [], "made_from": source},
            )
        code = made.variant.code
        known_as = (name for name in self._arms if self._variants[name].code == code)
        arm = next(known_as, digest(code))
        if arm not in self._arms or trial.number < self._made.get(arm, 0):
            self._made[arm], self._variants[arm] = trial.number, made.variant
        self._arms.setdefault(arm, [arm])
        self._cases.setdefault(arm, {})
        cases = range(len(self._item.inputs))
        tried_so = await self._try(arm, cases, charged=watched.charge_of_made(arm))
        return evolve(
            tried_so,
            arm=arm,
            cost={**made.cost, **tried_so.cost},
            detail={**tried_so.detail, "made_from": source},
        )

    async def _making(
        self, item: Item, trial: Trial, known: Mapping[str, Sequence[Tried]], /
    ) -> Made:
        assert self._make is not None
        self._bench.fresh = True
        return await self._make(item, trial, known)

    async def _baseline(self, result: SearchResult) -> Mapping[str, Json] | None:
        """The same number of executions, spent blindly; it teaches the search nothing."""
        beyond = any(trial.new or trial.kind == TIMING for trial, _ in result.trials)
        if self._options.strategy in EVERYTHING or beyond:
            return None
        own, self._cases = self._cases, {arm: {} for arm in self._arms}
        try:
            return await uniform(
                list(self._arms),
                self._try,
                self._row,
                seed=f"{self._seed}/{self._item.id}/baseline",
                executions=int(result.spent["executions"]),
                cases=len(self._item.inputs),
            )
        finally:
            self._cases = own

    async def _confirm(self, best: str | None) -> int:
        """Run what is left of the best program's cases; how many that were."""
        if best is None or best not in self._cases:
            return 0
        known = self._cases[best]
        left = [case for case in range(len(self._item.inputs)) if case not in known]
        if left:
            outcome = await self._try(best, left)
            self._row({"kind": "trial", "phase": CONFIRM, "arm": best, **outcome.detail})
        return len(left)

    def _told(self, result: SearchResult, watched: Watched) -> dict[str, Json]:
        """The search as a result shows it."""
        spent, best, curve = 0.0, None, []
        for _, outcome in result.trials:
            spent += outcome.cost.get("executions", 0.0)
            if outcome.score is not None and (best is None or outcome.score > best):
                best = outcome.score
            curve.append([int(spent), best])
        exhaustive = len(self._item.inputs) * len(self._arms)
        return {
            "strategy": self._options.strategy,
            "params": dict(self._options.params),
            "seed": self._seed,
            "width": self._options.width,
            "trials": list(watched.rows),
            "stopped": result.stopped,
            "spent": dict(result.spent),
            "exhaustive_executions": exhaustive,
            "best": result.report.get("best"),
            "best_score": result.report.get("best_score"),
            "report": dict(result.report),
            "curve": curve,
        }


def arms_of(variants: Sequence[Variant]) -> dict[str, list[str]]:
    """Programs with distinct code: the id of the first variant that has it → all that have it."""
    by_code: dict[tuple[str, str], list[str]] = {}
    for variant in variants:
        by_code.setdefault((variant.language, variant.code), []).append(variant.id)
    return {ids[0]: ids for ids in by_code.values()}


def _identity(item: Item) -> Json:
    """What makes an item this item: everything it was given."""
    return {
        "task": item.task,
        "variants": [[row.id, row.language, digest(row.code)] for row in item.variants],
        "context": digest(dict(item.context)),
        "entry": item.entry,
        "comparison": item.comparison,
        "check": item.check,
        "scoring": None if item.scoring is None else item.scoring.code,
        "tolerance": None
        if item.tolerance is None
        else [item.tolerance.relative, item.tolerance.absolute],
    }
