"""What a search is told of one trial: a score or why there is none, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from scillm.records import Outcome

from scillm_codeworld.engine.asking import scores_of
from scillm_codeworld.judge.measures import code_lines
from scillm_codeworld.judge.score import AGGREGATE
from scillm_codeworld.records import NOT_RUN, OK, SANDBOX_REFUSED, SCORE_INVALID

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codeworld.engine.bench import Bench
    from scillm_codeworld.engine.trying import Tried
    from scillm_codeworld.options import Options
    from scillm_codeworld.records import Item, Variant


FUEL_UNIT = 1e9
LEAST_S = 1e-9
"""No repeat is called faster than this."""


async def outcome_of(
    bench: Bench,
    item: Item,
    variant: Variant,
    found: Sequence[Tried],
    options: Options,
    *,
    charged: frozenset[int] | None = None,
) -> Outcome:
    """The share of right cases, times what the scorer gives if there is one.

    No score for a failure, which carries its status; a refusal of the sandbox is withdrawn. Only
    the cases in `charged` cost anything; None charges all that were run.
    """
    ran = [row for row in found if row.run.status not in (NOT_RUN, SANDBOX_REFUSED)]
    told = Outcome(
        score=None,
        detail={"cases": [row.row() for row in found]},
        cost={"executions": float(sum(charged is None or row.case in charged for row in ran))},
        features={
            "lines": float(code_lines(variant.code)),
            "signature": "".join(str(int(row.fault is None)) for row in found),
        },
    )
    bad = next((row.run for row in found if row.run.status != OK), None)
    if bad is not None:
        refused = bad.status == SANDBOX_REFUSED
        return evolve(told, status=bad.status, reason=bad.reason, withdrawn=refused)
    right = sum(row.fault is None for row in found) / len(found) if item.gated else 1.0
    if item.scoring is None:
        if not item.gated:
            return evolve(told, reason="the item expects no answers")
        return evolve(told, score=right)
    return await _scored(bench, item, told, found, options, wall_s=(), right=right)


async def speed_of(
    bench: Bench,
    item: Item,
    told: Outcome,
    found: Sequence[Tried],
    options: Options,
) -> Outcome:
    """What one repeat of all cases is worth: 1 / seconds, or what the scorer gives for its times.

    Where fuel is counted it is 1e9 / fuel. `told` is the outcome of the first runs; a repeat that
    goes wrong leaves no score of it.
    """
    walls = [row.run.wall_s or 0.0 for row in found]
    fuels = [row.run.fuel for row in found if row.run.fuel is not None]
    repeat: dict[str, Json] = {"timed": [row.row() for row in found]}
    if not fuels:  # what was measured is what the search acts on, so it stands in the record
        repeat["wall_s"] = walls
    told = evolve(told, score=None, detail={**told.detail, **repeat})
    bad = next((row for row in found if row.fault is not None), None)
    if bad is not None:
        refused = bad.run.status == SANDBOX_REFUSED
        reason = f"in a timing of case {bad.case + 1}: {bad.fault}"
        return evolve(told, status=bad.run.status, reason=reason, withdrawn=refused)
    if item.scoring is not None:
        return await _scored(bench, item, told, found, options, wall_s=walls, right=1.0)
    cost = sum(fuels) / FUEL_UNIT if fuels else sum(walls)
    return evolve(told, score=1.0 / max(cost, LEAST_S))


async def _scored(
    bench: Bench,
    item: Item,
    told: Outcome,
    found: Sequence[Tried],
    options: Options,
    *,
    wall_s: Sequence[float],
    right: float,
) -> Outcome:
    runs = [row.run for row in found]
    custom, problem = await scores_of(bench, item, runs, options.limits, wall_s=wall_s)
    if problem:
        return evolve(told, status=SCORE_INVALID, reason=problem)
    return evolve(told, score=right * custom[AGGREGATE])
