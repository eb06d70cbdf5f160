"""New programs for a search: made by a generator once, and from the record ever after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import asdict, field, frozen
from scillm.errors import UsageError
from scillm.runs.canonical import digest
from scillm.runs.record import OUTSIDE, RecordDiffersError

from scillm_codeworld.records import Variant

if TYPE_CHECKING:
    from scillm.records import Json, Trial
    from scillm.runs.record import Record

    from scillm_codeworld.engine.trying import Tried
    from scillm_codeworld.records import Item


@frozen(kw_only=True)
class Made:
    """What a generator gave for one trial: a program, or why there is none, and what it cost."""

    variant: Variant | None
    reason: str = ""
    cost: Mapping[str, float] = field(factory=dict)
    """`tokens`, `usd`."""
    detail: Json = None
    """What it was made from, plain JSON without credentials: prompts, answers, model, usage."""


Make: TypeAlias = "Callable[[Item, Trial, Mapping[str, Sequence[Tried]]], Awaitable[Made]]"
"""Makes a new program from what is known of the others: arm → its cases so far."""


async def made_for(
    make: Make | None,
    item: Item,
    trial: Trial,
    known: Mapping[str, Sequence[Tried]],
    *,
    record: Record,
    strategy: str,
) -> tuple[Made, str]:
    """The program for this trial, and the digest of what it was made from.

    Raises `UsageError` when nobody makes any.
    """
    key = f"{OUTSIDE}made/{item.id}/{trial.number}/{digest([trial.parent, trial.payload])}"
    kept = record.known(key)
    if kept is not None:
        return _recalled(kept, record), kept["detail"]
    if record.sealed:
        raise RecordDiffersError(
            f"The record has no program for trial {trial.number} of item {item.id!r}, and "
            "verifying asks no model."
        )
    if make is None:
        raise UsageError(
            f"The strategy {strategy!r} asks for a new program, but nothing here makes any. Give a "
            "generator, or choose a strategy over given programs."
        )
    found = await make(item, trial, known)
    detail = record.put(found.detail)
    row: dict[str, Json] = {"reason": found.reason, "cost": dict(found.cost), "variant": None}
    row["detail"] = detail
    if found.variant is not None:
        row["variant"] = {**asdict(found.variant), "code": record.put(found.variant.code)}
    record.keep(key, row)
    return found, detail


def _recalled(row: Mapping[str, Json], record: Record) -> Made:
    given = row["variant"]
    variant = None if given is None else Variant(**{**given, "code": record.get(given["code"])})
    return Made(variant=variant, reason=row["reason"], cost=row["cost"])
