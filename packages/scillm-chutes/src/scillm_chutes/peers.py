"""Alternates for a model, and the `.env` and Router lines that use them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scillm_chutes.capability import EMBEDDING
from scillm_chutes.names import EXPERTS, SIZE, parsed

if TYPE_CHECKING:
    from scillm_chutes.records import Ranked

UNIT = {"b": 1.0, "t": 1000.0, "m": 0.001}


def size_b(model: str) -> float | None:
    """Billions of parameters that a name states (`8x7B` is 56); None where it states none."""
    for number in parsed(model).numbers:
        if number.role == SIZE:
            return float(number.value[:-1]) * UNIT[number.value[-1]]
        if number.role == EXPERTS and "x" in number.value:
            count, _, each = number.value[:-1].partition("x")
            return float(count) * float(each)
    return None


def peers(ranked: Sequence[Ranked], primary: str | None, *, most: int) -> list[str]:
    """The models nearest in size to `primary`, without it; without one the best ranked."""
    # A base model completes texts; as an alternate in a chat it would only disappoint.
    usable = [
        row
        for row in ranked
        if not row.left_out and row.id != primary and "base" not in parsed(row.id).words
    ]
    size = size_b(primary) if primary else None
    if size is not None:
        usable.sort(key=lambda row: _distance(row.id, size or 0.0))
    return [row.id for row in usable[:most]]


def env_lines(kind: str, primary: str, alternates: Sequence[str]) -> list[str]:
    """Lines for a `.env` file: the pinned model and two alternates at most."""
    name = f"CHUTES_{kind.upper()}_MODEL"
    names = [name, f"{name}_ALT1", f"{name}_ALT2"]
    return [
        f"{variable}={model}"
        for variable, model in zip(names, (primary, *alternates), strict=False)
    ]


def router_lines(kind: str, models: Sequence[str]) -> str:
    """Python that makes a Router of these models, in this order."""
    rows = ",\n".join(
        f'    {{"model_name": "chutes/{kind}", "litellm_params": '
        f'{{"model": {json.dumps(f"chutes/{model}")}, "order": {order}}}}}'
        for order, model in enumerate(models, 1)
    )
    asked, what = ("embedding", "texts") if kind == EMBEDDING else ("completion", "messages")
    return (
        f"from scillm import Router\n\nrouter = Router(model_list=[\n{rows},\n])\n"
        f'answer = router.{asked}("chutes/{kind}", {what})'
    )


def _distance(model: str, size: float) -> float:
    own = size_b(model)
    return float("inf") if own is None else abs(own - size)
