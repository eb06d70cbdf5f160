"""The control of a search: programs in random order until the search's executions are used up."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from scillm.records import Json, Outcome

BASELINE = "baseline"
Try: TypeAlias = "Callable[[str, Sequence[int]], Awaitable[Outcome]]"
"""Runs these cases of one arm; its detail has `cases`, its cost `executions`."""


async def uniform(
    arms: Sequence[str],
    run: Try,
    commit: Callable[[Mapping[str, Json]], None],
    *,
    seed: str,
    executions: int,
    cases: int,
) -> Mapping[str, Json]:
    """What picking programs blindly gives for the same number of executions.

    An arm that the budget cuts off in the middle is shown, but has no score.
    """
    order = list(arms)
    random.Random(seed).shuffle(order)  # noqa: S311  (an order, not a secret)
    spent, best, best_score = 0, None, None
    curve: list[list[Json]] = []
    for number, arm in enumerate(order):
        room = executions - spent
        if room <= 0:
            break
        outcome = await run(arm, range(min(cases, room)))
        spent += int(outcome.cost.get("executions", 0))
        score = outcome.score if room >= cases or outcome.score is None else None
        detail = outcome.detail if isinstance(outcome.detail, Mapping) else {}
        commit(
            {
                "kind": "trial",
                "phase": BASELINE,
                "number": number,
                "arm": arm,
                "status": outcome.status,
                "score": score,
                "cost": dict(outcome.cost),
                **detail,
            }
        )
        if score is not None and (best_score is None or score > best_score):
            best, best_score = arm, score
        curve.append([spent, best_score])
    return {
        "strategy": "uniform, whole programs",
        "executions": spent,
        "trials": len(curve),
        "best": best,
        "best_score": best_score,
        "curve": curve,
    }
