"""What it costs to choose among many deployments, nothing being asked."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from peers import KEY, LITELLM, MESSAGES, made_litellm_router, missing
from scillm.resilience.health import Health
from scillm.routing.choose import STRATEGIES
from scillm.routing.deployment import read_model_list
from scillm.routing.legs import Board, GroupLegs, Leg, groups_of
from scillm.routing.load import Load

if TYPE_CHECKING:
    from scillm.routing.deployment import Deployment

BASE = "http://127.0.0.1:9/v1"
"""Nobody is asked."""


def choosers(deployments: int) -> dict[str, Callable[[], object]]:
    """For each client and strategy, what makes one choice."""
    found = {f"scillm, {name}": _scillm(deployments, name) for name in STRATEGIES}
    if not missing(LITELLM):
        router = made_litellm_router(BASE, deployments=deployments)
        found[f"{LITELLM}, simple-shuffle"] = lambda: router.get_available_deployment(
            model="bench", messages=MESSAGES
        )
    return found


def _scillm(count: int, strategy: str) -> Callable[[], object]:
    params = {"model": "openai/bench", "api_base": BASE, "api_key": KEY}
    rows = [
        {"model_name": "bench", "litellm_params": params, "model_info": {"id": f"d{number}"}}
        for number in range(count)
    ]
    deployments = read_model_list(rows)
    board = Board(
        health=Health(),
        load=Load(count),
        strategy=strategy,
        buffer=0.0,
        clock=time.monotonic,
        draw=random.random,
    )
    group = groups_of(deployments, board)["bench"]

    def leg_for(row: Deployment, position: int) -> Leg:
        return Leg(endpoint=None, request=None, provider=None, deployment=row, position=position)  # type: ignore[arg-type] - nobody is asked, so there is nothing to fill in

    def choose() -> object:
        return GroupLegs(group, group.levels(()), leg_for, streamed=False).next(set())

    return choose


def seconds(choose: Callable[[], object], times: int) -> float:
    """Median seconds of one choice."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        chosen = choose()
        spent.append(time.perf_counter() - start)
        assert chosen is not None
    return statistics.median(spent)
