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
    from scillm_codeworld.engine.bench import Bench
    from scillm_codeworld.engine.trying import Tried
    from scillm_codeworld.options import Options
    from scillm_codeworld.records import Item, Variant


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
    runs = [row.run for row in found]
    custom, problem = await scores_of(bench, item, runs, options.limits, wall_s=())
    if problem:
        return evolve(told, status=SCORE_INVALID, reason=problem)
    return evolve(told, score=right * custom[AGGREGATE])
