"""The arms of an item's search: its programs by their code, and what was tried of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from scillm.errors import UsageError
from scillm.records import Outcome
from scillm.runs.canonical import digest

from scillm_codeworld.engine.bench import PULL
from scillm_codeworld.engine.choosing import CASE, RUN, TIMING
from scillm_codeworld.engine.making import made_for
from scillm_codeworld.engine.outcomes import outcome_of, speed_of
from scillm_codeworld.engine.trying import Tried, timed, tried
from scillm_codeworld.records import NOT_RUN, SANDBOX_REFUSED, Variant

if TYPE_CHECKING:
    from scillm.records import Json, Trial

    from scillm_codeworld.engine.bench import Bench
    from scillm_codeworld.engine.making import Made, Make
    from scillm_codeworld.options import Options
    from scillm_codeworld.record.watched import Watched
    from scillm_codeworld.records import Item


class Arms:
    """Carries trials out. Remembers each program's cases and timed repeats, by arm.

    Of a program that several trials made it remembers the first of them.
    """

    def __init__(
        self, item: Item, options: Options, *, bench: Bench, make: Make | None = None
    ) -> None:
        self._item = item
        self._options = options
        self._bench = bench
        self._make = make
        self._variants = {variant.id: variant for variant in item.variants}
        self._ids = ids_by_arm(item.variants)
        self._made: dict[str, int] = {}
        self.cases: dict[str, dict[int, Tried]] = {arm: {} for arm in self._ids}
        self.repeats: dict[str, dict[int, list[Tried]]] = {}

    @property
    def variants(self) -> dict[str, list[Variant]]:
        """All programs, by arm: the given ones, then those made, by the number of their trial.

        Who was made first depends on the clock, whose trial has the lower number does not.
        """
        made = sorted(self._made, key=self._made.__getitem__)
        order = [*(arm for arm in self._ids if arm not in self._made), *made]
        return {arm: [self._variants[name] for name in self._ids[arm]] for arm in order}

    async def outcome(self, trial: Trial, watched: Watched) -> Outcome:
        """What comes of `trial`, in executions that `watched` charges it with."""
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
        told = await self.trying(trial.arm, cases, charged=watched.charge_of(trial.number))
        if trial.kind != TIMING:
            return told
        return await self._time(trial.arm, told, repeat=watched.repeat_of(trial.number))

    async def trying(
        self, arm: str, cases: Sequence[int], *, charged: frozenset[int] | None = None
    ) -> Outcome:
        """Run these cases of `arm`; all of them are charged where nothing else is said."""
        found = await tried(self._bench, self._item, self._variants[arm], cases, self._options)
        known = self.cases[arm]
        for row in found:
            if row.run.status != NOT_RUN or row.case not in known:
                known[row.case] = row
        return await self._told(arm, found, charged=charged)

    async def blindly(self, arm: str, cases: Sequence[int]) -> Outcome:
        """As `trying`, but nothing of it is remembered."""
        found = await tried(self._bench, self._item, self._variants[arm], cases, self._options)
        return await self._told(arm, found)

    async def _told(
        self, arm: str, found: Sequence[Tried], *, charged: frozenset[int] | None = None
    ) -> Outcome:
        return await outcome_of(
            self._bench, self._item, self._variants[arm], found, self._options, charged=charged
        )

    async def _time(self, arm: str, told: Outcome, *, repeat: int) -> Outcome:
        """One more repeat of a program that is right in every case; no other is timed."""
        item, options, variant = self._item, self._options, self._variants[arm]
        found = [self.cases[arm][case] for case in range(len(item.inputs))]
        wrong = sum(row.fault is not None for row in found)
        if told.score is None or wrong:
            reason = told.reason or f"wrong in {wrong} of {len(found)} cases, so it is not timed"
            return evolve(told, score=None, reason=reason)
        spent = told.cost["executions"]
        if any(row.run.fuel is None for row in found):
            found = await timed(self._bench, item, variant, options, repeat=repeat, purpose=PULL)
            spent += len(found)
            if all(row.run.status != SANDBOX_REFUSED for row in found):
                self.repeats.setdefault(arm, {})[repeat] = found
        outcome = await speed_of(self._bench, item, told, found, options)
        return evolve(outcome, cost={"executions": spent})

    async def _grow(self, trial: Trial, watched: Watched) -> Outcome:
        known = {arm: list(cases.values()) for arm, cases in self.cases.items()}
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
        arm = self._take_in(made.variant, trial.number)
        cases = range(len(self._item.inputs))
        tried_so = await self.trying(arm, cases, charged=watched.charge_of_made(arm))
        return evolve(
            tried_so,
            arm=arm,
            cost={**made.cost, **tried_so.cost},
            detail={**tried_so.detail, "made_from": source},
        )

    def _take_in(self, variant: Variant, number: int) -> str:
        """The arm that `variant` is: one that has its code, or a new one."""
        same = [
            arm
            for arm in self._ids
            if self._variants[arm].code == variant.code
            and self._variants[arm].language == variant.language
        ]
        arm = same[0] if same else digest(variant.code)
        if arm not in self._ids or number < self._made.get(arm, 0):
            self._made[arm], self._variants[arm] = number, variant
        self._ids.setdefault(arm, [arm])
        self.cases.setdefault(arm, {})
        return arm

    async def _making(
        self, item: Item, trial: Trial, known: Mapping[str, Sequence[Tried]], /
    ) -> Made:
        assert self._make is not None
        self._bench.fresh = True
        return await self._make(item, trial, known)


def ids_by_arm(variants: Sequence[Variant]) -> dict[str, list[str]]:
    """Programs with distinct code: the id of the first variant that has it → all that have it."""
    by_code: dict[tuple[str, str], list[str]] = {}
    for variant in variants:
        by_code.setdefault((variant.language, variant.code), []).append(variant.id)
    return {ids[0]: ids for ids in by_code.values()}


def identity(item: Item) -> Json:
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
